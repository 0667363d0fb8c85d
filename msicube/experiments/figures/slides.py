"""The figure of slides: from the probabilities of samples to that of the slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.style import COLOURS, GREY, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Slides whose names still can be read.
MOST_NAMED = 50
#: Fewer slides than this do not spread over the whole width.
LEAST_WIDTH = 12


@dataclass(frozen=True)
class SlideRow:
    """A slide's samples.

    Attributes
    ----------
    name
        Of the slide.
    label
        Index of its true class.
    probability
        ``(n,)`` of its samples.
    """

    name: str
    label: int
    probability: NDArray[np.floating[Any]]


@styled
def slide_figure(
    rows: Sequence[SlideRow], *, classes: Sequence[str], of: str, threshold: float | None
) -> Figure:
    """Draw the probabilities of each slide's samples: their mean, their middle half and nine tenths.

    Parameters
    ----------
    rows
        Are sorted by class, and within it by their mean.
    classes
        In the order of their colours.
    of
        What the probability is of.
    threshold
        Where a slide's class changes; None where there is no such place.
    """
    rows = sorted(rows, key=lambda row: (row.label, float(row.probability.mean())))
    figure = new_figure(WIDTH, 2.7)
    axes = figure.subplots()
    if threshold is not None:
        axes.axhline(threshold, color=GREY, lw=1, ls="--", zorder=0)
    for code, name in enumerate(classes):
        places = [i for i, row in enumerate(rows) if row.label == code]
        if not places:
            continue
        colour = COLOURS[code % len(COLOURS)]
        found = np.array([np.percentile(rows[i].probability, (5, 25, 75, 95)) for i in places])
        axes.vlines(places, found[:, 0], found[:, 3], color=colour, lw=0.8)
        axes.vlines(places, found[:, 1], found[:, 2], color=colour, lw=3, alpha=0.55)
        mean = [rows[i].probability.mean() for i in places]
        axes.plot(places, mean, ls="", marker="o", ms=4, color=colour, mec="white", mew=0.5, label=name)
    edge = 0.7 + max(0, LEAST_WIDTH - len(rows)) / 2
    axes.set(ylabel=f"probability of {of}", ylim=(-0.02, 1.02), xlim=(-edge, len(rows) - 1 + edge))
    if len(rows) <= MOST_NAMED:
        axes.set_xticks(range(len(rows)), [row.name for row in rows], rotation=90, fontsize=6)
    else:
        axes.set(xlabel=f"{len(rows)} slides, by their mean", xticks=[])
    figure.legend(loc="outside upper center", ncols=len(classes), title="true class", title_fontsize=7)
    return figure
