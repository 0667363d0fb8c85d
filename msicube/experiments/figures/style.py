"""How figures look: a journal's two-column width, 8 point text, colours that the colour-blind can tell apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

#: Okabe and Ito, in the order in which classes and lines take them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8C8C8C"
#: Where a slide has no measured pixel.
NOT_ACQUIRED = "#D2D2D2"
#: Measured, but nothing was predicted.
NOT_PREDICTED = "#A6A6A6"
WIDTH = 7.0
#: Kind of a spectral axis to its label; an m/z has no unit.
AXIS_LABELS = {"mz": "$m/z$", "wavenumber": "wavenumber (cm$^{-1}$)"}

_RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "msicube",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw under the house style, and leave matplotlib's settings as they were."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context(_RC):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float, *, pictures: bool = False) -> Figure:
    """Return an empty figure of a size in inches that lays itself out; pictures have a fixed aspect."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed" if pictures else "constrained")


def save_figure(figure: Figure, folder: str | os.PathLike[str], name: str, *, dpi: int = 200) -> list[Path]:
    """Write a figure as ``<name>.png`` and ``<name>.svg``; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        Is drawn here.
    folder
        Is made where it is missing.
    name
        Without a suffix.
    dpi
        Of the PNG and of images inside the SVG.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    paths = []
    with rc_context(_RC):
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            path = target / f"{name}.{suffix}"
            partial = target / f".{name}.partial.{suffix}"
            figure.savefig(
                partial, format=suffix, dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.03
            )
            partial.replace(path)
            paths.append(path)
    return paths


def axis_limits(kind: str, axis: NDArray[np.float64]) -> tuple[float, float]:
    """Return where a spectral axis begins and ends on the page: wavenumbers fall from left to right."""
    low, high = float(axis.min()), float(axis.max())
    edge = 0.0 if kind == "wavenumber" else 0.01 * (high - low or 1.0)
    return (high, low) if kind == "wavenumber" else (low - edge, high + edge)


def panel_letter(axes: Axes, letter: str) -> None:
    """Write a bold letter at the upper left outside of a panel."""
    axes.set_title(letter, loc="left", fontweight="bold", fontsize=10)


def scale_bar(axes: Axes, n_pixels: int, pixel_size: float | None) -> None:
    """Draw a bar of a round length, about a third of an image, below its left corner.

    Parameters
    ----------
    axes
        Shows an image whose data units are pixels.
    n_pixels
        Width of the image.
    pixel_size
        In micrometres; None where it is not known, and the bar is then in pixels.
    """
    from matplotlib.transforms import ScaledTranslation

    length = nice_length(n_pixels * (pixel_size or 1.0) / 3)
    left = axes.get_xlim()[0]
    pixels = length / (pixel_size or 1.0)
    figure = axes.figure
    below = axes.get_xaxis_transform() + ScaledTranslation(0, -4 / 72, figure.dpi_scale_trans)
    axes.plot(
        [left, left + pixels],
        [0, 0],
        transform=below,
        color="black",
        lw=2,
        clip_on=False,
        solid_capstyle="butt",
    )
    text = _length_text(length) if pixel_size else f"{length:g} pixels"
    beside = below + ScaledTranslation(3 / 72, 0, figure.dpi_scale_trans)
    axes.text(left + pixels, 0, text, transform=beside, ha="left", va="center_baseline", fontsize=6.5)


def nice_length(at_most: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is at most the given length; 1 if that is less."""
    if at_most < 1:
        return 1.0
    power = 10.0 ** floor(log10(at_most))
    return max(step * power for step in (1, 2, 5) if step * power <= at_most)


def _length_text(micrometres: float) -> str:
    return f"{micrometres / 1000:g} mm" if micrometres >= 1000 else f"{micrometres:g} µm"
