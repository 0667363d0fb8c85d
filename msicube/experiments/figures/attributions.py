"""The figure of attributions: a mean spectrum, and what of it a network looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.style import (
    AXIS_LABELS,
    COLOURS,
    GREY,
    WIDTH,
    axis_limits,
    new_figure,
    panel_letter,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msicube.experiments.bands import Band
    from msicube.experiments.explaining import Explanation

NAMES = {"gradcam": "Grad-CAM", "integrated_gradients": "integrated gradients", "occlusion": "occlusion"}
COLOUR_OF = {"gradcam": COLOURS[5], "integrated_gradients": COLOURS[1], "occlusion": COLOURS[0]}
#: Channels that a panel of bars has.
N_BARS = 15
#: m/z that are named in a panel.
N_NAMED = 6
#: Share of the axis between any two of them.
APART = 0.03


@styled
def attribution_figure(found: Explanation, bands: Sequence[Band]) -> Figure:
    """Draw for each class its mean spectrum and, below it, the attributions, each scaled to its largest value.

    Parameters
    ----------
    found
        Attributions.
    bands
        To be named, of wavenumbers; of m/z the strongest channels are named instead.
    """
    n = len(found.classes)
    figure = new_figure(WIDTH, 0.3 + 2.3 * n)
    grid = figure.subplots(2 * n, 1, sharex=True, height_ratios=[1, 1] * n)
    limits = (found.axis.min(), found.axis.max())
    for index, name in enumerate(found.classes):
        upper, lower = grid[2 * index], grid[2 * index + 1]
        _spectrum(upper, found, index, headroom=0.6 if bands and not index else 0.05)
        upper.set_title(
            f"{name}: mean of {found.n_samples[index]:,} held-out {found.samples} that were told right"
        )
        panel_letter(upper, "abcdefgh"[index])
        _maps(lower, found, index)
        for axes in (upper, lower):
            for band in bands:
                axes.axvspan(band.low, band.high, color=GREY, alpha=0.13, lw=0, zorder=0)
        if not bands:
            _name_strongest(lower, found, index)
    _name_bands(grid[0], bands, limits)
    grid[-1].set_xlabel(AXIS_LABELS[found.kind])
    grid[-1].set_xlim(*axis_limits(found.kind, found.axis))
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(found.maps))
    return figure


@styled
def strongest_figure(found: Explanation) -> Figure:
    """Draw the channels of the largest attributions as bars, a panel for each class.

    Parameters
    ----------
    found
        Attributions; channels are ranked by the mean size over the methods, each scaled to its largest value.
    """
    figure = new_figure(WIDTH, 0.9 + 0.17 * min(N_BARS, len(found.axis)))
    grid = figure.subplots(1, len(found.classes), squeeze=False)[0]
    methods = [method for method in found.maps if method != "gradcam"] or list(found.maps)
    height = 0.8 / len(methods)
    for index, (axes, name) in enumerate(zip(grid, found.classes, strict=True)):
        scaled = {method: _scaled(found.maps[method][index]) for method in methods}
        best = np.argsort(-np.mean([np.abs(values) for values in scaled.values()], axis=0), kind="stable")[
            :N_BARS
        ]
        for number, method in enumerate(methods):
            places = np.arange(len(best)) + (number - (len(methods) - 1) / 2) * height
            colour = COLOUR_OF[method]
            axes.barh(places, scaled[method][best], height, color=colour, label=NAMES[method])
        axes.axvline(0, color="black", lw=0.7)
        axes.set_yticks(range(len(best)), [f"{found.axis[channel]:.3f}" for channel in best], fontsize=6)
        axes.invert_yaxis()
        axes.set(
            title=name, xlabel="attribution (largest: 1)", xlim=(-1.05, 1.05), xticks=[-1, -0.5, 0, 0.5, 1]
        )
        panel_letter(axes, "abcdefgh"[index])
    grid[0].set_ylabel(AXIS_LABELS[found.kind])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(methods))
    return figure


def _spectrum(axes: Axes, found: Explanation, index: int, *, headroom: float) -> None:
    """Draw a mean spectrum and what it has more than others; the names of the bands need room above it."""
    others = [i for i in range(len(found.classes)) if i != index]
    rest = found.mean[others].mean(axis=0)
    if found.kind == "mz":
        axes.axhline(0, color=GREY, lw=0.6)
        axes.vlines(found.axis, 0, found.mean[index], color="black", lw=0.8)
    else:
        axes.plot(found.axis, found.mean[index], color="black", lw=1)
    axes.set_ylabel("mean")
    # What tells the classes apart is far smaller than the spectrum, so it has a scale of its own.
    twin = axes.twinx()
    twin.plot(found.axis, found.mean[index] - rest, color=COLOURS[4], **_marks(found, lw=0.9))
    twin.axhline(0, color=COLOURS[4], lw=0.5, ls=":")
    twin.set_ylabel("less the mean of\nthe other classes", color=COLOURS[4])
    twin.tick_params(axis="y", colors=COLOURS[4])
    twin.spines["right"].set(visible=True, color=COLOURS[4])
    for one in (axes, twin):
        low, high = one.get_ylim()
        if found.kind == "mz":  # both scales have their 0 at one height
            high = max(-low, high)
            low = -high
        one.set_ylim(low, high + headroom * (high - low))


def _maps(axes: Axes, found: Explanation, index: int) -> None:
    for method, values in found.maps.items():
        scaled, colour = _scaled(values[index]), COLOUR_OF[method]
        if method == "gradcam":
            axes.fill_between(found.axis, 0, scaled, color=colour, alpha=0.55, lw=0, label=NAMES[method])
        else:
            axes.plot(found.axis, scaled, color=colour, label=NAMES[method], **_marks(found, lw=1))
    axes.axhline(0, color=GREY, lw=0.6)
    axes.set_ylabel("attribution\n(largest: 1)")
    axes.set_ylim(-1.05, 1.05)


def _marks(found: Explanation, *, lw: float) -> dict[str, Any]:
    """Return a line for a spectrum, and points for single m/z, between which there is nothing."""
    return {"ls": "", "marker": "o", "ms": 2} if found.kind == "mz" else {"lw": lw}


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.abs(values).max()
    return values / largest if largest else values


def _name_bands(axes: Axes, bands: Sequence[Band], limits: tuple[float, float]) -> None:
    for band in bands:
        centre = (band.low + band.high) / 2
        if limits[0] <= centre <= limits[1]:
            axes.annotate(
                band.name,
                (centre, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, -2),
                textcoords="offset points",
                rotation=90,
                ha="center",
                va="top",
                fontsize=5.5,
            )


def _name_strongest(axes: Axes, found: Explanation, index: int) -> None:
    sizes: Any = sum(np.abs(_scaled(values[index])) for values in found.maps.values())
    axes.set_ylim(-1.05, 1.85)  # the names stand above the points
    axes.set_yticks([-1, 0, 1])
    named: list[int] = []
    for channel in np.argsort(-sizes).tolist():
        if all(abs(found.axis[channel] - found.axis[other]) > APART * np.ptp(found.axis) for other in named):
            named.append(channel)
        if len(named) == N_NAMED:
            break
    for channel in named:
        axes.annotate(
            f"{found.axis[channel]:.1f}",
            (found.axis[channel], 1.12),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=5.5,
        )
