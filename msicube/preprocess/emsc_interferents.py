"""Spectra of something unwanted, learned from the pixels that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.emsc_arguments import check_matrix
from msicube.preprocess.emsc_kernel import LeastSquares, Subtraction
from msicube.preprocess.emsc_statistics import principal_components
from msicube.preprocess.moments import Covariance, FloatArray
from msicube.preprocess.request import Request, covariance


class InterferentModel(Step):
    """The mean and the principal components of spectra that hold an interferent and little else.

    Fitted on the paraffin around a tissue, its ``spectra_`` are the paraffin model that ``EMSC(interferents=...)``
    takes out of the tissue's spectra. Its own ``transform`` subtracts from each spectrum its projection onto them
    (external parameter orthogonalisation), which needs no reference and scales nothing.

    Parameters
    ----------
    n_components
        Principal components beside the mean; 0 for the mean alone.

    Attributes
    ----------
    spectra_ : (n_components + 1, n_channels) float64
        The mean in the unit of the spectra, then unit vectors by falling variance.
    explained_variance_ratio_ : (n_components,) float64
        Of the variance of all channels; 0 where they do not vary.
    n_spectra_, n_nonfinite_ : int
        Spectra that were fitted on, and those that were left out because of a NaN or an infinity.

    Notes
    -----
    One pass, exact: the covariance of all spectra, in float64. A NaN or an infinity makes the whole spectrum NaN, but
    for channels in which the model is zero; zeros stay zeros.

    References
    ----------
    R. Wolthuis et al., Anal. Chem. 80 (2008) 8461; F. A. de Lima et al., "Digital de-waxing on FTIR images", Analyst
    142 (2017) 1358. J.-M. Roger, F. Chauchard and V. Bellon-Maurel, Chemom. Intell. Lab. Syst. 66 (2003) 191.
    """

    learned_arrays: ClassVar = {
        "spectra_": ("spectrum", "channel"),
        "explained_variance_ratio_": ("component",),
    }
    learned_values = ("n_spectra_", "n_nonfinite_", "n_irregular_")

    spectra_: FloatArray
    explained_variance_ratio_: FloatArray
    n_spectra_: int
    n_nonfinite_: int

    def __init__(self, n_components: int = 3) -> None:
        self.n_components = n_components

    def plan(self, n_channels: int) -> int:
        """Check the number of components and the size of the covariance."""
        check_matrix(n_channels, "InterferentModel")
        if not 0 <= self.n_components < n_channels:
            raise UsageError(
                f"InterferentModel(n_components={self.n_components}): 0 or more, and fewer than {n_channels} channels"
            )
        return n_channels

    def request(self) -> Request:
        """Ask for the covariance."""
        return covariance()

    def learn(self, statistic: Covariance) -> None:
        """Decompose the covariance."""
        require_spectra(statistic, self.n_components, f"InterferentModel(n_components={self.n_components})")
        learn_counts(self, statistic)
        self.spectra_, variance = mean_and_components(statistic, self.n_components)
        total = float(np.trace(statistic.scatter))
        self.explained_variance_ratio_ = variance / total if total > 0 else 0 * variance
        self._subtraction = self._projection()

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Subtract the projections of a block."""
        return self._subtraction.kernel(block, out)

    @property
    def correction(self) -> Subtraction:
        """What corrects a block: the fitted model, and the terms that it takes out."""
        self.check_fitted()
        return self._subtraction

    def restore(self, channels: Channels, learned: Mapping[str, Any]) -> None:
        """Set what was learned in an earlier fit."""
        self.__dict__.update(learned)
        self._subtraction = self._projection()
        super().restore(channels, learned)

    def _projection(self) -> Subtraction:
        norms = np.linalg.norm(self.spectra_, axis=1, keepdims=True)
        unit = self.spectra_ / np.where(norms > 0, norms, 1)
        inverse: FloatArray = np.linalg.pinv(unit.T).astype(np.float64, copy=False)
        return Subtraction(LeastSquares(inverse, unit))


def require_spectra(statistic: Covariance, n_components: int, what: str) -> None:
    """Check that a covariance is of more spectra than components are taken from it."""
    if statistic.n <= n_components:
        raise UsageError(f"{what} of {statistic.n} finite spectra: at least {n_components + 1} are needed")


def mean_and_components(statistic: Covariance, n_components: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the leading components of spectra, ``(n_components + 1, channel)``, and the variances."""
    variance, components = principal_components(statistic.scatter, n_components)
    return np.concatenate([statistic.mean[None], components]), variance
