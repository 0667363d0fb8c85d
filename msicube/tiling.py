"""Chunk arithmetic: how a cube is cut into tiles (shards) and cells (inner chunks).

A *tile* is the spatial extent of one shard: the unit of conversion and of Dask work. A *cell* is the spatial extent
of one inner chunk: the least that a loader reads. Both hold whole spectra; only the chunks inside a cell cut the
channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt
from typing import NamedTuple

from msicube.errors import MemoryLimitError, UsageError

DEFAULT_SHARD_BYTES = 64 * 2**20
#: Elements in one inner chunk: 32 x 32 pixels x 128 channels serves patches, ion images and spectra alike.
CHUNK_ELEMENTS = 32 * 32 * 128
MAX_CELL_EDGE = 32
#: Largest edge of a chunk of a ``(y, x)`` variable.
IMAGE_CHUNK = 1024


class Window(NamedTuple):
    """A rectangle of pixels, half-open: rows ``y0 <= y < y1``, columns ``x0 <= x < x1``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def n_pixels(self) -> int:
        """Rows times columns."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index into a ``(y, x)`` array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersect(self, other: Window) -> Window | None:
        """Return the part that both windows cover, or None."""
        y0, y1 = max(self.y0, other.y0), min(self.y1, other.y1)
        x0, x1 = max(self.x0, other.x0), min(self.x1, other.x1)
        return Window(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


@dataclass(frozen=True)
class TilePlan:
    """How one cube is cut.

    Attributes
    ----------
    shape
        ``(y, x, channel)`` of the cube.
    tile
        Spatial extent of a shard, a multiple of ``cell``.
    cell
        Spatial extent of an inner chunk.
    channel_chunk
        Channels in an inner chunk.
    """

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    cell: tuple[int, int]
    channel_chunk: int

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Shape of an inner chunk, ``(y, x, channel)``."""
        return (*self.cell, self.channel_chunk)

    @property
    def shard_shape(self) -> tuple[int, int, int]:
        """Shape of a shard: whole chunks, all channels."""
        return (*self.tile, ceil(self.shape[2] / self.channel_chunk) * self.channel_chunk)

    def tiles(self) -> list[Window]:
        """Return the tiles in row-major order, clipped to the cube."""
        return windows(self.shape[:2], self.tile)


def windows(shape: tuple[int, int], step: tuple[int, int]) -> list[Window]:
    """Cut a ``(y, x)`` grid into windows of at most ``step``, in row-major order."""
    return [
        Window(y, min(y + step[0], shape[0]), x, min(x + step[1], shape[1]))
        for y in range(0, shape[0], step[0])
        for x in range(0, shape[1], step[1])
    ]


def image_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunks of a ``(y, x)`` variable."""
    return tuple(min(n, IMAGE_CHUNK) for n in shape)


def plan_tiles(
    shape: tuple[int, int, int], itemsize: int, *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> TilePlan:
    """Choose tiles and chunks for a cube.

    The tile is the largest near-square of whole cells that keeps an uncompressed shard within ``shard_bytes``. Wide
    axes shrink the cell (32, 16, 8, ... 1 pixels) before they break that bound.

    Parameters
    ----------
    shape
        ``(y, x, channel)``, each at least 1.
    itemsize
        Bytes of one value.
    shard_bytes
        Bound on one uncompressed shard.

    Raises
    ------
    UsageError
        An empty cube.
    MemoryLimitError
        One spectrum alone is larger than ``shard_bytes``.
    """
    ny, nx, n_channels = shape
    if min(shape) < 1:
        raise UsageError(f"a cube of shape {shape} is empty: every one of (y, x, channel) must be at least 1")
    spectrum_bytes = n_channels * itemsize
    if spectrum_bytes > shard_bytes:
        raise MemoryLimitError(
            f"one spectrum of {n_channels} channels takes {spectrum_bytes} bytes, more than a shard of "
            f"{shard_bytes} bytes: raise the shard size or choose a coarser axis"
        )
    pixels = shard_bytes // spectrum_bytes
    edge = MAX_CELL_EDGE
    while edge * edge > pixels:
        edge //= 2
    cell = (min(edge, ny), min(edge, nx))
    channel_chunk = min(n_channels, max(1, CHUNK_ELEMENTS // (cell[0] * cell[1])))
    padded = ceil(n_channels / channel_chunk) * channel_chunk
    cells = max(1, shard_bytes // (cell[0] * cell[1] * padded * itemsize))
    rows_needed, columns_needed = ceil(ny / cell[0]), ceil(nx / cell[1])
    rows = min(rows_needed, max(1, isqrt(cells)))
    columns = min(columns_needed, max(1, cells // rows))
    rows = min(rows_needed, max(1, cells // columns))
    return TilePlan(shape, (rows * cell[0], columns * cell[1]), cell, channel_chunk)
