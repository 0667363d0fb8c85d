"""Zstandard frames of chunks that are nearly all zeros, made from the other values alone.

A compressor has to read a zero to find that it is one: of binned spectra with a peak in every eightieth channel that is
most of its work. Here the places of the values are known, and a frame (RFC 8878) is put together from them; any
Zstandard decoder reads it. A frame is cut into blocks of equal length, whose sequences :mod:`msicube.zstd.sequences`
describes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.zstd.fse import Ints
from msicube.zstd.sequences import SequenceCoder, Sequences, Streams

#: Most bytes in a block.
BLOCK_BYTES = 2**17
#: Least bytes in a block: a block must not be longer than what it stands for, its tables of fifty bytes included.
MIN_BLOCK_BYTES = 2**12
#: Most blocks in a frame.
MAX_BLOCKS = 8

#: A frame whose window is all of it, with its length in four bytes.
_MAGIC, _SINGLE_SEGMENT = bytes.fromhex("28b52ffd"), bytes([0xA0])
_FRAME_HEAD = 9
_COMPRESSED, _RLE = 2, 1
_BLOCK_HEAD = 3
#: Literals as they are, with their number in twenty bits.
_LITERALS_HEAD, _RAW_LITERALS = 3, 3 << 2
#: How the codes of literals, offsets and matches are given: by tables, of which that of offsets has one code, or by
#: those of an earlier block.
_TABLES = bytes([2 << 6 | 1 << 4 | 2 << 2])
_SAME_TABLES = bytes([3 << 6 | 1 << 4 | 3 << 2])
_REPEATED_OFFSET = bytes([0])


class _Layout(NamedTuple):
    """Where the parts of blocks lie; ``(block,)`` all blocks of some frames, those without a value too.

    Attributes
    ----------
    start
        The block, in the first of a frame with the head of that.
    literals
        Its literals.
    after
        What follows these: the number of sequences, and their tables.
    bits
        The bits of the sequences.
    end
        Where the next begins.
    """

    start: Ints
    literals: Ints
    after: Ints
    bits: Ints
    end: Ints


@dataclass(frozen=True)
class SparseFrames:
    """Makes the frames of chunks of one size.

    Attributes
    ----------
    length
        Values in a chunk.
    itemsize
        Bytes of a value, 4 or 8.
    blocks
        Blocks in a frame.
    """

    length: int
    itemsize: int
    blocks: int

    @classmethod
    def of(cls, length: int, itemsize: int) -> SparseFrames | None:
        """Return what makes frames of chunks of a size; None where they cannot be cut into blocks."""
        least = -(-length * itemsize // BLOCK_BYTES)
        blocks = next((n for n in range(least, MAX_BLOCKS + 1) if length % n == 0), None)
        if blocks is None or itemsize not in (4, 8) or length * itemsize < blocks * MIN_BLOCK_BYTES:
            return None
        return cls(length, itemsize, blocks)

    def encode(
        self, chunks: Ints, address: NDArray[np.integer[Any]], values: NDArray[Any]
    ) -> Iterator[bytes]:
        """Yield the frames of some chunks.

        Parameters
        ----------
        chunks
            Their numbers, ascending.
        address
            ``(value,)`` places, ascending: those of chunk ``n`` are counted from ``n`` times its length.
        values
            What stands there, contiguous; 0 elsewhere.

        Raises
        ------
        ValueError
            A block is so full of values that it cannot be written in this way; one can of which a fifth is 0.
        """
        size = self.length // self.blocks
        origin = (chunks[:, None] * self.length + np.arange(self.blocks) * size).ravel()
        edges = np.append(np.searchsorted(address, origin), len(address))
        filled = np.flatnonzero(np.diff(edges))
        start, origin = edges[filled], origin[filled]
        gap = np.empty(len(address), np.int64)  # zeros after each value
        gap[:-1] = address[1:]
        gap[edges[filled + 1] - 1] = origin + size
        gap -= address
        gap -= 1
        sequences = Sequences.of(gap, start, address[start] - origin)
        streams = self._coder.streams(sequences)
        lengths = np.zeros(len(edges) - 1, np.int64)
        lengths[filled] = np.diff(np.append(start, len(values))) * self.itemsize + sequences.counts
        layout = self._layout(filled, lengths, sequences.counts, streams.size)
        if (layout.end - layout.literals)[filled].max() > size * self.itemsize - _LITERALS_HEAD:
            raise ValueError("a block with this many values is not sparse")
        out = np.zeros(layout.end[-1], np.uint8)
        self._put_heads(out, layout, filled)
        self._put_tables(out, layout, filled, sequences.counts)
        self._put_literals(out, layout.literals[filled], sequences, gap, start, values)
        _put_streams(out, layout.bits[filled], streams)
        for first in range(0, len(layout.start), self.blocks):
            yield out[layout.start[first] : layout.end[first + self.blocks - 1]].tobytes()

    @cached_property
    def _coder(self) -> SequenceCoder:
        return SequenceCoder(self.itemsize, self.length // self.blocks)

    @cached_property
    def _tables(self) -> bytes:
        literals, matches = self._coder.tables
        return _TABLES + literals + _REPEATED_OFFSET + matches

    def _layout(self, filled: Ints, literals: Ints, counts: Ints, stream: Ints) -> _Layout:
        """Lay the blocks out one after the other.

        Parameters
        ----------
        filled
            Numbers of the blocks that have a value.
        literals
            ``(block,)`` bytes.
        counts, stream
            Of the filled blocks, sequences and bytes of their bits.
        """
        head = np.full(len(literals), _BLOCK_HEAD)
        head[:: self.blocks] += _FRAME_HEAD
        head[filled] += _LITERALS_HEAD
        after, bits = (
            np.ones(len(literals), np.int64),
            np.zeros(len(literals), np.int64),
        )  # of zeros alone: the zero
        after[filled] = 1 + (counts > 127) + np.where(self._first(filled), len(self._tables), 2)
        bits[filled] = stream
        end = np.cumsum(head + literals + after + bits)
        start = end - head - literals - after - bits
        return _Layout(start, start + head, start + head + literals, end - bits, end)

    def _first(self, filled: Ints) -> NDArray[np.bool_]:
        """Return which of the filled blocks are the first ones of their frames."""
        first: NDArray[np.bool_] = np.diff(filled // self.blocks, prepend=-1) > 0
        return first

    def _put_heads(self, out: NDArray[np.uint8], layout: _Layout, filled: Ints) -> None:
        """Write the heads of frames, of blocks and of literals."""
        length = (self.length * self.itemsize).to_bytes(4, "little")
        _put(out, layout.start[:: self.blocks], _MAGIC + _SINGLE_SEGMENT + length)
        last = np.arange(len(layout.start)) % self.blocks == self.blocks - 1
        block_bytes = self.length // self.blocks * self.itemsize
        empty = np.delete(np.arange(len(last)), filled)
        value = last[empty] | _RLE << 1 | block_bytes << 3
        _put_numbers(out, layout.literals[empty] - _BLOCK_HEAD, value, _BLOCK_HEAD)
        place = layout.literals[filled] - _LITERALS_HEAD
        value = last[filled] | _COMPRESSED << 1 | (layout.end[filled] - place) << 3
        _put_numbers(out, place - _BLOCK_HEAD, value, _BLOCK_HEAD)
        value = _RAW_LITERALS | (layout.after - layout.literals)[filled] << 4
        _put_numbers(out, place, value, _LITERALS_HEAD)

    def _put_tables(self, out: NDArray[np.uint8], layout: _Layout, filled: Ints, counts: Ints) -> None:
        """Write the numbers of sequences, and how their codes are to be read."""
        place, many = layout.after[filled], counts > 127
        out[place] = np.where(many, 128 + (counts >> 8), counts)
        out[place[many] + 1] = counts[many] & 255
        place = place + 1 + many
        first = self._first(filled)
        _put(out, place[first], self._tables)
        _put(out, place[~first], _SAME_TABLES + _REPEATED_OFFSET)

    def _put_literals(
        self,
        out: NDArray[np.uint8],
        place: Ints,
        sequences: Sequences,
        gap: Ints,
        start: Ints,
        values: NDArray[Any],
    ) -> None:
        """Write the literals of filled blocks to their places.

        A zero byte stands after each value that ends a run, and first in a block that begins with zeros.
        """
        width = np.add(gap > 0, self.itemsize, dtype=np.int64)
        at = np.cumsum(width)
        at -= width
        place = place + (sequences.lead[::-1] > 0) - at[start]
        at += np.repeat(place, np.diff(start, append=len(at)))
        # Values of four or eight bytes at any place: an array whose items overlap.
        word = np.dtype(f"u{self.itemsize}")
        anywhere: NDArray[Any] = np.ndarray((len(out) - self.itemsize + 1,), word, out.data, strides=(1,))
        anywhere[at] = values.view(word)


def _put(out: NDArray[np.uint8], places: Ints, data: bytes) -> None:
    """Write the same bytes to some places."""
    out[places[:, None] + np.arange(len(data))] = np.frombuffer(data, np.uint8)


def _put_numbers(out: NDArray[np.uint8], places: Ints, numbers: Ints, n_bytes: int) -> None:
    """Write numbers of a few bytes to some places."""
    data = np.ascontiguousarray(numbers, "<i8").view(np.uint8).reshape(-1, 8)[:, :n_bytes]
    out[places[:, None] + np.arange(n_bytes)] = data


def _put_streams(out: NDArray[np.uint8], places: Ints, streams: Streams) -> None:
    """Copy the bits of each block to its place."""
    target, source = out.data, streams.data.data
    for place, start, size in zip(
        places.tolist(), streams.start.tolist(), streams.size.tolist(), strict=True
    ):
        target[place : place + size] = source[start : start + size]
