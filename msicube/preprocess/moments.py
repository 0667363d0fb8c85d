"""Statistics that merge: what a step learns from spectra it sees one block at a time.

Two statistics of disjoint sets of spectra merge into that of their union by the formula of Chan, Golub and LeVeque, so
a tree of merges over any partition gives the moments of the whole, in float64, without a second look at the data.

A spectrum with a NaN or an infinity among the values that a statistic sees is left out of it as a whole, and counted.

References
----------
T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
COMPSTAT 1982, 30-41; for covariances: P. Pebay, Sandia report SAND2008-6212 (2008).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine

FloatArray = NDArray[np.float64]
#: Squares below this lose digits in float32, or vanish.
_SMALLEST = 1e-30


class Statistic(Protocol):
    """What a pass over spectra gathers."""

    @property
    def n(self) -> int:
        """Number of spectra in it."""

    @property
    def n_nonfinite(self) -> int:
        """Number of spectra left out because of a NaN or an infinity."""

    def merge(self, other: Any) -> Any:
        """Return the statistic of both sets of spectra."""

    def through(self, affine: Affine) -> Any:
        """Return the statistic of the mapped spectra, or None where it does not follow from this one."""


def finite_spectra(block: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the spectra whose values are all finite, and the number of the others.

    Without a copy where all are finite, which the sums tell at the cost of one read.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        suspicious = ~np.isfinite(block.sum(axis=1, dtype=np.float64))
    if not suspicious.any():
        return block, 0
    keep = np.isfinite(block).all(axis=1)  # sums of finite values may overflow as well
    return block[keep], int(len(block) - keep.sum())


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of each channel.

    Attributes
    ----------
    n
        Spectra in it.
    mean
        ``(channel,)`` float64.
    m2
        ``(channel,)`` float64, the sum of squared deviations from the mean.
    n_nonfinite
        Spectra left out.
    """

    n: int
    mean: FloatArray
    m2: FloatArray
    n_nonfinite: int = 0

    @classmethod
    def empty(cls, n_channels: int) -> Moments:
        """Return the moments of no spectra, the identity of :meth:`merge`."""
        return cls(0, np.zeros(n_channels), np.zeros(n_channels))

    @classmethod
    def from_block(cls, block: NDArray[Any]) -> Moments:
        """Return the moments of a block ``(n, channel)``."""
        block, n_nonfinite = finite_spectra(block)
        n, n_channels = block.shape
        if n == 0:
            return cls(0, np.zeros(n_channels), np.zeros(n_channels), n_nonfinite)
        deviation = block.astype(np.float64)
        mean = deviation.sum(axis=0) / n
        deviation -= mean
        np.multiply(deviation, deviation, out=deviation)
        return cls(n, mean, deviation.sum(axis=0), n_nonfinite)

    @property
    def var(self) -> FloatArray:
        """Population variance (division by ``n``)."""
        return self.m2 / max(self.n, 1)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of spectra."""
        n, n_nonfinite = self.n + other.n, self.n_nonfinite + other.n_nonfinite
        if self.n == 0 or other.n == 0:
            larger = other if self.n == 0 else self
            return Moments(n, larger.mean, larger.m2, n_nonfinite)
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        m2 = self.m2 + other.m2 + delta * delta * (self.n * (other.n / n))
        return Moments(n, mean, m2, n_nonfinite)

    def through(self, affine: Affine) -> Moments | None:
        """Return the moments of the mapped spectra; None where channels mix, which takes their covariance."""
        if affine.mixes:
            return None
        columns = slice(None) if affine.columns is None else affine.columns
        mean = (self.mean[columns] - affine.centre) * affine.weight + affine.offset
        return Moments(self.n, mean, self.m2[columns] * affine.weight**2, self.n_nonfinite)


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """The moments of each class of spectra; one class, None, where there are no labels.

    Attributes
    ----------
    classes
        Class to its moments.
    """

    classes: Mapping[Hashable, Moments] = field(default_factory=dict)

    @classmethod
    def from_block(cls, block: NDArray[Any], labels: Any = None) -> ClassMoments:
        """Return the moments of a block ``(n, channel)``.

        Parameters
        ----------
        block
            Spectra.
        labels
            The class of all of them, or an ``(n,)`` array with that of each.
        """
        if not isinstance(labels, np.ndarray):
            return cls({labels: Moments.from_block(block)})
        return cls({c.item(): Moments.from_block(block[labels == c]) for c in np.unique(labels)})

    @property
    def n(self) -> int:
        """Number of spectra in it."""
        return sum(moments.n for moments in self.classes.values())

    @property
    def n_nonfinite(self) -> int:
        """Number of spectra left out because of a NaN or an infinity."""
        return sum(moments.n_nonfinite for moments in self.classes.values())

    def total(self) -> Moments:
        """Return the moments of all classes together, merged in the order of their names."""
        ordered = [self.classes[name] for name in sorted(self.classes, key=str)]
        return reduce(Moments.merge, ordered)

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Return the moments of both sets of spectra."""
        merged = dict(self.classes)
        for name, moments in other.classes.items():
            merged[name] = merged[name].merge(moments) if name in merged else moments
        return ClassMoments(merged)

    def through(self, affine: Affine) -> ClassMoments | None:
        """Return the moments of the mapped spectra; None where channels mix."""
        mapped = {name: moments.through(affine) for name, moments in self.classes.items()}
        known = {name: moments for name, moments in mapped.items() if moments is not None}
        return ClassMoments(known) if len(known) == len(mapped) else None


@dataclass(frozen=True, eq=False)
class Covariance:
    """Count, mean and scatter matrix of spectra.

    Attributes
    ----------
    n
        Spectra in it.
    mean
        ``(channel,)`` float64.
    scatter
        ``(channel, channel)`` float64, the sum of outer products of deviations from the mean.
    n_nonfinite
        Spectra left out.
    """

    n: int
    mean: FloatArray
    scatter: FloatArray
    n_nonfinite: int = 0

    @classmethod
    def empty(cls, n_channels: int) -> Covariance:
        """Return the covariance of no spectra, the identity of :meth:`merge`."""
        return cls(0, np.zeros(n_channels), np.zeros((n_channels, n_channels)))

    @classmethod
    def from_block(cls, block: NDArray[Any], labels: Any = None) -> Covariance:
        """Return the covariance of a block ``(n, channel)``; labels do not matter to it.

        The deviations from the block's mean are multiplied in the type of the block, which for float32 is twice as fast
        and rounds each sum over a block to about 1e-6 of its size; everything else is float64.
        """
        block, n_nonfinite = finite_spectra(block)
        if block.dtype == np.float32 and len(block):
            n, mean = len(block), block.sum(axis=0, dtype=np.float64) / len(block)
            deviation = block - mean.astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                product = deviation.T @ deviation
            if _SMALLEST < product.diagonal().max() < np.inf:
                return cls(n, mean, product.astype(np.float64), n_nonfinite)
        return replace(cls.from_block_exactly(block), n_nonfinite=n_nonfinite)

    @classmethod
    def from_block_exactly(cls, block: NDArray[Any], labels: Any = None) -> Covariance:
        """Return the covariance of a block, multiplied in float64."""
        block, n_nonfinite = finite_spectra(block)
        n, n_channels = block.shape
        if n == 0:
            return cls(0, np.zeros(n_channels), np.zeros((n_channels, n_channels)), n_nonfinite)
        deviation = block.astype(np.float64)
        mean = deviation.sum(axis=0) / n
        deviation -= mean
        return cls(n, mean, deviation.T @ deviation, n_nonfinite)

    def merge(self, other: Covariance) -> Covariance:
        """Return the covariance of both sets of spectra."""
        n, n_nonfinite = self.n + other.n, self.n_nonfinite + other.n_nonfinite
        if self.n == 0 or other.n == 0:
            larger = other if self.n == 0 else self
            return Covariance(n, larger.mean, larger.scatter, n_nonfinite)
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        scatter = np.outer(delta, delta)
        scatter *= self.n * (other.n / n)
        scatter += self.scatter
        scatter += other.scatter
        return Covariance(n, mean, scatter, n_nonfinite)

    def through(self, affine: Affine) -> Covariance:
        """Return the covariance of the mapped spectra."""
        mean, scatter, weight = self.mean, self.scatter, affine.weight
        if affine.columns is not None:
            mean, scatter = mean[affine.columns], scatter[np.ix_(affine.columns, affine.columns)]
        if affine.mixes:
            mean, scatter = (mean - affine.centre) @ weight + affine.offset, weight.T @ scatter @ weight
        else:
            mean, scatter = (
                (mean - affine.centre) * weight + affine.offset,
                weight[:, None] * scatter * weight,
            )
        return Covariance(self.n, mean, scatter, self.n_nonfinite)
