"""Leading eigenvectors of a covariance too large to form: what a pass gathers, and the search that it feeds.

A pass gathers the covariance times a few vectors. The search keeps the vectors of all passes, orthonormal, together
with their products, and takes the best approximations that their span holds (randomised block Lanczos with full
re-orthogonalisation and Rayleigh-Ritz). For the same passes that is never worse than plain subspace iteration, which
keeps those of the last pass only, and where the variances fall slowly it takes a fraction of them.

References
----------
C. Musco and C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
decomposition", NIPS 28 (2015). N. Halko, P. G. Martinsson and J. A. Tropp, "Finding structure with randomness", SIAM
Review 53 (2011) 217. Y. Saad, "Numerical Methods for Large Eigenvalue Problems", 2nd edition (2011), chapters 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.moments import FloatArray, finite_spectra

#: Bytes of vectors and products that a search holds before it keeps only the best of them.
SEARCH_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Sketch:
    """Moments of spectra, and their scatter matrix times some vectors; the matrix itself is never formed.

    Attributes
    ----------
    n
        Spectra in it.
    mean
        ``(channel,)`` float64.
    mean_score
        ``(vector,)`` float64: the mean times the vectors.
    m2
        Sum of squared deviations from the mean over all channels: the trace of the scatter matrix.
    product
        ``(channel, vector)`` float64: the scatter matrix times the vectors.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    n: int
    mean: FloatArray
    mean_score: FloatArray
    m2: float
    product: FloatArray
    n_nonfinite: int = 0

    def merge(self, other: Sketch) -> Sketch:
        """Return the sketch of both sets of spectra."""
        n, n_nonfinite = self.n + other.n, self.n_nonfinite + other.n_nonfinite
        if self.n == 0 or other.n == 0:
            larger = other if self.n == 0 else self
            return Sketch(n, larger.mean, larger.mean_score, larger.m2, larger.product, n_nonfinite)
        share, weight = other.n / n, self.n * (other.n / n)
        delta, delta_score = other.mean - self.mean, other.mean_score - self.mean_score
        product = np.outer(weight * delta, delta_score)
        product += self.product
        product += other.product
        return Sketch(
            n,
            self.mean + share * delta,
            self.mean_score + share * delta_score,
            self.m2 + other.m2 + weight * float(delta @ delta),
            product,
            n_nonfinite,
        )

    def through(self, affine: Affine) -> None:
        """Return None: the sketch of mapped spectra does not follow from this one."""


@dataclass(frozen=True, eq=False)
class Sketcher:
    """Makes the sketch of a block; picklable.

    Attributes
    ----------
    vectors
        ``(channel, vector)`` float64.
    exactly
        Whether to multiply in float64, rather than in the type of the block.
    """

    vectors: FloatArray
    exactly: bool = False
    _rounded: dict[np.dtype[Any], NDArray[Any]] = field(default_factory=dict, repr=False)

    def __call__(self, block: NDArray[Any], labels: Any = None) -> Sketch:
        """Return the sketch of a block ``(n, channel)``; labels do not matter to it."""
        block, n_nonfinite = finite_spectra(block)
        n_channels, n_vectors = self.vectors.shape
        n = len(block)
        if n == 0:
            nothing = np.zeros((n_channels, n_vectors))
            return Sketch(0, np.zeros(n_channels), np.zeros(n_vectors), 0.0, nothing, n_nonfinite)
        if self.exactly:
            block = block.astype(np.float64, copy=False)
        mean = block.sum(axis=0, dtype=np.float64) / n
        deviation = block - mean.astype(block.dtype)
        product = deviation.T @ (deviation @ self._vectors(block.dtype))
        m2 = float(np.einsum("ij,ij->i", deviation, deviation).sum(dtype=np.float64))
        return Sketch(n, mean, mean @ self.vectors, m2, product.astype(np.float64), n_nonfinite)

    def _vectors(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the vectors in a block's type."""
        if dtype not in self._rounded:
            self._rounded[dtype] = self.vectors.astype(dtype)
        return self._rounded[dtype]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rounded": {}}


@dataclass(frozen=True, eq=False)
class Search:
    """A subspace, and what the scatter matrix makes of it.

    Attributes
    ----------
    basis
        ``(channel, vector)`` float64, orthonormal.
    product
        ``(channel, vector)`` float64: the scatter matrix times the basis.
    values
        ``(wanted,)`` float64: eigenvalues that the subspace holds, falling (Ritz values).
    vectors
        ``(channel, wanted)`` float64: their eigenvectors.
    misses
        ``(channel, wanted)`` float64: by what each falls short of being one, ``scatter @ vector - value * vector``.
    """

    basis: FloatArray
    product: FloatArray
    values: FloatArray
    vectors: FloatArray
    misses: FloatArray

    @classmethod
    def of(cls, basis: FloatArray, product: FloatArray, n_wanted: int) -> Search:
        """Return the best ``n_wanted`` eigenpairs that a subspace holds (Rayleigh-Ritz)."""
        small = basis.T @ product
        values, rotation = np.linalg.eigh((small + small.T) / 2)
        values, rotation = values[::-1][:n_wanted], rotation[:, ::-1][:, :n_wanted]
        vectors, image = basis @ rotation, product @ rotation
        return cls(basis, product, np.maximum(values, 0), vectors, image - vectors * values)

    def residuals(self) -> FloatArray:
        """Return the length of each miss."""
        return np.linalg.norm(self.misses, axis=0)

    def directions(self) -> FloatArray:
        """Return orthonormal vectors to look into next: where the eigenvectors miss, outside of the basis."""
        n_channels, n_held = self.basis.shape
        new = self.misses[:, : n_channels - n_held]
        for _ in range(2):  # the first leaves what rounding leaves, the second takes it away
            new = orthonormal(new - self.basis @ (self.basis.T @ new))
        return new

    def extended(self, vectors: FloatArray, product: FloatArray) -> Search:
        """Return the search of a subspace enlarged by vectors whose product a pass has gathered."""
        basis, known = self.basis, self.product
        if 16 * (basis.shape[1] + vectors.shape[1]) * len(basis) > SEARCH_BYTES:
            basis, known = self.vectors, self.misses + self.vectors * self.values
        return Search.of(np.hstack([basis, vectors]), np.hstack([known, product]), len(self.values))


def random_directions(n_channels: int, n_vectors: int, seed: int) -> FloatArray:
    """Return orthonormal vectors in random directions."""
    return orthonormal(np.random.default_rng(seed).standard_normal((n_channels, n_vectors)))


def orthonormal(vectors: FloatArray) -> FloatArray:
    """Return an orthonormal basis of what vectors span, and of more where they depend on each other."""
    return np.linalg.qr(vectors)[0]
