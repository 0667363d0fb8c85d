"""Spectra that principal components do not account for: Hotelling's T2 and Q residuals."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.base import learn_counts
from msicube.preprocess.masks.base import Mask, finite
from msicube.preprocess.moments import Covariance, FloatArray
from msicube.preprocess.pca import choose_solver, with_signs
from msicube.preprocess.request import Request, covariance

RULES = ("either", "t2", "q")


class OutlierMask(Mask):
    """Spectra unlike the others, by their place in a principal component model: the mask is True for outliers.

    T2 is how far a spectrum lies from the centre inside the model, in units of its variances; Q (the squared prediction
    error) is how much of it lies outside. A spectrum is an outlier where either exceeds what a fraction ``alpha`` of
    normally distributed spectra would.

    Parameters
    ----------
    n_components
        Components of the model; fewer than the channels.
    alpha
        Fraction of good spectra that each limit gives up.
    rule
        Which limit counts: ``"either"``, ``"t2"`` or ``"q"``.
    margin
        Factor on both limits. They hold for further spectra of the slides that were fitted on. All spectra of another
        patient lie farther from the model together, which 1 may take for a slide of nothing but outliers; see
        :doc:`/guide/masks`.

    Attributes
    ----------
    components_ : (n_components, n_channels) float64
    mean_ : (n_channels,) float64
    explained_variance_ : (n_components,) float64
    t2_limit_, q_limit_ : float
        ``p (n**2 - 1) / (n (n - p)) F(1 - alpha; p, n - p)`` for a new spectrum, and the limit of Jackson and
        Mudholkar; both without the margin.
    captured_variance_ : float
        Fraction of the variance inside the model.
    n_spectra_, n_nonfinite_ : int
        Spectra that were fitted on, and those that were left out because of a NaN or an infinity. The mask holds these:
        they are outliers whatever the limits, with T2 and Q of NaN.

    References
    ----------
    J. E. Jackson and G. S. Mudholkar, "Control procedures for residuals associated with principal component analysis",
    Technometrics 21 (1979) 341. H. Hotelling, "Multivariate quality control" (1947); the limit for a new observation as
    in N. D. Tracy, J. C. Young and R. L. Mason, Journal of Quality Technology 24 (1992) 88.
    """

    images = ("t2", "q")
    holds_nonfinite = True
    learned_arrays: ClassVar = {
        "components_": ("component", "channel"),
        "mean_": ("channel",),
        "explained_variance_": ("component",),
    }
    learned_values = (
        "t2_limit_",
        "q_limit_",
        "captured_variance_",
        "n_spectra_",
        "n_nonfinite_",
        "n_irregular_",
    )
    recorded = (
        "t2_limit_",
        "q_limit_",
        "captured_variance_",
        "explained_variance_",
        "n_spectra_",
        "n_nonfinite_",
    )

    components_: FloatArray
    mean_: FloatArray
    explained_variance_: FloatArray
    t2_limit_: float
    q_limit_: float

    def __init__(
        self, *, n_components: int = 5, alpha: float = 0.01, rule: str = "either", margin: float = 1.0
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.rule = rule
        self.margin = margin

    def plan(self, n_channels: int) -> int:
        """Check the parameters and the size of the covariance."""
        choose_solver("covariance", n_channels)
        if not 1 <= self.n_components < n_channels:
            raise UsageError(
                f"OutlierMask(n_components={self.n_components}): choose at least 1 and fewer than the {n_channels} "
                f"channels that come in"
            )
        if not 0 < self.alpha < 1 or self.rule not in RULES:
            raise UsageError(
                f"OutlierMask(alpha={self.alpha}, rule={self.rule!r}): expected alpha between 0 and 1, and one of "
                f"{', '.join(RULES)}"
            )
        if not self.margin > 0:
            raise UsageError(f"OutlierMask(margin={self.margin}): expected a factor above 0")
        return super().plan(n_channels)

    def request(self) -> Request:
        """Ask for the covariance."""
        return covariance(exactly=True)

    def learn(self, statistic: Covariance) -> None:
        """Decompose the covariance and find the limits."""
        from scipy.linalg import eigh

        k, n = self.n_components, statistic.n
        if n < k + 2:
            raise UsageError(
                f"OutlierMask(n_components={k}) of {n} finite spectra: at least {k + 2} are needed to set limits"
            )
        learn_counts(self, statistic)
        with one_blas_thread():
            variance, vectors = eigh(statistic.scatter / (n - 1))
        variance = np.maximum(variance[::-1], 0)
        self.mean_ = statistic.mean
        self.components_ = with_signs(vectors[:, ::-1][:, :k].T)
        self.explained_variance_ = variance[:k]
        everything = float(variance.sum())
        self.captured_variance_ = float(variance[:k].sum()) / everything if everything > 0 else 0.0
        self.t2_limit_ = t2_limit(n, k, self.alpha)
        self.q_limit_ = q_limit(variance[k:], self.alpha)

    def decide(self, block: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which spectra exceed a limit, and T2 and Q of each."""
        held = finite(block)
        values = np.where(held[:, None], block, 0).astype(np.float64, copy=False) - self.mean_
        scores = values @ self.components_.T
        # A component without variance tells no spectrum from another.
        variance = self.explained_variance_
        known = variance > np.finfo(np.float64).eps * max(float(variance[0]), np.finfo(np.float64).tiny)
        t2 = (scores[:, known] ** 2 / variance[known]).sum(axis=1)
        rest = values - scores @ self.components_
        q = np.einsum("ij,ij->i", rest, rest)
        beyond = {"t2": t2 > self.margin * self.t2_limit_, "q": q > self.margin * self.q_limit_}
        outlier = beyond["t2"] | beyond["q"] if self.rule == "either" else beyond[self.rule]
        numbers = np.stack([t2, q], axis=1)
        numbers[~held] = np.nan
        return outlier | ~held, numbers


def t2_limit(n: int, p: int, alpha: float) -> float:
    """Return what T2 of a new spectrum exceeds with probability ``alpha``, in a model of ``p`` components of ``n``."""
    from scipy.stats import f

    return float(p * (n**2 - 1) / (n * (n - p)) * f.ppf(1 - alpha, p, n - p))


def q_limit(variance: FloatArray, alpha: float) -> float:
    """Return what Q exceeds with probability ``alpha``, from the variances that the model leaves out.

    References
    ----------
    J. E. Jackson and G. S. Mudholkar, Technometrics 21 (1979) 341, equations 3.4 and 3.5.
    """
    from scipy.stats import norm

    first, second, third = (float((variance**power).sum()) for power in (1, 2, 3))
    if second <= 0:
        return 0.0
    h = 1 - 2 * first * third / (3 * second**2)
    if (
        h <= 0
    ):  # the expansion fails; the moments of Box (1954), a scaled chi-squared distribution, are always there
        from scipy.stats import chi2

        return float(second / first * chi2.ppf(1 - alpha, first**2 / second))
    spread = float(norm.ppf(1 - alpha)) * np.sqrt(2 * second * h**2) / first
    return float(first * max(spread + 1 + second * h * (h - 1) / first**2, 0.0) ** (1 / h))
