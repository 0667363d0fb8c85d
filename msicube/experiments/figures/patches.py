"""Figures of example patches: as colours, and channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures.images import show_image
from msicube.experiments.figures.style import WIDTH, new_figure, scale_bar, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = ("red", "green", "blue")
#: Channels that are drawn one by one.
MOST_CHANNELS = 4


@dataclass(frozen=True)
class PatchRow:
    """Example patches of one kind.

    Attributes
    ----------
    name
        Of the row.
    patches
        ``(n, channel, size, size)``.
    captions
        What stands above each patch.
    pixel_sizes
        In micrometres; None where it is not known.
    """

    name: str
    patches: NDArray[np.floating[Any]]
    captions: Sequence[str]
    pixel_sizes: Sequence[float | None]


@styled
def patch_figure(rows: Sequence[PatchRow], *, names: Sequence[str]) -> Figure:
    """Draw example patches as the network sees them, the first three channels as red, green and blue.

    Parameters
    ----------
    rows
        Patches of one kind each.
    names
        Of the channels.
    """
    n_columns = max(len(row.patches) for row in rows)
    edge = min((WIDTH - 0.3) / n_columns, 1.15)
    figure = new_figure(0.3 + edge * n_columns, 0.15 + (edge + 0.62) * len(rows), pictures=True)
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    stretch = _Stretch.of([row.patches for row in rows])
    for row, line in zip(rows, grid, strict=True):
        whole = zip(line, row.patches, row.captions, row.pixel_sizes, strict=False)
        for number, (axes, patch, caption, pixel_size) in enumerate(whole):
            show_image(axes, stretch.colours(patch))
            axes.set_title(caption, fontsize=6, pad=3)
            if number == 0 or pixel_size != row.pixel_sizes[0]:
                scale_bar(axes, patch.shape[-1], pixel_size)
        for axes in line[len(row.patches) :]:
            axes.set_axis_off()
        line[0].set_ylabel(row.name)
    figure.supxlabel(_key(names), fontsize=7)
    return figure


@styled
def patch_channel_figure(rows: Sequence[PatchRow], *, names: Sequence[str]) -> Figure:
    """Draw single patches, a row each: as colours, and each of their first channels by itself.

    Parameters
    ----------
    rows
        Of which the first patch is shown.
    names
        Of the channels.
    """
    shown = list(names[:MOST_CHANNELS])
    n_columns = 1 + len(shown)
    edge = min((WIDTH - 1.2) / n_columns, 1.4)
    figure = new_figure(1.2 + edge * n_columns, 0.25 + (edge + 0.2) * len(rows), pictures=True)
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    stretch = _Stretch.of([row.patches[:1] for row in rows])
    image: Any = None
    for row, line in zip(rows, grid, strict=True):
        patch = row.patches[0]
        show_image(line[0], stretch.colours(patch))
        line[0].set_ylabel(f"{row.name}\n{row.captions[0]}", rotation=0, ha="right", va="center", fontsize=6)
        for axes, channel in zip(line[1:], patch, strict=False):
            image = show_image(axes, channel, cmap="viridis", vmin=stretch.low, vmax=stretch.high)
        scale_bar(line[0], patch.shape[-1], row.pixel_sizes[0])
    for axes, title in zip(grid[0], ["as grey" if len(names) == 1 else "as RGB", *shown], strict=True):
        axes.set_title(title)
    bar = figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.8, aspect=25, label=stretch.text)
    bar.outline.set_visible(False)
    figure.supxlabel(_key(names), fontsize=7)
    return figure


@dataclass(frozen=True)
class _Stretch:
    """The range of values that is drawn: [0, 1] where patches are scaled to it."""

    low: float
    high: float
    text: str

    @classmethod
    def of(cls, patches: Sequence[NDArray[Any]]) -> _Stretch:
        values = np.concatenate([part.ravel() for part in patches])
        values = values[np.isfinite(values)]
        if not len(values) or (values.min() >= 0 and values.max() <= 1):
            return cls(0.0, 1.0, "feature, scaled in each patch")
        low, high = np.percentile(values, (1, 99))
        return cls(float(low), float(high if high > low else low + 1), "feature")

    def colours(self, patch: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return ``(size, size, 3)``: one channel becomes grey, two leave blue empty."""
        if patch.shape[0] == 1:
            patch = np.repeat(patch, 3, axis=0)
        colours = np.zeros((*patch.shape[1:], 3))
        n = min(3, patch.shape[0])
        colours[..., :n] = np.moveaxis(patch[:n], 0, -1)
        return np.clip((np.nan_to_num(colours) - self.low) / (self.high - self.low), 0, 1)


def _key(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"grey: {names[0]}"
    return ", ".join(f"{colour}: {name}" for colour, name in zip(RGB, names, strict=False))
