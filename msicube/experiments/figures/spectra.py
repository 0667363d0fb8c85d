"""The figure of example spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SpectrumPanel:
    """Example spectra of one kind.

    Attributes
    ----------
    name
        Of the panel.
    spectra
        ``(n, channel)`` as the network sees them.
    captions
        What stands above each.
    classes
        ``(n,)`` true class of each, as an index.
    """

    name: str
    spectra: NDArray[np.floating[Any]]
    captions: Sequence[str]
    classes: Sequence[int]


@styled
def spectrum_figure(
    panels: Sequence[SpectrumPanel], *, kind: str, axis: NDArray[np.float64], classes: Sequence[str]
) -> Figure:
    """Draw example spectra one above the other, a panel for each kind.

    Parameters
    ----------
    panels
        What to draw; all panels have one scale.
    kind
        ``"mz"``, ``"wavenumber"``, or the name of a feature such as ``"PC"``.
    axis
        ``(channel,)``.
    classes
        In the order of their colours.
    """
    n = max(len(panel.spectra) for panel in panels)
    figure = new_figure(WIDTH, 0.75 + 0.62 * n)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    everything = np.concatenate([panel.spectra for panel in panels])
    low, high = float(np.nanmin(everything)), float(np.nanmax(everything))
    step = 1.45 * (high - low if high > low else 1.0)
    for axes, panel, letter in zip(grid, panels, "abcdefgh", strict=False):
        for place, (spectrum, caption, code) in enumerate(
            zip(panel.spectra, panel.captions, panel.classes, strict=True)
        ):
            level = -place * step
            _draw(axes, kind, axis, spectrum, level, COLOURS[code % len(COLOURS)])
            axes.annotate(
                caption, (0, level + high), xycoords=("axes fraction", "data"), fontsize=5.5, va="bottom"
            )
        axes.set(title=panel.name, xlabel=AXIS_LABELS.get(kind, f"{kind}"), yticks=[])
        axes.set_xlim(*axis_limits(kind, axis))
        panel_letter(axes, letter)
    grid[0].set_ylim(low - step * (n - 1) - 0.05 * step, high + 0.35 * step)
    grid[0].set_ylabel("as the network sees it, one above the other")
    handles = [figure.axes[0].plot([], [], color=COLOURS[i % len(COLOURS)])[0] for i in range(len(classes))]
    figure.legend(
        handles, [f"true class: {name}" for name in classes], loc="outside lower center", ncols=len(classes)
    )
    return figure


def _draw(
    axes: Axes,
    kind: str,
    axis: NDArray[np.float64],
    values: NDArray[np.floating[Any]],
    level: float,
    colour: str,
) -> None:
    """Draw a spectrum on its level: a line, or of single m/z, between which there is nothing, a line for each."""
    axes.axhline(level, color=GREY, lw=0.4, zorder=0)
    if kind == "wavenumber":
        axes.plot(axis, values + level, color=colour, lw=0.8)
    else:
        axes.vlines(axis, level, values + level, color=colour, lw=0.7)
