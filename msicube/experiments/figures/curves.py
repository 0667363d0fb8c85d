"""Figures of numbers: training curves, confusion matrices, ROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.style import COLOURS, GREY, WIDTH, new_figure, panel_letter, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Metrics that are drawn by epoch, and what their axes are called.
_BY_EPOCH = {"loss": "cross-entropy loss", "accuracy": "accuracy", "roc_auc": "ROC AUC"}
#: Parts of the patients: name, colour and marker.
_PARTS = {
    "train": ("training", COLOURS[0], "o"),
    "test": ("held out", COLOURS[1], "s"),
    "validation": ("validation", COLOURS[2], "^"),
}


@styled
def training_figure(history: pd.DataFrame, *, chance: float) -> Figure:
    """Draw loss, accuracy and ROC AUC by epoch.

    Parameters
    ----------
    history
        Columns ``epoch``, ``train_loss``, ``test_loss``, ``train_accuracy``, ``test_accuracy``, ``test_roc_auc``; with
        validation patients also ``validation_loss`` and so on, and ``best``, which epochs were the best so far.
    chance
        Accuracy of guessing the held-out samples' most frequent class.
    """
    figure = new_figure(WIDTH, 2.4)
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, _BY_EPOCH, strict=True):
        _lines(axes, history, name)
        axes.set_ylabel(_BY_EPOCH[name])
    left, middle, right = panels
    left.set_ylim(bottom=0)
    _reference(middle, chance, "most frequent class")
    _reference(right, 0.5, "chance")
    for axes in (middle, right):
        axes.set_ylim(0, 1.02)
    if "best" in history and (best := history["best"].eq(True)).any():
        for axes in panels:
            axes.axvline(
                history["epoch"][best].iloc[-1], color=GREY, lw=1, ls=":", label="weights kept", zorder=0
            )
        left.legend()
    for axes, letter in zip(panels, "abc", strict=True):
        panel_letter(axes, letter)
    return figure


@styled
def confusion_figure(tables: Mapping[str, NDArray[np.integer[Any]]], classes: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side: share of each true class, with the counts.

    Parameters
    ----------
    tables
        Title to a matrix ``(true class, predicted class)`` of counts.
    classes
        Names of rows and columns.
    """
    figure = new_figure(0.4 + 3.1 * len(tables), 2.9)
    all_axes = figure.subplots(1, len(tables), squeeze=False)[0]
    image = None
    for axes, (title, counts) in zip(all_axes, tables.items(), strict=True):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.55 else "black"
            text = f"{100 * share:.1f} %\n{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
        axes.set(title=title, xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    if image is not None:
        bar = figure.colorbar(image, ax=all_axes, label="share of the true class", shrink=0.8)
        bar.outline.set_visible(False)
    return figure


@styled
def roc_figure(scores: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]]) -> Figure:
    """Draw receiver operating characteristics, each with its area.

    Parameters
    ----------
    scores
        Name of a curve to whether each sample is of its class, and the sample's score. A curve whose samples are all of
        one kind has no meaning and is left out.
    """
    from sklearn.metrics import auc, roc_curve

    figure = new_figure(3.4, 3.3)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="chance")
    for (name, (inside, score)), colour in zip(scores.items(), COLOURS, strict=False):
        if inside.all() or not inside.any():
            continue
        false, true, _ = roc_curve(inside, score)
        axes.plot(false, true, color=colour, label=f"{name}: AUC {auc(false, true):.3f}")
    axes.set(
        xlabel="false-positive rate (1 - specificity)",
        ylabel="true-positive rate (recall)",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.legend(loc="lower right")
    return figure


@styled
def reliability_figure(bins: Sequence[Mapping[str, float]], *, of: str, ece: float, brier: float) -> Figure:
    """Draw how often what was predicted was so, and below it how many samples have which probability.

    Parameters
    ----------
    bins
        As :func:`~msicube.experiments.calibration.calibration` returns them.
    of
        What the probability is of.
    ece, brier
        Expected calibration error and Brier score, for the legend.
    """
    figure = new_figure(3.4, 4.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    predicted, observed, n = (np.array([row[key] for row in bins]) for key in ("predicted", "observed", "n"))
    upper.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="as predicted")
    text = f"observed (ECE {ece:.3f}, Brier {brier:.3f})"
    upper.plot(predicted, observed, color=COLOURS[0], marker="o", ms=3.5, label=text, clip_on=False)
    upper.set(ylabel="observed share", ylim=(-0.01, 1.01))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    left = np.array([row["low"] for row in bins])
    lower.bar(
        left, n, width=[row["high"] - row["low"] for row in bins], align="edge", color=COLOURS[0], ec="white"
    )
    lower.set(xlabel=f"predicted probability of {of}", ylabel="number", xlim=(-0.01, 1.01))
    return figure


def _lines(axes: Axes, history: pd.DataFrame, name: str) -> None:
    """Draw a metric by epoch, of each part of the patients that it is known of."""
    from matplotlib.ticker import MaxNLocator

    epochs = history["epoch"].to_numpy()
    for part, (label, colour, marker) in _PARTS.items():
        if (column := f"{part}_{name}") in history:
            values = history[column].to_numpy(dtype=float)
            axes.plot(epochs, values, color=colour, marker=marker, ms=3.5, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _reference(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=GREY, lw=1, ls="--", label=label, zorder=0)
    axes.legend()
