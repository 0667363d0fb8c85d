"""The sequences of Zstandard blocks in which every match repeats a zero byte, and their bits.

A sequence is a run of neighbouring values with one zero byte after it, as literals, and a match at the distance of one
byte that repeats the zero up to the next run. So all matches have the same offset code (the repeated offset, which is 1
at the start of a frame), and a sequence is two lengths. Both are coded with fixed tables of states, chosen so that the
states of all sequences are found at once and not one from the other:

- each code for the length of a match has one state, so the state depends on nothing else;
- literals are nearly always one value and its zero. The states of that number lead from one to the other by a walk that
  begins anew wherever another number stands, and which is looked up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.zstd.fse import FSETable, Ints, LengthCodes

#: The least match has three bytes: the rest of the first of some zeros.
MIN_MATCH = 3
#: Extra bits of each code, RFC 8878, 3.1.1.3.2.1.1.
LITERAL_CODES = LengthCodes.of(0, [0] * 16 + [1] * 4 + [2] * 2 + [3] * 2 + [4] + list(range(6, 17)))
MATCH_CODES = LengthCodes.of(
    MIN_MATCH, [0] * 32 + [1] * 4 + [2] * 2 + [3] * 2 + [4] * 2 + [5] + list(range(7, 17))
)
#: The lengths of matches that can be met are whole words less a byte; the codes 1 to 3 only fill the table.
MATCH_TABLE = FSETable.of([int(code < 4 or code % 4 == 0 or code > 32) for code in range(53)], 5)
LITERAL_LOG = 8
#: Bits of both states.
STATES = LITERAL_LOG + MATCH_TABLE.log
_ONE_LITERAL = 1  # the code of the zero byte alone, with which a block begins


class Sequences(NamedTuple):
    """The sequences of some blocks, in the order in which they are written: from the last one back.

    Attributes
    ----------
    run, gap
        ``(sequence,)`` neighbouring values, and the zero values after them.
    begin
        ``(block + 1,)`` the first of each block, the last block first, and how many there are.
    lead
        ``(block,)`` the zero values before the first value of a block: one more sequence, where there are any.
    """

    run: Ints
    gap: Ints
    begin: Ints
    lead: Ints

    @classmethod
    def of(cls, gap: Ints, start: Ints, lead: Ints) -> Sequences:
        """Return the sequences of blocks.

        Parameters
        ----------
        gap
            ``(value,)`` zero values after each.
        start
            ``(block,)`` the first value of each.
        lead
            ``(block,)`` zero values before that.
        """
        value = np.flatnonzero(gap)
        first = np.searchsorted(value, start)
        run = np.empty_like(value)
        run[:1], run[1:] = value[:1] + 1, value[1:] - value[:-1]
        # Values that end a block belong to no sequence, and to no run of the next block.
        some = np.diff(first, append=len(value)) > 0
        run[first[some]] = value[first[some]] - start[some] + 1
        begin = len(value) - np.append(first, len(value))[::-1]
        return cls(run[::-1].copy(), gap.take(value)[::-1].copy(), begin, lead[::-1])

    @property
    def counts(self) -> Ints:
        """``(block,)`` sequences of each block, the first block first."""
        counts: Ints = (np.diff(self.begin) + (self.lead > 0))[::-1]
        return counts


class Streams(NamedTuple):
    """The bits of the sequences of some blocks.

    Attributes
    ----------
    data
        Bytes of all of them.
    start, size
        ``(block,)`` where those of each block lie, the first block first.
    """

    data: NDArray[np.uint8]
    start: Ints
    size: Ints


class SequenceCoder:
    """Makes streams of sequences.

    Parameters
    ----------
    itemsize
        Bytes of a value, 4 or 8.
    most
        Values in a block.
    """

    def __init__(self, itemsize: int, most: int) -> None:
        self._itemsize = itemsize
        self._walk = _Walk(itemsize + 1)
        # What stands for the zeros after a value, all their bytes but the first, by how many values they are.
        code, extra, bits = MATCH_CODES.split(np.maximum(np.arange(most + 1) * itemsize - 1, MIN_MATCH))
        self._match = MATCH_TABLE.first[code], bits, extra
        #: Descriptions of the tables for literals and for matches.
        self.tables = self._walk.table.description(), MATCH_TABLE.description()

    def streams(self, sequences: Sequences) -> Streams:
        """Return the bits of the sequences of each block.

        A decoder begins at the end of a stream: the last sequence has the lowest bits. Above the sequences that end a
        run stand the states that they begin with, or the sequence of the first zeros, and then a one.
        """
        begin = sequences.begin
        cell, state, field, bits = self._fields(sequences)
        top, top_bits = self._tops(cell, state, sequences)
        end = np.concatenate([[0], np.cumsum(bits)])
        length = np.diff(end[begin])
        words = (length + top_bits) // 64 + 1
        base = (np.cumsum(words) - words) * 64
        place = np.repeat(base - end[begin[:-1]], np.diff(begin))
        place += end[:-1]
        out = np.zeros(int(words.sum()) + 1, np.uint64)
        _merge(out, place, field.view(np.uint64))
        top |= 1 << top_bits
        _merge(out, base + length, top.view(np.uint64))
        return Streams(out.view(np.uint8), (base // 8)[::-1], ((length + top_bits) // 8 + 1)[::-1])

    def _fields(self, sequences: Sequences) -> tuple[Ints, Ints, Ints, Ints]:
        """Return of each sequence that ends a run both states, its bits in the stream, and how many they are.

        From the top: what the match and the number of literals are above their baselines, and, but in the last sequence
        of a block, what leads to the next states.
        """
        run, gap, begin, _ = sequences
        last = begin[:-1][np.diff(begin) > 0]
        cell, bits, field = (table.take(gap) for table in self._match)
        other = np.flatnonzero(run != 1)
        code, extra, extra_bits = LITERAL_CODES.split(run[other] * self._itemsize + 1)
        state = self._walk.states(len(run), other, code, last)
        following = np.empty_like(state)  # the state of the next sequence, which is written before
        following[:1], following[1:] = 0, state[:-1]
        step_bits, step = self._walk.bits.take(following), self._walk.step.take(following)
        # Where the number of literals is another than usual, its own bits, and all of the next state.
        field[other] = field[other] << extra_bits | extra
        bits[other] += extra_bits
        step_bits[other], step[other] = LITERAL_LOG, following[other]
        plain, plain_bits = field[last], bits[last]
        field <<= step_bits
        field |= step
        field <<= MATCH_TABLE.log
        field[1:] |= cell[:-1]
        bits += step_bits
        bits += MATCH_TABLE.log
        field[last], bits[last] = plain, plain_bits
        return cell, state, field, bits

    def _tops(self, cell: Ints, state: Ints, sequences: Sequences) -> tuple[Ints, Ints]:
        """Return what stands above the sequences of each block, and in how many bits."""
        begin, lead = sequences.begin, sequences.lead
        top, bits = np.zeros_like(lead), np.zeros_like(lead)
        some = np.diff(begin) > 0
        first = begin[1:][some] - 1
        top[some], bits[some] = state[first] << MATCH_TABLE.log | cell[first], STATES
        # Before them the sequence of the first zeros: its own states, its match, and all bits of the next states.
        led = np.flatnonzero(lead)
        match_cell, match_bits, match = (table.take(lead[led]) for table in self._match)
        states = int(self._walk.table.first[_ONE_LITERAL]) << MATCH_TABLE.log | match_cell
        top[led] |= (states << match_bits | match) << bits[led]
        bits[led] += STATES + match_bits
        return top, bits


class _Walk:
    """The states of numbers of literals, most of which are the usual one.

    Parameters
    ----------
    usual
        The usual number; less than 16, so that it is its own code.

    Attributes
    ----------
    table
        All states.
    bits, step
        ``(state,)`` how many bits lead there from a state of the usual number, and which.
    """

    def __init__(self, usual: int) -> None:
        shares = [1] * len(LITERAL_CODES.bits)
        shares[usual] += (1 << LITERAL_LOG) - len(shares)
        self._usual = usual
        self.table = FSETable.of(shares, LITERAL_LOG)
        self._before, self.step, self.bits = self.table.leading_to(usual)
        self._walks = self.table.first[:, None]

    def states(self, count: int, other: NDArray[np.intp], code: Ints, last: Ints) -> Ints:
        """Return the state of each sequence, from the last one back.

        Parameters
        ----------
        count
            Of the sequences.
        other, code
            Sequences of another number of literals than usual, and their codes.
        last
            The last sequence of each block, whose state can be any of its code.
        """
        anew = np.zeros(count, bool)
        anew[other] = True
        anew[last] = True
        at = np.flatnonzero(anew)
        symbol = np.full(len(at), self._usual)
        symbol[np.searchsorted(at, other)] = code
        steps = np.diff(at, append=count)
        walks = self._of(int(steps.max(initial=0)))
        flat = np.repeat(symbol * walks.shape[1] - at, steps)
        flat += np.arange(count)
        return walks.ravel().take(flat)

    def _of(self, steps: int) -> Ints:
        """Return ``(code, step)`` states of the usual number that lead in so many steps to the first one of a code."""
        walks = self._walks
        while walks.shape[1] < steps:
            more = np.empty_like(walks)
            state = walks[:, -1]
            for step in range(more.shape[1]):
                more[:, step] = state = self._before[state]
            walks = np.concatenate([walks, more], axis=1)
        self._walks = walks
        return walks


def _merge(out: NDArray[np.uint64], place: Ints, field: NDArray[np.uint64]) -> None:
    """Write fields at places that rise, counted in bits, into words; they are overwritten."""
    if not len(place):
        return
    word, shift = place >> 6, (place & 63).view(np.uint64)
    last = np.append(np.flatnonzero(word[1:] != word[:-1]), len(word) - 1)
    start = np.concatenate([[0], last[:-1] + 1])
    # Only the last field in a word can reach into the next.
    over = (field[last] >> np.uint64(1)) >> (np.uint64(63) - shift[last])
    field <<= shift
    words = word[last]
    out[words] |= np.bitwise_or.reduceat(field, start)
    out[words + 1] |= over
