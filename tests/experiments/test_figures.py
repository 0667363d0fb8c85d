from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from msicube.experiments.figures import (
    PatchRow,
    Picture,
    SlideRow,
    SpectrumPanel,
    colour_figure,
    confusion_figure,
    embedding_figure,
    ion_image_figure,
    patch_channel_figure,
    patch_figure,
    probability_figure,
    roc_figure,
    save_figure,
    slide_figure,
    spectrum_figure,
    training_figure,
)
from msicube.experiments.figures.style import nice_length

rng = np.random.default_rng(0)


def history(n: int) -> pd.DataFrame:
    columns = ["train_loss", "test_loss", "train_accuracy", "test_accuracy", "test_roc_auc"]
    return pd.DataFrame({"epoch": np.arange(1, n + 1), **{name: rng.random(n) for name in columns}})


def history_with_validation(n: int) -> pd.DataFrame:
    names = ("validation_loss", "validation_accuracy", "validation_roc_auc")
    best = {"best": np.arange(n) < n - 1}
    return history(n).assign(**best, **{name: rng.random(n) for name in names})


def picture(ny: int, nx: int, *channels: int, pixel_size: float | None = 50.0) -> Picture:
    values = rng.random((ny, nx, *channels))
    values[0, 0] = np.nan
    return Picture(f"{ny}x{nx}", values, pixel_size)


def scores(n: int) -> tuple[np.ndarray, np.ndarray]:
    inside = np.arange(n) % 2 == 0
    return inside, inside + rng.normal(size=n)


def patch_row(n: int, channels: int) -> PatchRow:
    return PatchRow("right", rng.random((n, channels, 8, 8)), ["slide"] * n, [50.0] * n)


def layout(n: int, patients: int) -> pd.DataFrame:
    """Held-out samples of two classes, every third told wrong."""
    number = np.arange(n)
    label = np.where(number % 2, "tumour", "normal")
    predicted = np.where(number % 3, label, np.where(number % 2, "normal", "tumour"))
    places = rng.random((n, 2))
    return pd.DataFrame(
        {
            "label": label,
            "predicted": predicted,
            "patient": [f"P{i % patients}" for i in number],
            "tsne_1": places[:, 0],
            "tsne_2": places[:, 1],
        }
    )


def slide_rows(n: int) -> list[SlideRow]:
    return [SlideRow(f"slide_{i}", i % 2, rng.random(9)) for i in range(n)]


FIGURES: dict[str, Callable[[], Figure]] = {
    "training": lambda: training_figure(history(3), chance=0.5),
    "training of one epoch": lambda: training_figure(history(1), chance=0.5),
    "training with validation": lambda: training_figure(history_with_validation(4), chance=0.5),
    "confusion": lambda: confusion_figure({"patches": np.array([[9, 1], [0, 0]])}, ("normal", "tumour")),
    "roc": lambda: roc_figure({"patches": scores(50), "slides": (np.ones(3, bool), np.ones(3))}),
    "ions": lambda: ion_image_figure([picture(20, 30, 2), picture(9, 5, 2)], ["m/z 1", "m/z 2"], unit="a.u."),
    "ion": lambda: ion_image_figure([picture(20, 30, 1, pixel_size=None)], ["m/z 1"], unit="a.u."),
    "colour": lambda: colour_figure([picture(20, 30, 3) for _ in range(5)], names=("PC1", "PC2", "PC3")),
    "probability": lambda: probability_figure([picture(20, 30)], positive="tumour"),
    "patches": lambda: patch_figure([patch_row(4, 3), patch_row(2, 3)], names=("PC1", "PC2", "PC3")),
    "grey patches": lambda: patch_figure([patch_row(1, 1)], names=("PC1",)),
    "patch channels": lambda: patch_channel_figure([patch_row(1, 3)] * 3, names=("PC1", "PC2", "PC3")),
    "embedding": lambda: embedding_figure([layout(30, 3), layout(60, 30)], ("normal", "tumour")),
    "slides": lambda: slide_figure(slide_rows(60), classes=("normal", "tumour"), of="tumour", threshold=0.5),
    "spectra": lambda: spectrum_figure(
        [SpectrumPanel("right", rng.random((4, 20)), list("abcd"), [0, 1, 0, 1])],
        kind="wavenumber",
        axis=np.linspace(900, 1800, 20),
        classes=("normal", "tumour"),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_written_twice_and_leaves_matplotlib_as_it_was(name: str, tmp_path: Path) -> None:
    before = mpl.rcParams.copy()
    had_pyplot = "matplotlib.pyplot" in sys.modules  # captum, in another test of this process, imports it
    for folder in ("one", "two"):
        state = rng.bit_generator.state
        paths = save_figure(FIGURES[name](), tmp_path / folder, "figure")
        rng.bit_generator.state = state
    assert [path.name for path in paths] == ["figure.png", "figure.svg"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), (
            "the same data, the same bytes"
        )
    assert all(mpl.rcParams._get(key) == value for key, value in dict.items(before))
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["figure.png", "figure.svg"]


def test_training_shows_the_validation_patients_and_the_epoch_that_was_kept() -> None:
    table = history_with_validation(4)
    loss = training_figure(table, chance=0.5).axes[0]
    drawn = {line.get_label(): line for line in loss.get_lines()}
    assert list(drawn) == ["training", "held out", "validation", "weights kept"]
    assert drawn["validation"].get_ydata().tolist() == table["validation_loss"].tolist()
    assert drawn["weights kept"].get_xdata() == [3, 3]


def test_a_confusion_matrix_shows_shares_and_counts() -> None:
    figure = confusion_figure({"patches": np.array([[900, 100], [300, 1200]])}, ("normal", "tumour"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["90.0 %\n900", "10.0 %\n100", "20.0 %\n300", "80.0 %\n1,200"]


def test_roc_curves_carry_their_area() -> None:
    inside = np.array([True, True, False, False])
    figure = roc_figure({"by patch": (inside, np.array([0.9, 0.3, 0.4, 0.1]))})
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["chance", "by patch: AUC 0.750"]


@pytest.mark.parametrize(("pixel_size", "text"), [(50.0, "1 mm"), (10.0, "200 µm"), (None, "20 pixels")])
def test_a_scale_bar_has_the_length_that_it_says(pixel_size: float | None, text: str) -> None:
    figure = probability_figure([picture(40, 75, pixel_size=pixel_size)], positive="tumour")
    axes = figure.axes[0]
    (bar,) = axes.lines
    start, stop = bar.get_xdata()
    assert axes.texts[0].get_text() == text
    assert (stop - start) * (pixel_size or 1) == pytest.approx(
        {"1 mm": 1000, "200 µm": 200, "20 pixels": 20}[text]
    )


def test_slides_of_other_pixel_sizes_are_drawn_at_one_scale() -> None:
    figure = probability_figure(
        [picture(20, 30, pixel_size=50.0), picture(20, 30, pixel_size=100.0)], positive="t"
    )
    widths = [np.ptp(axes.get_xlim()) * size for axes, size in zip(figure.axes, (50.0, 100.0), strict=False)]
    assert widths == [3000, 3000]


def test_what_was_measured_but_not_predicted_has_a_grey_of_its_own() -> None:
    one = picture(4, 4)
    measured = np.ones((4, 4), bool)
    measured[3, 3] = False
    one.values[3, 3] = np.nan  # beside [0, 0], which was measured
    figure = probability_figure([Picture("a", one.values, 50.0, measured)], positive="tumour")
    images = [child for child in figure.axes[0].get_children() if isinstance(child, AxesImage)]
    greys = np.asarray(images[0].get_array())
    assert not np.allclose(greys[0, 0], greys[3, 3])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["not measured", "measured, not predicted"]
    figure = probability_figure([picture(4, 4)], positive="tumour")
    assert not figure.legends


def test_the_layout_shows_classes_wrong_samples_and_patients() -> None:
    figure = embedding_figure([layout(30, 3)], ("normal", "tumour"))
    left, right = figure.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["normal", "tumour", "told wrong"]
    assert sum(len(points.get_offsets()) for points in left.collections) == 30
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["P0", "P1", "P2"]
    _, many = embedding_figure([layout(60, 30)], ("normal", "tumour")).axes
    assert many.get_legend() is None
    assert many.texts[0].get_text() == "30 patients; colours and shapes come again"


def test_slides_are_drawn_at_their_mean_in_the_order_of_their_class() -> None:
    rows = [
        SlideRow("a", 1, np.array([0.2, 0.4])),
        SlideRow("b", 0, np.array([0.9])),
        SlideRow("c", 1, np.zeros(3)),
    ]
    axes = slide_figure(rows, classes=("normal", "tumour"), of="tumour", threshold=0.5).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["b", "c", "a"]
    drawn = {x: y for line in axes.lines[1:] for x, y in zip(*line.get_data(), strict=True)}
    assert drawn == pytest.approx({0: 0.9, 1: 0.0, 2: 0.3})


def test_wavenumbers_fall_from_left_to_right_and_spectra_do_not_overlap() -> None:
    spectra = rng.normal(size=(3, 20))
    panel = SpectrumPanel("right", spectra, list("abc"), [0, 1, 0])
    figure = spectrum_figure(
        [panel], kind="wavenumber", axis=np.linspace(900, 1800, 20), classes=("normal", "tumour")
    )
    axes = figure.axes[0]
    assert axes.get_xlim() == (1800, 900)
    drawn = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 20]
    assert all(upper.min() > lower.max() for upper, lower in pairwise(drawn))
    shifts = [line - spectrum for line, spectrum in zip(drawn, spectra, strict=True)]
    assert all(np.allclose(shift, shift[0]) for shift in shifts)


@pytest.mark.parametrize(("values", "expected"), [((0.0, 1.0), (0.0, 1.0)), ((-4.0, 4.0), (-4.0, 4.0))])
def test_patches_are_stretched_only_where_they_are_not_scaled(values: Any, expected: Any) -> None:
    patches = np.linspace(*values, 192).reshape(1, 3, 8, 8)
    axes = patch_channel_figure([PatchRow("right", patches, ["a"], [None])], names=("PC1", "PC2", "PC3")).axes
    image = next(child for child in axes[1].get_children() if isinstance(child, AxesImage))
    assert image.get_clim() == pytest.approx(expected, abs=0.1)


def test_unmeasured_pixels_stay_empty() -> None:
    figure = ion_image_figure([picture(4, 4, 1)], ["m/z 1"], unit="a.u.")
    image = next(child for child in figure.axes[0].get_children() if isinstance(child, AxesImage))
    mask = np.ma.getmaskarray(image.get_array())
    assert mask[0, 0]
    assert mask.sum() == 1


@pytest.mark.parametrize(
    ("at_most", "length"), [(0.3, 1), (1, 1), (1.9, 1), (2, 2), (7, 5), (10, 10), (499, 200), (5001, 5000)]
)
def test_lengths_are_round(at_most: float, length: float) -> None:
    assert nice_length(at_most) == length
