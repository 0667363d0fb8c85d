"""Tables of finite state entropy coding, as Zstandard has them (RFC 8878, 4.1), and its codes for lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LengthCodes:
    """Codes that stand for ranges of lengths: what a length is above the first of its range goes into extra bits.

    Attributes
    ----------
    baseline
        ``(code,)`` the first length of each range.
    bits
        ``(code,)`` extra bits.
    """

    baseline: Ints
    bits: Ints

    @classmethod
    def of(cls, least: int, bits: Sequence[int]) -> LengthCodes:
        """Return codes whose ranges follow each other from a least length on; the last few jump to powers of two."""
        widths = np.array(bits, np.int64)
        baseline = least + np.concatenate([[0], np.cumsum(1 << widths)[:-1]])
        return cls(baseline, widths)

    def split(self, lengths: Ints) -> tuple[Ints, Ints, Ints]:
        """Return code, extra value and number of extra bits of each length."""
        code = np.searchsorted(self.baseline, lengths, side="right") - 1
        return code, lengths - self.baseline[code], self.bits[code]


@dataclass(frozen=True)
class FSETable:
    """The states of a decoder: each gives a symbol, and with some bits of the stream the next state.

    Attributes
    ----------
    probabilities
        ``(symbol,)`` states of each symbol; their sum is a power of two.
    log
        Its logarithm.
    symbol
        ``(state,)`` what it gives.
    bits
        ``(state,)`` how many bits lead to the next state.
    base
        ``(state,)`` the next state where these bits are 0.
    """

    probabilities: Ints
    log: int
    symbol: Ints
    bits: Ints
    base: Ints

    @classmethod
    def of(cls, probabilities: Sequence[int], log: int) -> FSETable:
        """Return the table that a decoder makes from probabilities of 0, 1 and more (RFC 8878, 4.1.1)."""
        size = 1 << log
        assert sum(probabilities) == size, "the probabilities are to be the shares of a power of two"
        step = (size >> 1) + (size >> 3) + 3
        symbol = np.empty(size, np.int64)
        symbol[np.arange(size) * step % size] = np.repeat(np.arange(len(probabilities)), probabilities)
        bits, base = np.empty(size, np.int64), np.empty(size, np.int64)
        count = list(probabilities)
        for state, which in enumerate(symbol.tolist()):
            bits[state] = log - (count[which].bit_length() - 1)
            base[state] = (count[which] << int(bits[state])) - size
            count[which] += 1
        return cls(np.array(probabilities, np.int64), log, symbol, bits, base)

    @cached_property
    def first(self) -> Ints:
        """``(symbol,)`` the first state of each; 0 where it has none."""
        first = np.zeros(len(self.probabilities), np.int64)
        for state, which in reversed(list(enumerate(self.symbol.tolist()))):
            first[which] = state
        return first

    def leading_to(self, symbol: int) -> tuple[Ints, Ints, Ints]:
        """Return what leads from a symbol to each state: the state of the symbol, the bits, and their number.

        Every state follows exactly one state of each symbol that has any.
        """
        before, value, bits = (np.empty(1 << self.log, np.int64) for _ in range(3))
        for state in np.flatnonzero(self.symbol == symbol).tolist():
            start, width = int(self.base[state]), int(self.bits[state])
            span = slice(start, start + (1 << width))
            before[span], value[span], bits[span] = state, np.arange(1 << width), width
        return before, value, bits

    def description(self) -> bytes:
        """Return the probabilities as a decoder reads them: each in as few bits as what is left to share allows."""
        stream, length = self.log - 5, 4

        def put(value: int, width: int) -> None:
            nonlocal stream, length
            stream |= value << length
            length += width

        left, number = 1 << self.log, 0
        shares = [int(share) for share in self.probabilities]
        while left:
            _put_share(put, shares[number] + 1, left)
            left -= shares[number]
            number += 1
            if shares[number - 1] == 0:
                number += _put_zeros(put, shares[number:])
        return stream.to_bytes(-(-length // 8), "little")


def _put_share(put: Callable[[int, int], None], value: int, left: int) -> None:
    """Write a probability plus 1, which is at most ``left + 1``: the small ones take a bit less."""
    width = (left + 1).bit_length()
    short = (1 << width) - 1 - (left + 1)
    half = 1 << (width - 1)
    if value < short:
        put(value, width - 1)
    else:
        put(value if value < half else value + short, width)


def _put_zeros(put: Callable[[int, int], None], shares: list[int]) -> int:
    """Write how many more probabilities are 0, in twos of bits, and return it."""
    zeros = next((number for number, share in enumerate(shares) if share), len(shares))
    for _ in range(zeros // 3):
        put(3, 2)
    put(zeros % 3, 2)
    return zeros
