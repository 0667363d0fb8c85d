"""Figures of a pretraining: its loss, and masked samples with what was made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.style import COLOURS, GREY, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure


@styled
def masked_loss_figure(history: pd.DataFrame, *, part: str) -> Figure:
    """Draw the error of masked values by epoch, beside what needs no network.

    Parameters
    ----------
    history
        Columns ``epoch``, ``train_loss``, ``test_loss``, ``test_mean`` and ``test_interpolation``.
    part
        What ``test_`` is of.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(3.4, 2.6)
    axes = figure.subplots()
    epochs = history["epoch"].to_numpy()
    names = {"train_loss": "training, running mean", "test_loss": part}
    for (column, label), colour, marker in zip(names.items(), COLOURS, "os", strict=False):
        axes.plot(epochs, history[column].to_numpy(float), color=colour, marker=marker, ms=3.5, label=label)
    for column, label, style in (
        ("test_mean", "channel mean", "--"),
        ("test_interpolation", "interpolated", ":"),
    ):
        axes.axhline(float(history[column].iloc[-1]), color=GREY, lw=1, ls=style, label=label, zorder=0)
    axes.set(xlabel="epoch", ylabel="error of masked values\n(share of the channel's variance)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


@styled
def masked_spectra_figure(
    examples: Mapping[str, NDArray[Any]], axis: NDArray[np.floating[Any]], *, label: str
) -> Figure:
    """Draw masked spectra: the truth, what the network made of the masked spans, and straight lines across them.

    Parameters
    ----------
    examples
        ``truth``, ``masked``, ``reconstructed`` and ``interpolated``, ``(n, n_channels)``; ``slide``, ``y``, ``x``.
    axis
        ``(n_channels,)``: the position of each channel.
    label
        Of the axis.
    """
    n = len(examples["truth"])
    figure = new_figure(WIDTH, 0.5 + 1.2 * n)
    grid: Any = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    edges = _edges(axis)
    for i, axes in enumerate(grid):
        hidden = examples["masked"][i]
        for start, stop in _runs(hidden):
            axes.axvspan(edges[start], edges[stop], color="0.92", lw=0)
        axes.plot(axis, examples["truth"][i], color="black", lw=0.9, label="measured")
        for name, colour, style, text in (
            ("interpolated", COLOURS[1], ":", "interpolated"),
            ("reconstructed", COLOURS[0], "-", "reconstructed"),
        ):
            values = np.where(hidden, examples[name][i], np.nan)
            axes.plot(axis, values, color=colour, ls=style, lw=1.2, marker=".", ms=2.5, label=text)
        axes.set_title(_title(examples, i), fontsize=7, loc="left")
    grid[0].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    grid[-1].set_xlabel(label)
    if axis[0] < axis[-1] and label.startswith("wavenumber"):
        grid[-1].invert_xaxis()
    figure.supylabel("feature (as the network sees it); masked spans are grey", fontsize=8)
    return figure


def _title(examples: Mapping[str, NDArray[Any]], i: int) -> str:
    return f"{examples['slide'][i]}, y = {examples['y'][i]}, x = {examples['x'][i]}"


def _edges(axis: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the ``(n_channels + 1,)`` borders half-way between channels."""
    middle = (axis[1:] + axis[:-1]) / 2
    return np.concatenate([[2 * axis[0] - middle[0]], middle, [2 * axis[-1] - middle[-1]]])


def _runs(hidden: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and behind-the-last channel of each run of masked ones."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in steps.reshape(-1, 2)]
