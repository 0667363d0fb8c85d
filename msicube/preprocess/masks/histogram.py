"""A histogram of one number for each spectrum, with the floats themselves as bins: fine everywhere, without a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.moments import FloatArray, finite_spectra

#: Bits of a float32 that a bin leaves out: a bin is as wide as 0.1 % of its values.
COARSE_BITS = 13


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many values fell into each bin, and their sum; a bin is the leading bits of a float32.

    Attributes
    ----------
    bins
        ``(bin,)`` int32, ascending as numbers of bits; those that hold a value.
    counts
        ``(bin,)`` int64.
    sums
        ``(bin,)`` float64.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    bins: NDArray[np.int32]
    counts: NDArray[np.int64]
    sums: FloatArray
    n_nonfinite: int = 0

    @classmethod
    def of(cls, values: FloatArray, n_nonfinite: int = 0) -> Histogram:
        """Return the histogram of ``(n,)`` finite values."""
        with np.errstate(over="ignore"):
            bits = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32).view(np.int32) >> COARSE_BITS
        return cls._add(bits, np.ones(len(values), np.int64), values, n_nonfinite)

    @classmethod
    def _add(cls, bins: Any, counts: Any, sums: Any, n_nonfinite: int) -> Histogram:
        unique, inverse = np.unique(bins, return_inverse=True)
        return cls(
            unique,
            np.bincount(inverse.ravel(), weights=counts, minlength=len(unique)).astype(np.int64),
            np.bincount(inverse.ravel(), weights=sums, minlength=len(unique)).astype(np.float64),
            n_nonfinite,
        )

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of both sets of spectra."""
        return self._add(
            np.concatenate([self.bins, other.bins]),
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.sums, other.sums]),
            self.n_nonfinite + other.n_nonfinite,
        )

    def through(self, affine: Affine) -> None:
        """Return None: the values of mapped spectra are others."""

    def ascending(self) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the mean of each bin, ascending, and how many values it holds."""
        means = self.sums / self.counts
        order = np.argsort(means, kind="stable")
        return means[order], self.counts[order]


@dataclass(frozen=True)
class HistogramOf:
    """Makes the histogram of a block; picklable.

    Attributes
    ----------
    value
        Takes finite spectra ``(n, channel)``, returns ``(n,)`` float64.
    """

    value: Callable[[NDArray[Any]], FloatArray]

    def __call__(self, block: NDArray[Any], labels: Any = None) -> Histogram:
        """Return the histogram of a block; labels do not matter to it."""
        block, n_nonfinite = finite_spectra(block)
        return Histogram.of(self.value(block), n_nonfinite)


def total(block: NDArray[Any]) -> FloatArray:
    """Return the total ion current of each spectrum."""
    return block.sum(axis=1, dtype=np.float64)


def otsu(values: FloatArray, counts: NDArray[np.int64]) -> float:
    """Return the threshold that parts weighted, ascending values into two classes of the least variance.

    Values of at least the threshold are of the upper class. With one value there is nothing to part: it is returned.

    References
    ----------
    N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62.
    """
    if len(values) == 1:
        return float(values[0])
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * values)
    above = counts.sum() - below
    difference = (mass[-1] - mass[:-1]) / above - mass[:-1] / below
    best = int(np.argmax(below * (above / counts.sum()) * difference**2))
    return float((values[best] + values[best + 1]) / 2)


def median(values: FloatArray, counts: NDArray[np.int64]) -> float:
    """Return the median of weighted, ascending values."""
    return float(values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])


_LARGEST = float(np.finfo(np.float32).max)
