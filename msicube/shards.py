"""Zarr 3 shards, written and read directly.

One shard is the encoded inner chunks one after another, then an index of ``(offset, length)`` pairs, then the CRC-32C
of that index: the ``sharding_indexed`` codec of the Zarr 3 core specification with ``index_location: end``. Going
through bytes instead of zarr-python's codec pipeline lets one task write one shard with one ``put``, and lets readers
decode in any number of threads into their own buffers (measured: three times the pipeline's rate).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from msicube.codecs import ChunkCodec
from msicube.errors import CorruptStore
from msicube.sparse_blocks import SparseBlock, fill_word, words

EMPTY = np.uint64(2**64 - 1)
#: Chunks closer together than this in a shard are fetched with one read.
COALESCE_GAP = 64 * 1024


class ByteSource(Protocol):
    """Random access to the bytes of one stored object."""

    def size(self) -> int:
        """Length in bytes."""

    def read(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``; fewer only at the end of the object."""


class StoredShard(NamedTuple):
    """What a record says of a shard: length and CRC-32C of its bytes."""

    size: int
    crc32c: int


class EncodedShard:
    """The bytes of a shard, part after part. They are made while they are asked for, once: few are in memory at a time.

    Parameters
    ----------
    parts
        What makes them.

    Attributes
    ----------
    stored : StoredShard
        Of the parts that were given so far: of the whole shard, once all of them were.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts: Iterator[bytes] | None = parts
        self.stored = StoredShard(0, 0)

    def __iter__(self) -> Iterator[bytes]:
        parts, self._parts = self._parts, None
        if parts is None:
            raise RuntimeError("the parts of an encoded shard are given once: encode it again")
        for part in parts:
            self.stored = StoredShard(
                self.stored.size + len(part), google_crc32c.extend(self.stored.crc32c, part)
            )
            yield part


@dataclass(frozen=True)
class ShardLayout:
    """Shape, chunks, codec and fill value of a shard of a ``(y, x, channel)`` array.

    Attributes
    ----------
    shape
        Of the shard, whole chunks in every direction.
    chunk
        Shape of an inner chunk.
    codec
        Of the inner chunks.
    fill
        What chunks that are not stored read as.
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    codec: ChunkCodec
    fill: float = 0

    @property
    def grid(self) -> tuple[int, int, int]:
        """Chunks along ``(y, x, channel)``."""
        return tuple(s // c for s, c in zip(self.shape, self.chunk, strict=True))  # type: ignore[return-value]

    @property
    def index_bytes(self) -> int:
        """Length of the index and its checksum."""
        return 16 * int(np.prod(self.grid)) + 4

    def encode(self, block: NDArray[Any]) -> EncodedShard:
        """Return a shard that holds ``block`` at its origin and fill values elsewhere.

        Chunks that are the fill value bit for bit are left out, as the specification has it.
        """
        return EncodedShard(self._indexed(self._dense(block)))

    def encode_sparse(
        self,
        shape: tuple[int, int, int],
        pixel: NDArray[np.int32],
        channel: NDArray[np.int32],
        values: NDArray[Any],
    ) -> EncodedShard:
        """Return a shard that reads as that of :meth:`encode` for a block that is fill values elsewhere.

        Neither the block nor, as far as the codec allows, its chunks are made.

        Parameters
        ----------
        shape
            Of the block.
        pixel, channel
            ``(value,)`` places: the flat number of the pixel in the block, and the channel. No place twice.
        values
            ``(value,)`` what stands there.
        """
        values = values.astype(self.codec.dtype, copy=False)
        block = SparseBlock.of(
            shape, pixel, channel, values, grid=self.grid, chunk=self.chunk, fill=self.fill
        )
        return EncodedShard(self._indexed(block.encoded(self.codec)))

    def _dense(self, block: NDArray[Any]) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of each chunk of a block that is not all fill values."""
        # One chunk after the other in the same memory: fresh memory would be fetched from the system and given back.
        scratch = np.full(self.chunk, self.fill, self.codec.dtype)
        bits, blank = words(scratch), fill_word(self.fill, scratch.dtype)
        for number, position in enumerate(np.ndindex(*self.grid)):
            region = tuple(slice(p * c, (p + 1) * c) for p, c in zip(position, self.chunk, strict=True))
            part = block[region]
            if part.shape == self.chunk:
                scratch[...] = part
            else:
                scratch.fill(self.fill)
                scratch[tuple(slice(n) for n in part.shape)] = part
            # The first value tells of most chunks that they are not empty.
            if bits.item(0) != blank or (bits != blank).any():
                yield number, self.codec.encode(scratch)

    def _indexed(self, chunks: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield encoded chunks, in the order of their numbers, and then their index."""
        index = np.full((int(np.prod(self.grid)), 2), EMPTY, "<u8")
        offset = 0
        for number, data in chunks:
            index[number] = offset, len(data)
            offset += len(data)
            yield data
        encoded_index = index.tobytes()
        yield encoded_index + np.uint32(google_crc32c.value(encoded_index)).astype("<u4").tobytes()

    def read_index(self, source: ByteSource) -> NDArray[np.uint64]:
        """Return the ``(y, x, channel, 2)`` index of a shard: offset and length of each chunk.

        Raises
        ------
        CorruptStore
            The shard is shorter than its index, or the index does not meet its checksum.
        """
        size = source.size()
        if size < self.index_bytes:
            raise CorruptStore(
                f"a shard of {size} bytes is shorter than its index of {self.index_bytes} bytes"
            )
        data = source.read(size - self.index_bytes, self.index_bytes)
        if google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise CorruptStore("the index of a shard does not meet its CRC-32C checksum")
        index = np.frombuffer(data[:-4], "<u8").reshape(*self.grid, 2)
        used = index[..., 0] != EMPTY
        if (index[used].sum(axis=-1) > size - self.index_bytes).any():
            raise CorruptStore("the index of a shard points past its end")
        return index

    def read(
        self,
        source: ByteSource,
        index: NDArray[np.uint64],
        region: tuple[slice, slice, slice],
        out: NDArray[Any],
    ) -> None:
        """Decode a region of a shard into ``out``, an array of the region's shape.

        Parameters
        ----------
        source, index
            The shard's bytes and its index.
        region
            ``(y, x, channel)`` slices with steps of 1, relative to the shard.
        out
            Any strides.
        """
        positions = list(np.ndindex(*(self._chunk_span(region, axis)[1] for axis in range(3))))
        first = [self._chunk_span(region, axis)[0] for axis in range(3)]
        wanted = [(f[0] + first[0], f[1] + first[1], f[2] + first[2]) for f in positions]
        scratch = np.empty(self.chunk, self.codec.dtype)
        stored = []
        for position in wanted:
            if index[position][0] == EMPTY:
                out[self._overlap(position, region)[1]] = self.fill
            else:
                stored.append(position)
        stored.sort(key=lambda p: int(index[p][0]))
        for position, data in self._fetch(source, index, stored):
            inside, target = self._overlap(position, region)
            self.codec.decode(data, scratch)
            out[target] = scratch[inside]

    def read_cell(
        self,
        source: ByteSource,
        index: NDArray[np.uint64],
        cell: tuple[int, int],
        pixels: NDArray[np.intp],
        out: NDArray[Any],
        rows: NDArray[np.intp],
    ) -> None:
        """Decode chosen spectra of one cell into rows of an array.

        Parameters
        ----------
        source, index
            The shard's bytes and its index.
        cell
            Row and column of the cell in the shard.
        pixels
            Flat positions in the cell, which counts as whole even where the cube ends inside it.
        out
            ``(m, channel)``; spectrum ``pixels[i]`` goes to ``out[rows[i]]``.
        rows
            As many as there are pixels.
        """
        n_channels, step = out.shape[1], self.chunk[2]
        n_pixels = self.chunk[0] * self.chunk[1]
        every = len(pixels) == n_pixels and bool((pixels == np.arange(n_pixels)).all())
        scratch = np.empty((n_pixels, step), self.codec.dtype)
        # Rows one after another are a slice, which is copied faster than single rows are scattered.
        run = (
            len(rows) > 0
            and int(rows[-1]) - int(rows[0]) == len(rows) - 1
            and bool((np.diff(rows) == 1).all())
        )
        target: Any = slice(int(rows[0]), int(rows[-1]) + 1) if run else rows
        stored = []
        for number in range(-(-n_channels // step)):
            if index[(*cell, number)][0] == EMPTY:
                out[target, number * step : (number + 1) * step] = self.fill
            else:
                stored.append((*cell, number))
        stored.sort(key=lambda p: int(index[p][0]))
        chosen = scratch if every else np.empty((len(pixels), step), self.codec.dtype)
        for position, data in self._fetch(source, index, stored):
            start = position[2] * step
            stop = min(start + step, n_channels)
            self.codec.decode(data, scratch)
            if not every:
                np.take(scratch, pixels, axis=0, out=chosen, mode="clip")
            out[target, start:stop] = chosen[:, : stop - start]

    def _fetch(
        self, source: ByteSource, index: NDArray[np.uint64], positions: list[tuple[int, int, int]]
    ) -> Iterator[tuple[tuple[int, int, int], memoryview]]:
        """Yield the bytes of chunks, given in file order, with one read for each run of neighbours."""
        run: list[tuple[int, int, int]] = []
        start = end = 0
        for position in [*positions, None]:
            if position is not None:
                offset, length = (int(v) for v in index[position])
                if run and offset - end <= COALESCE_GAP:
                    run.append(position)
                    end = max(end, offset + length)
                    continue
            if run:
                data = memoryview(source.read(start, end - start))
                if len(data) != end - start:
                    raise CorruptStore(f"a shard ends {end - start - len(data)} bytes too early")
                for member in run:
                    at, size = (int(v) for v in index[member])
                    yield member, data[at - start : at - start + size]
            if position is not None:
                run, start, end = [position], offset, offset + length

    def _chunk_span(self, region: tuple[slice, slice, slice], axis: int) -> tuple[int, int]:
        """Return the first chunk that a region touches along an axis, and how many it touches."""
        first = region[axis].start // self.chunk[axis]
        last = (region[axis].stop - 1) // self.chunk[axis]
        return first, last - first + 1

    def _overlap(
        self, position: tuple[int, int, int], region: tuple[slice, slice, slice]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return where a chunk and a region meet: as slices of the chunk, and of the region."""
        inside, target = [], []
        for p, size, wanted in zip(position, self.chunk, region, strict=True):
            start, stop = max(p * size, wanted.start), min((p + 1) * size, wanted.stop)
            inside.append(slice(start - p * size, stop - p * size))
            target.append(slice(start - wanted.start, stop - wanted.start))
        return tuple(inside), tuple(target)
