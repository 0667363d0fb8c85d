"""Data to fit on, cut into pieces of one task each, and how the spectra of a piece are read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.channels import Channels
from msicube.tiling import Window, windows

#: Bytes that a task reads at a time, where the cells of the cube allow it.
STRIP_BYTES = 16 * 2**20


class Cube(Protocol):
    """What spectra are read from: a stored cube, or an array in memory."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(y, x, channel)``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""

    @property
    def cell(self) -> tuple[int, int]:
        """Spatial extent of the least that is worth reading."""

    def read(self, window: Window, *, channels: Any = None) -> NDArray[Any]:
        """Return a window, ``(y, x, channel)``."""


@dataclass(frozen=True, eq=False)
class ArrayCube:
    """A ``(y, x, channel)`` array in memory."""

    values: NDArray[Any]

    cell = (1, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(y, x, channel)``."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.values.dtype

    def read(self, window: Window, *, channels: Any = None) -> NDArray[Any]:
        """Return a window; a view where all channels are wanted."""
        values = self.values[window.slices]
        return values if channels is None else np.take(values, channels, axis=2)


@dataclass(frozen=True, eq=False)
class Piece:
    """The work of one task: the acquired spectra of one window.

    Attributes
    ----------
    window
        Where it lies in its cube.
    cube
        What to read; None where a Dask chunk, which is just the window, takes its place.
    labels
        The class of all spectra, or a ``(y, x)`` array of classes of the window's shape.
    mask
        ``(y, x)`` of the window's shape: which pixels hold spectra. None for all, or where a task reads it.
    """

    window: Window
    cube: Cube | None = None
    labels: Any = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class SlidePieces:
    """The pieces of one slide.

    Attributes
    ----------
    name
        Of the slide; empty for an array.
    pieces
        In row-major order.
    read_mask
        Picklable, without arguments: reads the mask of the whole slide, for a task. None where the pieces have theirs.
    chunks
        For each piece the key in ``graph`` whose result is the piece's array; None where the pieces have cubes.
    graph
        The Dask graph that makes the chunks.
    channels
        Of its spectra, where they lie on another axis than those of the source; None where they do not.
    """

    name: str
    pieces: Sequence[Piece]
    read_mask: Callable[[], NDArray[np.bool_]] | None = None
    chunks: Sequence[Hashable] | None = None
    graph: Mapping[Any, Any] | None = None
    channels: Channels | None = None


class Source(Protocol):
    """Data to fit on."""

    @property
    def channels(self) -> Channels:
        """Of the spectra."""

    @property
    def axes(self) -> Mapping[str, Channels]:
        """The axes of the slides that lie on another than ``channels``; only where the first step takes any axis."""

    @property
    def slides(self) -> list[str]:
        """Their names, in the order in which they are merged; none for an array."""

    @property
    def where(self) -> str | None:
        """Which of their pixels, as a name or an expression; None for all that are acquired."""

    @property
    def digests(self) -> Mapping[str, str]:
        """What tells the content of each slide from another; none for an array."""

    def classes(self, by: str) -> list[Any]:
        """Return the classes, sorted; ``by`` is the column of the samples table that holds them.

        Raises
        ------
        UsageError
            A label is missing.
        """

    def inside(self, where: str) -> Source:
        """Return the spectra of a mask of the same data, which need not be among those that are fitted on.

        Raises
        ------
        UsageError
            The data have no masks by name.
        """

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield the pieces of each slide, labelled with the classes of ``by`` where it is given."""


def spectra(piece: Piece, *, columns: NDArray[np.intp] | None = None) -> Iterator[tuple[NDArray[Any], Any]]:
    """Yield the acquired spectra of a piece, a strip at a time, with their labels.

    Parameters
    ----------
    piece
        With a cube.
    columns
        The channels to read; all by default.

    Yields
    ------
    block : (n, columns) ndarray
        Not to be written to: it may be a view of the caller's data. Let go of it before asking for the next one.
    labels
        One label for all, or an ``(n,)`` array.
    """
    assert piece.cube is not None
    n_columns = piece.cube.shape[2] if columns is None else len(columns)
    pixels = STRIP_BYTES // max(1, n_columns * piece.cube.dtype.itemsize)
    for strip in strips(piece.window, piece.cube.cell, pixels):
        inside = within(strip, piece.window)
        chosen = None if piece.mask is None else piece.mask[inside].ravel()
        if chosen is not None and not chosen.any():
            continue
        block = piece.cube.read(strip, channels=columns).reshape(strip.n_pixels, n_columns)
        labels = piece.labels[inside].ravel() if isinstance(piece.labels, np.ndarray) else piece.labels
        if chosen is not None and not chosen.all():
            block = block[chosen]
            labels = labels[chosen] if isinstance(labels, np.ndarray) else labels
        yield block, labels
        del block  # before the next one is read, not after it


def within(part: Window, whole: Window) -> tuple[slice, slice]:
    """Return a part of a window as an index into an array of the window."""
    return slice(part.y0 - whole.y0, part.y1 - whole.y0), slice(part.x0 - whole.x0, part.x1 - whole.x0)


def strips(window: Window, cell: tuple[int, int], pixels: int) -> list[Window]:
    """Cut a window into strips of whole cells with at most ``pixels`` pixels, but of one cell at least."""
    ny, nx = window.shape
    if cell[0] * nx <= pixels:
        step = (pixels // (cell[0] * nx) * cell[0], nx)
    else:
        step = (cell[0], max(1, pixels // (cell[0] * cell[1])) * cell[1])
    return [
        Window(w.y0 + window.y0, w.y1 + window.y0, w.x0 + window.x0, w.x1 + window.x0)
        for w in windows((ny, nx), step)
    ]
