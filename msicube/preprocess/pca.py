"""Principal components."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.bytesize import format_bytes
from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.chain import working_dtype
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import Covariance, FloatArray
from msicube.preprocess.request import Request, covariance

#: The widest covariance that is gathered; each task holds three of this size, in float64.
MAX_CHANNELS = 8192


class PCA(Step):
    """Project spectra onto the directions of largest variance.

    Exact: the covariance of all spectra is gathered in one pass, in float64, and decomposed. The same numbers as
    scikit-learn's ``PCA`` with a full SVD.

    Parameters
    ----------
    n_components
        How many; at most the number of channels and of spectra.
    whiten
        Whether to scale each component to unit variance.

    Attributes
    ----------
    components_ : (n_components, n_channels) float64
        Unit vectors, by falling variance. The sign is such that the loading of largest absolute value is positive, as
        in scikit-learn's ``svd_flip(..., u_based_decision=False)``.
    mean_ : (n_channels,) float64
    explained_variance_ : (n_components,) float64
        With ``n - 1`` in the denominator.
    explained_variance_ratio_ : (n_components,) float64
        Of the variance of all channels; 0 where they do not vary.
    solver_ : str
        ``"covariance"``: how the components were found.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity; ``transform`` gives them NaN.
    """

    linear = True
    learned_arrays: ClassVar = {
        "components_": ("component", "channel"),
        "mean_": ("channel",),
        "explained_variance_": ("component",),
        "explained_variance_ratio_": ("component",),
    }
    learned_values = ("solver_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    components_: FloatArray
    mean_: FloatArray
    explained_variance_: FloatArray
    explained_variance_ratio_: FloatArray
    solver_: str
    n_spectra_: int

    def __init__(self, n_components: int, *, whiten: bool = False) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def plan(self, n_channels: int) -> int:
        """Return the number of components, and check it and the size of the covariance."""
        if n_channels > MAX_CHANNELS:
            raise MemoryLimitError(
                f"PCA of {n_channels} channels takes a covariance of {format_bytes(8 * n_channels**2)}, at most "
                f"{MAX_CHANNELS} channels ({format_bytes(8 * MAX_CHANNELS**2)}) are taken: put SelectChannels before "
                f"it, or convert onto a coarser axis"
            )
        if not 1 <= self.n_components <= n_channels:
            raise UsageError(
                f"PCA(n_components={self.n_components}): choose between 1 and the {n_channels} channels that come in"
            )
        return int(self.n_components)

    def request(self) -> Request:
        """Ask for the covariance."""
        return covariance()

    def learn(self, statistic: Covariance) -> None:
        """Decompose the covariance."""
        from scipy.linalg import eigh

        if statistic.n < max(2, self.n_components):
            raise UsageError(
                f"PCA(n_components={self.n_components}) of {statistic.n} finite spectra: at least "
                f"{max(2, self.n_components)} are needed"
            )
        learn_counts(self, statistic)
        n_channels = len(statistic.mean)
        matrix = statistic.scatter / (statistic.n - 1)
        total = float(np.trace(matrix))
        variance, vectors = eigh(
            matrix, overwrite_a=True, subset_by_index=[n_channels - self.n_components, n_channels - 1]
        )
        self.mean_ = statistic.mean
        self.components_ = _with_signs(vectors.T[::-1])
        self.explained_variance_ = np.maximum(variance[::-1], 0)
        self.explained_variance_ratio_ = self.explained_variance_ / total if total > 0 else 0 * variance
        self.solver_ = "covariance"

    def as_affine(self) -> Affine:
        """Return ``(x - mean) @ components.T``, whitened where asked."""
        weight = self.components_.T / self._scale()
        return Affine(self.mean_, weight, np.zeros(weight.shape[1]))

    def channels_out(self) -> Channels:
        """Return the components, numbered from 1."""
        return Channels.numbered("PC", len(self.components_), start=1)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the spectra that scores stand for.

        Parameters
        ----------
        X
            ``(n, n_components)`` scores.

        Returns
        -------
        ndarray
            ``(n, n_channels)`` float32, or float64 for scores of a type that float32 does not hold exactly.
        """
        self.check_fitted()
        scores = np.asarray(X)
        dtype = working_dtype(scores.dtype)
        weight = (self.components_ * self._scale()[:, None]).astype(dtype)
        return scores.astype(dtype, copy=False) @ weight + self.mean_.astype(dtype)

    def _scale(self) -> FloatArray:
        """Return what each score is divided by."""
        if not self.whiten:
            return np.ones(len(self.components_))
        # A component without variance would divide by zero; scikit-learn bounds it from below in the same way.
        return np.maximum(np.sqrt(self.explained_variance_), np.finfo(np.float64).eps)


def _with_signs(components: FloatArray) -> FloatArray:
    """Return unit vectors whose entry of largest absolute value is positive."""
    largest = np.argmax(np.abs(components), axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.ascontiguousarray(components * signs[:, None])
