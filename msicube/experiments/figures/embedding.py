"""The figure of t-SNE: held-out samples by class and by patient."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from msicube.experiments.figures.style import COLOURS, GREY, WIDTH, new_figure, panel_letter, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Patients have a colour and a shape; of more patients than a legend can hold, none is named.
SHAPES, MOST_NAMED = "os^Dv", 20


@styled
def embedding_figure(tables: Sequence[pd.DataFrame], classes: Sequence[str]) -> Figure:
    """Draw where t-SNE puts samples: coloured by class on the left, by patient on the right.

    Parameters
    ----------
    tables
        One for each network, a row of panels each: ``label``, ``predicted``, ``patient``, ``tsne_1``, ``tsne_2``.
    classes
        In the order of their colours.
    """
    figure = new_figure(WIDTH, 0.35 + 2.75 * len(tables))
    grid = figure.subplots(len(tables), 2, squeeze=False)
    for number, (table, (left, right)) in enumerate(zip(tables, grid, strict=True)):
        _by_class(left, table, classes)
        _by_patient(right, table)
        for axes, letter in zip((left, right), "abcdefghijklmnopqrstuvwxyz"[2 * number :], strict=False):
            axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[], box_aspect=1)
            axes.margins(0.04)
            panel_letter(axes, letter)
            if len(tables) > 1:
                axes.set_title(f"fold {number + 1}")
    return figure


def _by_class(axes: Axes, table: pd.DataFrame, classes: Sequence[str]) -> None:
    wrong = (table["label"] != table["predicted"]).to_numpy()
    for code, name in enumerate(classes):
        colour = COLOURS[code % len(COLOURS)]
        of_class = (table["label"] == name).to_numpy()
        right, crossed = table[of_class & ~wrong], table[of_class & wrong]
        axes.scatter(right["tsne_1"], right["tsne_2"], s=9, color=colour, lw=0, alpha=0.75, label=name)
        axes.scatter(crossed["tsne_1"], crossed["tsne_2"], s=13, color=colour, marker="x", lw=0.9)
    if wrong.any():
        axes.scatter([], [], s=13, color=GREY, marker="x", lw=0.9, label="told wrong")
    _legend(axes, len(classes) + 1)


def _by_patient(axes: Axes, table: pd.DataFrame) -> None:
    patients = sorted(set(table["patient"]))
    for number, name in enumerate(patients):
        rows = table[table["patient"] == name]
        # Not from the first colours on, which are those of the classes beside it.
        colour = COLOURS[(number + 2) % len(COLOURS)]
        shape = SHAPES[number // len(COLOURS) % len(SHAPES)]
        axes.scatter(
            rows["tsne_1"], rows["tsne_2"], s=9, lw=0, alpha=0.75, label=name, color=colour, marker=shape
        )
    if len(patients) <= MOST_NAMED:
        _legend(axes, len(patients))
    else:
        axes.annotate(
            f"{len(patients)} patients; colours and shapes come again",
            (0, -0.09),
            xycoords="axes fraction",
            fontsize=6,
        )


def _legend(axes: Axes, n: int) -> None:
    """Put a legend beside a panel, in columns of ten."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1, 1),
        ncols=ceil(n / 10),
        fontsize=6,
        handletextpad=0.2,
        borderaxespad=0.2,
        columnspacing=0.8,
        markerscale=1.3,
    )
