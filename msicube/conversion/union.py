"""The axis law ``union``: the values that were observed, over all slides of a study, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from msicube.axis import MAX_CHANNELS, Floats, SpectralBins
from msicube.errors import UsageError
from msicube.readers import PeakSource
from msicube.readers.ragged import plausible_mz, runs

#: Cells that wait for the next merge, at least.
PENDING = 2**20


class UnionOfValues:
    """Gathers m/z values, in any order and any portions, and makes the channels of their union.

    Values that are closer than the tolerance to their neighbour form a chain. A chain no wider than the tolerance is
    one channel; a wider one is cut into channels of equal ratio, each no wider than the tolerance. Without a tolerance
    every value is a channel.

    What is kept is not the values but the lowest and the highest of each cell of a grid finer than the tolerance:
    enough to find the same chains as from all values, and no more than a study's range over the tolerance.

    Parameters
    ----------
    ppm
        The tolerance; 0 for none.
    """

    def __init__(self, ppm: float) -> None:
        self.ppm = ppm
        self._width = float(np.log1p(ppm * 1e-6))
        self._low: Floats = np.empty(0)
        self._high: Floats = np.empty(0)
        self._pending: list[tuple[Floats, Floats]] = []
        self._waiting = 0

    def add(self, mz: NDArray[np.generic]) -> None:
        """Take values; those that can be no m/z are left out.

        Raises
        ------
        UsageError
            There are more different values than channels can be made.
        """
        values = np.unique(mz[plausible_mz(mz)].astype(np.float64))
        self._pending.append(self._cells(values, values))
        self._waiting += len(self._pending[-1][0])
        if self._waiting > max(PENDING, len(self._low)):
            self._merge()

    def bins(self) -> SpectralBins:
        """Return the channels.

        Raises
        ------
        UsageError
            There is no value, or more than channels can be made.
        """
        self._merge()
        low, high = self._low, self._high
        if not len(low):
            raise UsageError("there is no peak in any source: an axis cannot be made from nothing")
        first = np.flatnonzero(np.r_[True, low[1:] > high[:-1] * (1 + self.ppm * 1e-6)])
        start, end = low[first], high[np.r_[first[1:], len(low)] - 1]
        ratio = np.log(end / start)
        pieces = np.ones(len(start), np.intp)
        if self._width:
            pieces = np.maximum(pieces, np.ceil(ratio / self._width).astype(np.intp))
        self._check(int(pieces.sum()))
        chain = np.repeat(np.arange(len(start)), pieces)
        number = np.arange(len(chain)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        last = number == pieces[chain] - 1
        lower = start[chain] * np.exp(ratio[chain] * number / pieces[chain])
        top = np.where(last, end[chain], np.r_[lower[1:], np.inf])
        return SpectralBins((lower + top) / 2, lower, np.where(last, np.nextafter(top, np.inf), top))

    def _merge(self) -> None:
        low = np.concatenate([self._low, *(cells[0] for cells in self._pending)])
        high = np.concatenate([self._high, *(cells[1] for cells in self._pending)])
        order = np.argsort(low, kind="stable")
        self._low, self._high = self._cells(low[order], high[order])
        self._pending, self._waiting = [], 0
        self._check(len(self._low))

    def _cells(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Join neighbours of one cell, given in the order of their lowest value."""
        if not len(low):
            return low, high
        cell = np.floor(np.log(low) / (self._width / 2)) if self._width else low
        first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
        return low[first], np.maximum.reduceat(high, first)

    def _check(self, count: int) -> None:
        if count > MAX_CHANNELS:
            wider = f"a tolerance wider than {self.ppm:g} ppm" if self.ppm else "a tolerance (union:PPM)"
            raise UsageError(
                f"the union of the observed values makes more than {MAX_CHANNELS} channels: choose {wider}, or another "
                f"law"
            )


def union_bins(sources: Iterable[PeakSource], ppm: float) -> SpectralBins:
    """Return the channels of the union of all values of some sources.

    Raises
    ------
    UsageError
        There is no value, or more than channels can be made.
    """
    union = UnionOfValues(ppm)
    for source in sources:
        for start, stop in runs(source.lengths):
            union.add(source.read_mz(start, stop))
    return union.bins()
