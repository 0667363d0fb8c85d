"""Two clusters of spectra by k-means, exact and out of core: what its passes gather, and how it begins.

Lloyd's iteration needs of each pass only the sum and the number of the spectra in each cluster, and these merge. It
begins from a sample of all spectra that does not depend on their order: each distinct spectrum has a random number,
made of its bits and the seed, and those with the smallest numbers are kept, with how often each occurs.

References
----------
S. P. Lloyd, IEEE Transactions on Information Theory 28 (1982) 129. D. Arthur and S. Vassilvitskii, "k-means++: the
advantages of careful seeding", SODA 2007, 1027. The sample is that of E. Cohen and H. Kaplan, "Summarizing data using
bottom-k sketches", PODC 2007, 225.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.moments import FloatArray, finite_spectra

#: A start is good enough when an iteration lowers the inertia of the sample by less than this fraction.
START_TOL = 1e-4


@dataclass(frozen=True, eq=False)
class Sample:
    """Distinct spectra, chosen at random, and how often each of them occurs.

    Attributes
    ----------
    n
        Spectra that were looked at.
    keys
        ``(kept,)`` uint64, ascending: the random number of each.
    rows
        ``(kept, channel)`` spectra.
    counts
        ``(kept,)`` how often each occurs.
    size
        How many are kept at most.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    n: int
    keys: NDArray[np.uint64]
    rows: NDArray[Any]
    counts: NDArray[np.int64]
    size: int
    n_nonfinite: int = 0

    def merge(self, other: Sample) -> Sample:
        """Return the sample of both sets of spectra."""
        return _smallest(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.counts, other.counts]),
            self.size,
            self.n + other.n,
            self.n_nonfinite + other.n_nonfinite,
        )

    def through(self, affine: Affine) -> None:
        """Return None: a map changes the bits that the choice depends on."""


@dataclass(frozen=True)
class Sampler:
    """Takes the sample of a block; picklable.

    Attributes
    ----------
    size
        Distinct spectra that are kept.
    seed
        Of the random numbers.
    """

    size: int
    seed: int

    def __call__(self, block: NDArray[Any], labels: Any = None) -> Sample:
        """Return the sample of a block ``(n, channel)``; labels do not matter to it."""
        block, n_nonfinite = finite_spectra(block)
        counts = np.ones(len(block), np.int64)
        return _smallest(_keys(block, self.seed), block, counts, self.size, len(block), n_nonfinite)


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sum and number of the spectra in each of two clusters.

    Attributes
    ----------
    sums
        ``(2, channel)`` float64.
    counts
        ``(2,)`` int64.
    inertia
        Sum of squared distances to the centre of the own cluster.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    sums: FloatArray
    counts: NDArray[np.int64]
    inertia: float
    n_nonfinite: int = 0

    @property
    def n(self) -> int:
        """Number of spectra in both."""
        return int(self.counts.sum())

    def merge(self, other: ClusterSums) -> ClusterSums:
        """Return the sums of both sets of spectra."""
        return ClusterSums(
            self.sums + other.sums,
            self.counts + other.counts,
            self.inertia + other.inertia,
            self.n_nonfinite + other.n_nonfinite,
        )

    def through(self, affine: Affine) -> None:
        """Return None: other spectra lie in other clusters."""

    def centres(self) -> FloatArray | None:
        """Return the ``(2, channel)`` means of the clusters, or None where one of them is empty."""
        return None if (self.counts == 0).any() else self.sums / self.counts[:, None]


@dataclass(frozen=True, eq=False)
class Clusterer:
    """Sums the spectra of a block by the nearer of two centres; picklable.

    Attributes
    ----------
    centres
        ``(2, channel)`` float64.
    """

    centres: FloatArray

    def __call__(
        self, block: NDArray[Any], labels: Any = None, counts: NDArray[np.int64] | None = None
    ) -> ClusterSums:
        """Return the sums of a block ``(n, channel)``, in which each spectrum occurs ``counts`` times."""
        block, n_nonfinite = finite_spectra(block)
        values = block.astype(np.float64, copy=False)
        nearer = second_is_nearer(values, self.centres)
        member = np.stack([~nearer, nearer]).astype(np.float64)
        square = np.einsum("ij,ij->i", values, values)
        if counts is not None:
            member *= counts
            square *= counts
        n, sums = member.sum(axis=1), member @ values
        # The squared distances, multiplied out. The sums depend on the clusters alone and not on the centres, so that
        # they stay the same to the bit once no spectrum changes its cluster.
        centres = self.centres
        inertia = square.sum() - 2 * (centres * sums).sum() + n @ (centres**2).sum(axis=1)
        return ClusterSums(sums, n.astype(np.int64), max(float(inertia), 0.0), n_nonfinite)


def second_is_nearer(values: FloatArray, centres: FloatArray) -> NDArray[np.bool_]:
    """Return which of ``(n, channel)`` spectra lie nearer to the second of two centres; of equals the first counts."""
    direction, middle = centres[1] - centres[0], centres.mean(axis=0)
    nearer: NDArray[np.bool_] = values @ direction > middle @ direction
    return nearer


def first_centres(sample: Sample, *, n_init: int, seed: int) -> FloatArray | None:
    """Return the best of some k-means clusterings of a sample, or None where its spectra are all alike.

    Parameters
    ----------
    sample
        To cluster, in memory.
    n_init
        How often to begin anew, from centres that k-means++ draws.
    seed
        Of the draws.
    """
    if len(sample.rows) < 2:
        return None
    random = np.random.default_rng(seed)
    values = sample.rows.astype(np.float64)
    best: tuple[float, FloatArray] | None = None
    for _ in range(n_init):
        inertia, centres = _cluster(values, sample.counts, _draw(values, sample.counts, random))
        if best is None or inertia < best[0]:
            best = inertia, centres
    return None if best is None else best[1]


def _cluster(values: FloatArray, counts: NDArray[np.int64], centres: FloatArray) -> tuple[float, FloatArray]:
    """Iterate in memory until little changes; return the inertia and the centres."""
    inertia = np.inf
    while True:
        found = Clusterer(centres)(values, counts=counts)
        moved = found.centres()
        if moved is None or not found.inertia < inertia * (1 - START_TOL):
            return found.inertia, centres
        inertia, centres = found.inertia, moved


def _draw(values: FloatArray, counts: NDArray[np.int64], random: np.random.Generator) -> FloatArray:
    """Return two spectra: any one, and one that is drawn by its squared distance from it (k-means++)."""
    first = values[random.choice(len(values), p=counts / counts.sum())]
    weight = ((values - first) ** 2).sum(axis=1) * counts
    return np.stack([first, values[random.choice(len(values), p=weight / weight.sum())]])


def _keys(block: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """Return a random number for each spectrum that depends on its bits and the seed alone."""
    words = np.ascontiguousarray(block).view(np.uint32).astype(np.uint64)
    random = np.random.default_rng(seed)
    odd = random.integers(0, 2**64, words.shape[1], np.uint64, endpoint=False) | np.uint64(1)
    words *= odd
    words ^= words >> np.uint64(32)
    keys: NDArray[np.uint64] = (words * odd[::-1]).sum(axis=1, dtype=np.uint64)
    # The finaliser of splitmix64: Steele, Lea and Flood, OOPSLA 2014, 453.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys ^= keys >> np.uint64(shift)
        keys *= np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))


def _smallest(
    keys: NDArray[np.uint64],
    rows: NDArray[Any],
    counts: NDArray[np.int64],
    size: int,
    n: int,
    n_nonfinite: int,
) -> Sample:
    """Return the distinct spectra with the smallest keys."""
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    total = np.bincount(inverse.ravel(), weights=counts, minlength=len(unique)).astype(np.int64)
    return Sample(n, unique[:size], rows[first[:size]], total[:size], size, n_nonfinite)
