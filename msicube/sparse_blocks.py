"""Blocks of a cube that are the fill value but for few values: cut into chunks and encoded without being made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from msicube.codecs import ChunkCodec
from msicube.zstd import SparseFrames

#: A chunk is sparse where fewer than one in so many of its values is not the fill value.
SPARSE = 10
#: How much longer the frames of sparse chunks may be than what the codec makes of them. Where values are equal to each
#: other, as counts are, a compressor finds that and frames do not.
FRAME_COST = 1.1
#: Values that are made into frames at a time: fewer, and threads wait for the interpreter more; more, and the arrays
#: leave the cache of the processor.
BATCH = 2**16


def words(values: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Return values as their bits.

    It is by bits that a value is the fill value: -0.0 is one to keep where that is 0, and so is any other NaN where it
    is one.
    """
    return values.view(f"u{values.dtype.itemsize}")


def fill_word(fill: float, dtype: np.dtype[Any]) -> int:
    """Return the bits of a fill value."""
    return int(words(np.array(fill, dtype)))


@dataclass(frozen=True)
class SparseBlock:
    """The values of a block that are not the fill value, chunk after chunk.

    Attributes
    ----------
    address
        ``(value,)`` places, ascending: those of chunk ``n`` are counted from ``n`` times its length.
    values
        What stands there.
    bounds
        ``(chunk + 1,)`` the first value of each chunk, and how many there are.
    length
        Values in a chunk, the others too.
    fill
        What the others are.
    """

    address: NDArray[np.int64]
    values: NDArray[Any]
    bounds: NDArray[np.int64]
    length: int
    fill: float

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        pixel: NDArray[np.int32],
        channel: NDArray[np.int32],
        values: NDArray[Any],
        *,
        grid: tuple[int, int, int],
        chunk: tuple[int, int, int],
        fill: float,
    ) -> Self:
        """Sort the values of a block into chunks.

        Parameters
        ----------
        shape
            ``(y, x, channel)`` of the block.
        pixel, channel, values
            ``(value,)`` flat number of the pixel in the block, channel, and what stands there. No place twice.
        grid, chunk
            ``(y, x, channel)`` how many chunks there are, and their shape.
        fill
            What stands elsewhere.
        """
        filled = words(values) != fill_word(fill, values.dtype)
        if not filled.all():
            pixel, channel, values = pixel[filled], channel[filled], values[filled]
        (gy, gx, gc), (cy, cx, cc) = grid, chunk
        size, chunks = cy * cx * cc, gy * gx * gc
        # A table for pixels plus one for channels: a lookup is cheaper than a division for each value.
        y, x = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        of_pixel = (y // cy * gx + x // cx) * gc * size + (y % cy * cx + x % cx) * cc
        along, place = np.divmod(np.arange(shape[2]), cc)
        address = of_pixel.take(pixel) + (along * size + place).take(channel)
        # Values come pixel by pixel and along the axis, as a rule: then those of a chunk are in order as they are, and
        # 16 bits are sorted by counting.
        number = (address // size).astype(np.uint16 if chunks <= 2**16 else np.uint32)
        order = np.argsort(number, kind="stable")
        sorted_address = address.take(order)
        if (sorted_address[1:] < sorted_address[:-1]).any():
            order = np.argsort(address)
            sorted_address = address.take(order)
        bounds = np.searchsorted(sorted_address, np.arange(chunks + 1) * size)
        return cls(sorted_address, values.take(order), bounds, size, fill)

    def encoded(self, codec: ChunkCodec) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of each chunk that has a value."""
        counts = np.diff(self.bounds)
        numbers = np.flatnonzero(counts)
        few = counts[numbers] * SPARSE < self.length
        frames = codec.sparse_frames(self.length) if fill_word(self.fill, codec.dtype) == 0 else None
        if frames is None or not few.any() or not self._pays(frames, codec, numbers[few][:1]):
            few[:] = False
        portion = np.cumsum(counts[numbers]) // BATCH
        cuts = np.flatnonzero((few[1:] != few[:-1]) | (portion[1:] != portion[:-1])) + 1
        for batch, sparse in zip(np.split(numbers, cuts), np.split(few, cuts), strict=True):
            if len(batch) and frames is not None and sparse[0]:
                yield from zip(batch.tolist(), self._framed(frames, batch), strict=True)
            else:
                yield from self._plain(codec, batch)

    def _pays(self, frames: SparseFrames, codec: ChunkCodec, chunk: NDArray[np.intp]) -> bool:
        """Return whether the frame of a chunk is nearly as short as what the codec makes of it."""
        (frame,), ((_, plain),) = self._framed(frames, chunk), self._plain(codec, chunk)
        return len(frame) <= FRAME_COST * len(plain)

    def _framed(self, frames: SparseFrames, chunks: NDArray[np.intp]) -> Iterator[bytes]:
        """Yield the frames of chunks between which no other has a value."""
        span = slice(self.bounds[chunks[0]], self.bounds[chunks[-1] + 1])
        return frames.encode(chunks, self.address[span], self.values[span])

    def _plain(self, codec: ChunkCodec, chunks: NDArray[np.intp]) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of chunks, as the codec makes them, one after the other in the same memory."""
        scratch = np.full(self.length, self.fill, codec.dtype)
        for number in chunks.tolist():
            span = slice(self.bounds[number], self.bounds[number + 1])
            places = self.address[span] - number * self.length
            scratch[places] = self.values[span]
            yield number, codec.encode(scratch)
            scratch[places] = self.fill
