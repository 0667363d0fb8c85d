"""Reading and writing one ``(y, x, channel)`` variable, tile by tile, without zarr-python's pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.codecs import ChunkCodec
from msicube.errors import CorruptStore, UsageError
from msicube.readers import SparseTile
from msicube.scheduling import default_workers, for_each
from msicube.shards import ByteSource, EncodedShard, ShardLayout, StoredShard
from msicube.store.draft import location_metadata
from msicube.store.location import Location
from msicube.tiling import Window, windows

Channels = slice | NDArray[np.intp]


@dataclass(frozen=True)
class CubeWriter:
    """Writes the tiles of a cube; picklable, one call one stored object, in any order, from anywhere.

    Attributes
    ----------
    location
        The array's folder.
    layout
        Of its shards.
    image
        Whether the array is stored as ``(y, x)``: its shards, of one channel, have the bytes of a cube's and keys
        without a number for the channels.
    """

    location: Location
    layout: ShardLayout
    image: bool = False

    def write(self, window: Window, block: NDArray[Any]) -> StoredShard:
        """Encode and store a tile, and return what was stored.

        Parameters
        ----------
        window
            A tile of the plan: its origin is a multiple of the shard's shape.
        block
            ``(y, x, channel)``, at most a shard.
        """
        return self._put(window, self.layout.encode(block))

    def write_sparse(self, window: Window, tile: SparseTile) -> StoredShard:
        """Encode and store a tile given without its zeros; the bytes are those of :meth:`write`."""
        return self._put(window, self.layout.encode_sparse(*tile[:4]))

    def _put(self, window: Window, data: EncodedShard) -> StoredShard:
        self.shard(window).put(data)
        return data.stored

    def shard(self, window: Window) -> Location:
        """Return where a tile is stored."""
        return shard_location(self.location, self.layout, window, image=self.image)


@dataclass(frozen=True)
class CubeArray:
    """A stored ``(y, x, channel)`` variable of one slide.

    Picklable, cheap to open, safe to read from any number of threads and processes; it looks like a NumPy array to
    ``dask.array.from_array``.

    Attributes
    ----------
    slide, variable
        Names.
    location
        The array's folder.
    shape
        ``(y, x, channel)``.
    layout
        Of its shards.
    """

    slide: str
    variable: str
    location: Location
    shape: tuple[int, int, int]
    layout: ShardLayout
    _indexes: dict[tuple[int, int], NDArray[np.uint64]] = field(
        default_factory=dict, compare=False, repr=False
    )

    ndim = 3

    @classmethod
    def open(cls, location: Location, *, slide: str, variable: str) -> CubeArray:
        """Open a variable from its metadata.

        Raises
        ------
        CorruptStore
            There is no such array, or it is not sharded as msicube writes it.
        """
        metadata = location_metadata(location)
        if metadata is None or metadata.get("node_type") != "array":
            raise CorruptStore(f"slide {slide} has no variable '{variable}' at {location}")
        sharding = metadata["codecs"][0]
        shard = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        if len(shard) != 3 or sharding["name"] != "sharding_indexed":
            raise CorruptStore(
                f"{location} is not a sharded (y, x, channel) array: msicube reads cubes that it wrote itself"
            )
        configuration = sharding["configuration"]
        codec = ChunkCodec.from_metadata(configuration["codecs"], np.dtype(metadata["data_type"]))
        fill = float(metadata["fill_value"])  # "NaN" as well: JSON has no other word for it
        layout = ShardLayout(shard, tuple(configuration["chunk_shape"]), codec, fill)
        return cls(slide, variable, location, tuple(metadata["shape"]), layout)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indexes": {}}

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (type(self).__name__, self.location.url, self.shape, self.layout.shape, self.layout.chunk)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return self.layout.codec.dtype

    @property
    def tile(self) -> tuple[int, int]:
        """Spatial extent of a shard, ``(y, x)``."""
        return self.layout.shape[:2]

    @property
    def cell(self) -> tuple[int, int]:
        """Spatial extent of an inner chunk, ``(y, x)``."""
        return self.layout.chunk[:2]

    def tiles(self) -> list[Window]:
        """Return the tiles in row-major order, clipped to the cube."""
        return windows(self.shape[:2], self.tile)

    def cells(self) -> list[Window]:
        """Return the cells in row-major order, clipped to the cube."""
        return windows(self.shape[:2], self.cell)

    def read(
        self,
        window: Window,
        *,
        channels: Channels | None = None,
        out: NDArray[Any] | None = None,
        threads: int = 1,
    ) -> NDArray[Any]:
        """Read a window of whole spectra or of chosen channels.

        Parameters
        ----------
        window
            Inside the cube.
        channels
            A slice of step 1 or an array of channel numbers; all by default. Only chunks that hold a chosen channel are
            read.
        out
            Where to put the result, of its shape and of any strides; new by default.
        threads
            That decode the window's tiles.

        Returns
        -------
        ndarray
            ``(y, x, channel)``; the fill value of the array where not acquired.

        Raises
        ------
        UsageError
            The window leaves the cube.
        CorruptStore
            A shard is missing or damaged; the message names slide and tile.
        """
        if not (0 <= window.y0 < window.y1 <= self.shape[0] and 0 <= window.x0 < window.x1 <= self.shape[1]):
            raise UsageError(
                f"{window} is empty or leaves slide {self.slide} of {self.shape[0]} x {self.shape[1]} pixels"
            )
        if isinstance(channels, np.ndarray):
            if not _is_run(channels):
                return self._read_listed(window, channels, out, threads)
            channels = slice(int(channels[0]), int(channels[-1]) + 1)
        start, stop, _ = (channels or slice(None)).indices(self.shape[2])
        if out is None:
            out = np.empty((*window.shape, max(0, stop - start)), self.dtype)
        if start < stop:
            self._read_range(window, slice(start, stop), out, threads)
        return out

    def read_cell(
        self, window: Window, pixels: NDArray[np.intp], out: NDArray[Any], rows: NDArray[np.intp]
    ) -> None:
        """Read spectra of one cell straight into rows of an array, without an array of the cell between.

        Parameters
        ----------
        window
            One of :meth:`cells`.
        pixels
            Flat positions in the window.
        out
            ``(m, channel)``; spectrum ``pixels[i]`` goes to ``out[rows[i]]``.
        rows
            As many as there are pixels.

        Raises
        ------
        CorruptStore
            The shard is missing or damaged; the message names slide and tile.
        """
        (tile,) = self.tiles_of(window)
        y, x = np.divmod(pixels, window.shape[1])
        cell = (window.y0 - tile.y0) // self.cell[0], (window.x0 - tile.x0) // self.cell[1]
        with self._reading(tile) as source:
            self.layout.read_cell(source, self._index(tile), cell, y * self.cell[1] + x, out, rows)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read as NumPy would index: integers and forward slices on y and x, also lists on channels.

        Raises
        ------
        UsageError
            Any other index; read a window first and index that.
        """
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in [part for part in parts if not isinstance(part, np.ndarray)]:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        parts += [slice(None)] * (3 - len(parts))
        single = tuple(axis for axis, part in enumerate(parts) if isinstance(part, int | np.integer))
        y, x = (self._forward(axis, parts[axis]) for axis in (0, 1))
        chosen: Any = parts[2] if isinstance(parts[2], list | np.ndarray) else self._forward(2, parts[2])
        if not len(y) or not len(x):
            return np.empty((len(y), len(x), len(chosen)), self.dtype).squeeze(single)
        one_run = isinstance(chosen, range) and chosen.step == 1
        channels = slice(chosen.start, chosen.stop) if one_run else np.asarray(chosen, np.intp)
        # One image of a channel is a small part of many tiles: with all processors, it takes half the time with two.
        window = Window(y[0], y[-1] + 1, x[0], x[-1] + 1)
        block = self.read(window, channels=channels, threads=default_workers())
        return block[:: y.step, :: x.step].squeeze(single)

    def _forward(self, axis: int, part: Any) -> range:
        """Return the positions that an integer or a slice stands for."""
        positions = range(self.shape[axis])
        if isinstance(part, int | np.integer):
            position = positions[int(part)]
            return range(position, position + 1)
        if isinstance(part, slice) and (part.step or 1) > 0:
            return positions[part]
        raise UsageError(f"a stored cube cannot be indexed by {part!r}: read a window and index that")

    def _read_range(self, window: Window, channels: slice, out: NDArray[Any], threads: int) -> None:
        def read(tile: Window) -> None:
            part = tile.intersect(window)
            assert part is not None
            region = (
                slice(part.y0 - tile.y0, part.y1 - tile.y0),
                slice(part.x0 - tile.x0, part.x1 - tile.x0),
                channels,
            )
            target = out[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0]
            with self._reading(tile) as source:
                self.layout.read(source, self._index(tile), region, target)

        for_each(read, self.tiles_of(window), threads=threads)

    @contextmanager
    def _reading(self, tile: Window) -> Iterator[ByteSource]:
        """Give the bytes of a tile's shard; errors of the block name slide and tile."""
        try:
            yield shard_location(self.location, self.layout, tile).source()
        except FileNotFoundError as error:
            raise CorruptStore(
                f"slide {self.slide}: the shard of {self.variable} at {tile} is missing; convert the slide again"
            ) from error
        except CorruptStore as error:
            raise CorruptStore(f"slide {self.slide}, {self.variable} at {tile}: {error}") from error

    def _read_listed(
        self, window: Window, channels: NDArray[np.intp], out: NDArray[Any] | None, threads: int
    ) -> NDArray[Any]:
        """Read chosen channels, one chunk of channels at a time."""
        channels = np.asarray(channels, np.intp)
        if out is None:
            out = np.empty((*window.shape, len(channels)), self.dtype)
        size = self.layout.chunk[2]
        chunk_of = channels // size
        for chunk in np.unique(chunk_of):
            span = slice(int(chunk) * size, min((int(chunk) + 1) * size, self.shape[2]))
            columns = np.empty((*window.shape, span.stop - span.start), self.dtype)
            self._read_range(window, span, columns, threads)
            wanted = chunk_of == chunk
            out[..., wanted] = columns[..., channels[wanted] - span.start]
        return out

    def tiles_of(self, window: Window) -> list[Window]:
        """Return the tiles that a window touches, clipped to the cube."""
        ty, tx = self.tile
        return [
            Window(y, min(y + ty, self.shape[0]), x, min(x + tx, self.shape[1]))
            for y in range(window.y0 // ty * ty, window.y1, ty)
            for x in range(window.x0 // tx * tx, window.x1, tx)
        ]

    def _index(self, tile: Window) -> NDArray[np.uint64]:
        key = (tile.y0, tile.x0)
        index = self._indexes.get(key)
        if index is None:
            index = self.layout.read_index(shard_location(self.location, self.layout, tile).source())
            self._indexes[key] = index
        return index


def _is_run(channels: NDArray[np.intp]) -> bool:
    """Return whether channels are listed as a slice would name them."""
    return bool(len(channels) and channels[0] >= 0 and (np.diff(channels) == 1).all())


def shard_location(array: Location, layout: ShardLayout, window: Window, *, image: bool = False) -> Location:
    """Return where the shard of a tile is stored, by the default chunk key encoding of Zarr 3."""
    row, column = window.y0 // layout.shape[0], window.x0 // layout.shape[1]
    return array / (f"c/{row}/{column}" if image else f"c/{row}/{column}/0")
