"""Figures of slides: ion images, PCA as colour, probability maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.style import (
    GREY,
    NOT_ACQUIRED,
    NOT_PREDICTED,
    WIDTH,
    new_figure,
    scale_bar,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of one slide.

    Attributes
    ----------
    title
        What stands above it.
    values
        ``(y, x)`` or ``(y, x, channel)``; NaN where nothing was measured.
    pixel_size
        Of one picture element, in micrometres; None where it is not known.
    measured
        ``(y, x)``: where there is a spectrum, though there may be no value; None where that is all one.
    """

    title: str
    values: NDArray[np.floating[Any]]
    pixel_size: float | None
    measured: NDArray[np.bool_] | None = None


@styled
def ion_image_figure(pictures: Sequence[Picture], columns: Sequence[str], *, unit: str) -> Figure:
    """Draw ion images: a row per slide, a column per m/z, one colour scale per column.

    Parameters
    ----------
    pictures
        Of ``(y, x, len(columns))`` intensities.
    columns
        Titles, such as ``m/z 760.585``.
    unit
        Of the intensities, for the colour bars.

    Notes
    -----
    A scale ends at the 99th percentile of its column over all slides, so that single hot pixels do not darken the rest.
    """
    frame = _Frame.of(pictures)
    edge = (WIDTH - 0.4) / len(columns)
    figure = new_figure(WIDTH, 0.85 + len(pictures) * (edge * frame.aspect + 0.2), pictures=True)
    grid = figure.subplots(len(pictures), len(columns), squeeze=False)
    for column, title in enumerate(columns):
        top = _percentile([picture.values[..., column] for picture in pictures], 99)
        image: Any = None
        for axes, picture in zip(grid[:, column], pictures, strict=True):
            image = frame.show(axes, picture, picture.values[..., column], cmap="viridis", vmin=0, vmax=top)
        grid[0, column].set_title(title)
        bar = figure.colorbar(
            image, ax=list(grid[:, column]), location="bottom", shrink=0.8, aspect=18, label=unit
        )
        bar.ax.locator_params(nbins=3)
        bar.outline.set_visible(False)
    for axes, picture in zip(grid[:, 0], pictures, strict=True):
        axes.set_ylabel(picture.title)
    return figure


@styled
def colour_figure(pictures: Sequence[Picture], *, names: Sequence[str]) -> Figure:
    """Draw the first three features of each slide as red, green and blue.

    Parameters
    ----------
    pictures
        Of ``(y, x, 3)`` or more features. Each is stretched between its 1st and 99th percentile over all slides, so
        that one colour means the same in every slide.
    names
        Of the features that become red, green and blue.
    """
    low, high = (
        np.array([_percentile([p.values[..., c] for p in pictures], q) for c in range(3)]) for q in (1, 99)
    )
    figure, grid, frame = _picture_grid(pictures, extra=0.25)
    for axes, picture in zip(grid, pictures, strict=True):
        colour = np.clip((picture.values[..., :3] - low) / np.where(high > low, high - low, 1), 0, 1)
        frame.show(axes, picture, np.where(np.isnan(picture.values[..., :3]), _rgb(NOT_ACQUIRED), colour))
        axes.set_title(picture.title)
    key = ", ".join(
        f"{colour}: {name}" for colour, name in zip(("red", "green", "blue"), names, strict=False)
    )
    figure.supxlabel(f"{key} (1st to 99th percentile over these slides)", fontsize=7)
    return figure


@styled
def probability_figure(pictures: Sequence[Picture], *, positive: str) -> Figure:
    """Draw the predicted probability of a class over the slides.

    Parameters
    ----------
    pictures
        Of ``(y, x)`` probabilities.
    positive
        The class.
    """
    from matplotlib.patches import Patch

    figure, grid, frame = _picture_grid(pictures, extra=0.35)
    image: Any = None
    greys: dict[str, str] = {}
    for axes, picture in zip(grid, pictures, strict=True):
        if picture.measured is not None:
            left_out = picture.measured & np.isnan(picture.values)
            greys |= {"not measured": NOT_ACQUIRED} if not picture.measured.all() else {}
            greys |= {"measured, not predicted": NOT_PREDICTED} if left_out.any() else {}
            axes.imshow(np.where(left_out[..., None], _rgb(NOT_PREDICTED), _rgb(NOT_ACQUIRED)))
        image = frame.show(axes, picture, picture.values, cmap="RdBu_r", vmin=0, vmax=1)
        axes.set_title(picture.title, fontsize=6.5)
    bar = figure.colorbar(image, ax=list(grid), shrink=0.9, aspect=25, label=f"probability of {positive}")
    bar.outline.set_visible(False)
    if greys:
        handles = [
            Patch(facecolor=colour, label=name) for name, colour in sorted(greys.items(), reverse=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@dataclass(frozen=True)
class _Frame:
    """The extent that all pictures of a figure share, so that they are drawn at one scale.

    In micrometres where every pixel size is known, else in pixels.
    """

    height: float
    width: float
    in_micrometres: bool

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> _Frame:
        known = all(picture.pixel_size for picture in pictures)
        sizes = [(picture.pixel_size or 1.0) if known else 1.0 for picture in pictures]
        shapes = [picture.values.shape for picture in pictures]
        height = max(shape[0] * size for shape, size in zip(shapes, sizes, strict=True))
        width = max(shape[1] * size for shape, size in zip(shapes, sizes, strict=True))
        return cls(height, width, known)

    @property
    def aspect(self) -> float:
        return self.height / self.width

    def show(self, axes: Axes, picture: Picture, values: NDArray[Any], **how: Any) -> Any:
        """Draw values in the middle of the frame, with a scale bar."""
        image = show_image(axes, values, **how)
        size = (picture.pixel_size or 1.0) if self.in_micrometres else 1.0
        ny, nx = values.shape[:2]
        height, width = self.height / size, self.width / size
        axes.set_xlim((nx - 1 - width) / 2, (nx - 1 + width) / 2)
        axes.set_ylim((ny - 1 + height) / 2, (ny - 1 - height) / 2)
        scale_bar(axes, round(width), picture.pixel_size)
        return image


def _picture_grid(pictures: Sequence[Picture], *, extra: float) -> tuple[Figure, NDArray[Any], _Frame]:
    """Return a figure with one panel per picture, at most four in a row, and the panels in order."""
    n_rows = ceil(len(pictures) / 4)
    n_columns = ceil(len(pictures) / n_rows)
    frame = _Frame.of(pictures)
    edge = min((WIDTH - 0.6) / n_columns, 2.2)
    figure = new_figure(0.6 + edge * n_columns, extra + n_rows * (edge * frame.aspect + 0.5), pictures=True)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    return figure, grid[: len(pictures)], frame


def show_image(axes: Axes, values: NDArray[Any], **how: Any) -> Any:
    """Draw an image without ticks, in a thin frame."""
    axes.set_facecolor(NOT_ACQUIRED)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.5)
    return axes.imshow(values, interpolation="nearest", **how)


def _percentile(images: Sequence[NDArray[Any]], q: float) -> float:
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    return float(np.percentile(values, q)) if len(values) else 1.0


def _rgb(colour: str) -> NDArray[np.floating[Any]]:
    from matplotlib.colors import to_rgb

    return np.asarray(to_rgb(colour))
