"""Draw the figure of the simulated FTIR study: ``python docs/figures/ftir.py [work folder]``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from agilent_format import agilentMosaic
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msicube.experiments.figures.style import (
    COLOURS,
    GREY,
    NOT_ACQUIRED,
    WIDTH,
    panel_letter,
    scale_bar,
    styled,
)
from msicube.simulate import SimulationReport, ftir_masks, simulate_ftir

Floats = NDArray[np.float64]

#: Of the study whose class means are drawn: 25 patients of each subtype, two cores each (1.5 GB on the disk).
SLIDES, SHAPE = 200, (64, 64)
NAMED = {
    "amide I": "amide I",
    "amide II": "amide II",
    "ester C=O": "C=O",
    "CH3 bending": "CH$_3$",
    "COO-": "COO$^-$",
    "collagen 1338": "collagen",
    "collagen 1282": "collagen",
    "PO2- asymmetric": "PO$_2^-$",
    "collagen 1204": "collagen",
    "ester C-O": "C–O",
    "PO2- symmetric": "PO$_2^-$",
    "glycogen C-O 1028": "glycogen",
    "phosphodiester": "C–O–P",
}


def corrected(spectra: NDArray[np.float32], truth: dict[str, Any]) -> Floats:
    """Take scatter, paraffin and vapour out by least squares, and divide by thickness."""
    pure = {name: np.array(spectrum) for name, spectrum in truth["pure_spectra"].items()}
    reference = np.sum(
        [pure[name] * truth["amounts"][name]["epithelium"] for name in truth["amounts"]], axis=0
    )
    powers = np.linspace(-1, 1, len(reference)) ** np.arange(5)[:, None]
    model = np.stack([reference, *powers, pure["paraffin"], pure["water vapour"]], axis=1)
    fit = spectra @ np.linalg.pinv(model).T
    return np.asarray((spectra - fit[:, 1:] @ model[:, 1:].T) / fit[:, :1])


def core_means(report: SimulationReport, truth: dict[str, Any]) -> Floats:
    """Return ``(slide, channel)`` mean corrected spectra of tissue."""
    means = []
    for slide in report.slides:
        masks = ftir_masks(report.truth, slide.name)
        spectra = agilentMosaic(str(slide.path), MAT=True).data[masks["tissue"] & ~masks["dead"]]
        means.append(corrected(spectra, truth).mean(axis=0))
    return np.array(means)


def band_image(cube: NDArray[np.float32], wavenumber: Floats, centre: float, half_width: float) -> Floats:
    """Return the height of a band above a line through its feet."""
    at = [int(np.abs(wavenumber - p).argmin()) for p in (centre - half_width, centre, centre + half_width)]
    low, middle, high = (cube[..., max(i - 1, 0) : i + 2].mean(axis=-1) for i in at)
    return np.asarray(middle - (low + high) / 2, dtype=np.float64)


def draw_images(axes: list[Axes], report: SimulationReport, wavenumber: Floats, figure: Figure) -> None:
    slide = report.slides[0]
    cube, masks = agilentMosaic(str(slide.path), MAT=True).data, ftir_masks(report.truth, slide.name)
    regions = np.where(masks["tissue"], 2, np.where(masks["paraffin"], 1, 0))
    axes[0].imshow(regions, cmap=ListedColormap(["white", NOT_ACQUIRED, COLOURS[3]]), interpolation="nearest")
    y, x = np.nonzero(masks["dead"])
    axes[0].plot(x, y, ",", color="black")
    axes[0].set_title("tissue, paraffin, empty;\ndead pixels black")
    pictures = (
        ("amide I, 1655 cm$^{-1}$", 1655, 75),
        ("paraffin, 1462 cm$^{-1}$", 1462, 22),
        ("PO$_2^-$, 1080 cm$^{-1}$", 1080, 95),
    )
    for panel, (title, centre, half_width) in zip(axes[1:], pictures, strict=True):
        image = band_image(cube, wavenumber, centre, half_width)
        top = np.percentile(image[~masks["dead"]], 99.5)
        shown = panel.imshow(image, cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
        panel.set_title(f"{title}\n(absorbance)")
        figure.colorbar(shown, ax=panel, shrink=0.75, pad=0.03)
    for letter, panel in zip("abcd", axes, strict=True):
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
        panel.text(-0.02, 1.06, letter, transform=panel.transAxes, fontweight="bold", fontsize=10, ha="right")
    scale_bar(axes[0], cube.shape[1], 5.5)


def draw_raw(panel: Axes, report: SimulationReport, wavenumber: Floats) -> None:
    slide = report.slides[0]
    cube, masks = agilentMosaic(str(slide.path), MAT=True).data, ftir_masks(report.truth, slide.name)
    rng = np.random.default_rng(3)
    alive = ~masks["dead"]
    kinds = {
        "tissue": (masks["tissue"] & alive, COLOURS[3], 6),
        "paraffin": (masks["paraffin"] & alive, "0.55", 3),
        "empty": (~masks["tissue"] & ~masks["paraffin"] & alive, COLOURS[5], 2),
    }
    for name, (where, colour, n) in kinds.items():
        chosen = rng.permutation(np.argwhere(where))[:n]
        for number, (y, x) in enumerate(chosen):
            panel.plot(wavenumber, cube[y, x], color=colour, lw=0.7, label=name if number == 0 else None)
    panel.set(xlim=(1800, 900), xlabel="wavenumber (cm$^{-1}$)", ylabel="absorbance")
    panel.legend(loc="upper right", title="single pixels", title_fontsize=7, handlelength=1.2)
    panel_letter(panel, "e")


def draw_means(
    panel: Axes, means: Floats, labels: NDArray[np.str_], truth: dict[str, Any], axis: Floats
) -> None:
    for label, colour in zip(truth["classes"], (GREY, *COLOURS), strict=False):
        panel.plot(axis, means[labels == label].mean(axis=0), color=colour, lw=1.0, label=label)
    table = {band["name"]: band for band in truth["bands"]}
    mean = means.mean(axis=0)
    for name, text in NAMED.items():
        position = table[name]["wavenumber"]
        height = mean[np.abs(axis - position) < 6].max() + 0.03
        panel.text(position, height, text, rotation=90, ha="center", va="bottom", fontsize=6.5)
    panel.set(xlim=(1800, 900), ylim=(-0.03, 0.88), xlabel="wavenumber (cm$^{-1}$)")
    panel.set_ylabel("corrected absorbance")
    panel.legend(loc="upper right", handlelength=1.2)
    panel_letter(panel, "f")


def draw_differences(
    panel: Axes, means: Floats, labels: NDArray[np.str_], truth: dict[str, Any], axis: Floats
) -> None:
    """Draw cancer less the adjacent core of the same patient, mean and standard error over patients."""
    intervals = [band["interval"] for band in truth["bands"] if band["discriminates"]]
    inside = np.any([(axis > low) & (axis < high) for low, high in intervals], axis=0)
    across = panel.get_xaxis_transform()
    panel.fill_between(axis, 0, 1, where=inside, transform=across, color="#F0E442", alpha=0.35, lw=0)
    panel.axhline(0, color="black", lw=0.6)
    change = means[0::2] - means[1::2]
    for label, colour in zip(truth["classes"][1:], COLOURS, strict=False):
        own = change[labels[0::2] == label]
        centre, error = own.mean(axis=0), own.std(axis=0, ddof=1) / np.sqrt(len(own))
        panel.fill_between(axis, centre - error, centre + error, color=colour, alpha=0.25, lw=0)
        panel.plot(axis, centre, color=colour, lw=1.0, label=label)
    panel.set(xlim=(1800, 900), xlabel="wavenumber (cm$^{-1}$)", ylabel="cancer less adjacent")
    panel.legend(loc="lower left", bbox_to_anchor=(0.17, 0.0), ncols=2, handlelength=1.2)
    panel_letter(panel, "g")


@styled
def draw(one: SimulationReport, many: SimulationReport) -> Figure:
    truth = json.loads(many.truth.read_text())
    wavenumber = np.array(agilentMosaic(str(one.slides[0].path)).wavenumbers)
    labels = np.array([slide.label for slide in many.slides])
    means = core_means(many, truth)
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    upper, middle, lower = figure.subfigures(3, 1, height_ratios=(1.0, 1.25, 1.1))
    draw_images(list(upper.subplots(1, 4)), one, wavenumber, upper)
    raw, mean = middle.subplots(1, 2, width_ratios=(1, 2))
    draw_raw(raw, one, wavenumber)
    draw_means(mean, means, labels, truth, wavenumber)
    draw_differences(lower.subplots(), means, labels, truth, wavenumber)
    return figure


def main(work: Path) -> None:
    one = simulate_ftir(work / "one", slides=1, overwrite=True)
    many = simulate_ftir(work / "many", slides=SLIDES, shape=SHAPE, overwrite=True)
    draw(one, many).savefig(Path(__file__).with_name("ftir.png"), dpi=200)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
