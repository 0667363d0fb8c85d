"""What EMSC gathers from spectra that a first correction has seen: who fits well, and how replicates differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.emsc_details import Coefficients
from msicube.preprocess.emsc_kernel import Scaling
from msicube.preprocess.moments import ClassMoments, Covariance, FloatArray, finite_spectra

#: Edges of the bins of relative residuals: sixteen a decade, so a threshold is met to within 16 %.
RESIDUAL_EDGES = np.logspace(-5, 1, 97)


@dataclass(frozen=True, eq=False)
class ResidualSums:
    """Spectra summed by how much of them a model leaves unexplained.

    Attributes
    ----------
    counts
        ``(bin,)`` spectra.
    sums
        ``(bin, channel)`` float64, their sums.
    n_other
        Finite spectra in no bin, because their scaling is not positive.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    counts: NDArray[np.int64]
    sums: FloatArray
    n_other: int
    n_nonfinite: int

    @classmethod
    def from_block(cls, block: NDArray[Any], labels: Any, *, coefficients: Coefficients) -> ResidualSums:
        """Return the sums of a block; labels do not matter to it."""
        block, n_nonfinite = finite_spectra(block)
        features = coefficients.kernel(block)
        b, residual = features[:, 0], features[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = residual / (b * coefficients.reference_rms())
        good = np.flatnonzero(b > 0)
        bins = np.digitize(relative[good], RESIDUAL_EDGES)
        counts = np.bincount(bins, minlength=len(RESIDUAL_EDGES) + 1)
        sums = np.zeros((len(counts), block.shape[1]))
        for number in np.flatnonzero(counts):
            sums[number] = block[good[bins == number]].sum(axis=0, dtype=np.float64)
        return cls(counts, sums, len(block) - len(good), n_nonfinite)

    @property
    def n(self) -> int:
        """Number of spectra in it."""
        return int(self.counts.sum()) + self.n_other

    def merge(self, other: ResidualSums) -> ResidualSums:
        """Return the sums of both sets of spectra."""
        return ResidualSums(
            self.counts + other.counts,
            self.sums + other.sums,
            self.n_other + other.n_other,
            self.n_nonfinite + other.n_nonfinite,
        )

    def through(self, affine: Affine) -> None:
        """Return None: it does not follow for other spectra."""

    def best(self, share: float) -> tuple[FloatArray, int]:
        """Return the mean of the spectra with the least residuals, and how many they are.

        Whole bins are taken until they hold ``share`` of all spectra. There are some, because the scalings against a
        mean have a mean of 1.
        """
        total = np.cumsum(self.counts)
        last = int(np.searchsorted(total, min(share * self.n, total[-1])))
        return self.sums[: last + 1].sum(axis=0) / total[last], int(total[last])


@dataclass(frozen=True, eq=False)
class WithinGroups:
    """The covariance of corrected spectra within groups of replicates.

    Attributes
    ----------
    total
        Of all spectra.
    groups
        The moments of each group.
    """

    total: Covariance
    groups: ClassMoments

    @classmethod
    def from_block(cls, block: NDArray[Any], labels: Any, *, correction: Scaling) -> WithinGroups:
        """Return that of a block of spectra that are yet to be corrected, with the group of each."""
        corrected = correction.kernel(np.ascontiguousarray(block))
        return cls(Covariance.from_block(corrected), ClassMoments.from_block(corrected, labels))

    @property
    def n(self) -> int:
        """Number of spectra in it."""
        return self.total.n

    @property
    def n_nonfinite(self) -> int:
        """Number of spectra left out because of a NaN or an infinity."""
        return self.total.n_nonfinite

    def merge(self, other: WithinGroups) -> WithinGroups:
        """Return the statistic of both sets of spectra."""
        return WithinGroups(self.total.merge(other.total), self.groups.merge(other.groups))

    def through(self, affine: Affine) -> None:
        """Return None: it does not follow for other spectra."""

    def scatter(self) -> FloatArray:
        """Return the scatter about the means of the groups ``(channel, channel)``: the total less that of the means."""
        groups = [group for group in self.groups.classes.values() if group.n]
        weight = np.sqrt([group.n for group in groups])[:, None]
        means = weight * (np.stack([group.mean for group in groups]) - self.total.mean)
        return self.total.scatter - means.T @ means

    def degrees_of_freedom(self) -> int:
        """Return how many independent differences between replicates there are."""
        return sum(max(group.n - 1, 0) for group in self.groups.classes.values())


def principal_components(scatter: FloatArray, n_components: int) -> tuple[FloatArray, FloatArray]:
    """Return the leading eigenvalues of a scatter matrix and their unit vectors ``(component, channel)``.

    By falling eigenvalue; the entry of largest absolute value of each vector is positive.
    """
    from scipy.linalg import eigh

    n = len(scatter)
    if n_components == 0:
        return np.empty(0), np.empty((0, n))
    values, vectors = eigh(scatter, subset_by_index=[n - n_components, n - 1])
    components = vectors.T[::-1]
    largest = np.argmax(np.abs(components), axis=1)
    signs = np.sign(components[np.arange(n_components), largest])[:, None]
    return np.maximum(values[::-1], 0), np.ascontiguousarray(components * signs)
