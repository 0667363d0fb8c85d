"""Channels brought to mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.moments import ClassMoments, FloatArray, Moments
from msicube.preprocess.request import Request, moments


class Standardize(Step):
    """Subtract each channel's mean and divide by its standard deviation.

    The same numbers as scikit-learn's ``StandardScaler``, out of core.

    Parameters
    ----------
    with_mean, with_std
        Whether to centre, and whether to scale.

    Attributes
    ----------
    mean_, var_, scale_ : (n_channels,) float64
        Mean, population variance, and what the channel is divided by: the standard deviation, or 1 for a channel that
        is constant.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity. In ``transform`` such values stay what they are.
    """

    linear = True
    learned_arrays: ClassVar = {"mean_": ("channel",), "var_": ("channel",), "scale_": ("channel",)}
    learned_values = ("n_spectra_", "n_nonfinite_", "n_irregular_")

    mean_: FloatArray
    var_: FloatArray
    scale_: FloatArray

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def request(self) -> Request:
        """Ask for the moments."""
        return moments()

    def learn(self, statistic: ClassMoments) -> None:
        """Take mean and scale from the moments of all spectra."""
        total = statistic.total()
        learn_counts(self, total)
        self.mean_, self.var_ = total.mean, total.var
        self.scale_ = np.where(constant(total), 1.0, np.sqrt(total.var))

    def as_affine(self) -> Affine:
        """Return ``(x - mean) / scale``."""
        n = len(self.mean_)
        return Affine.diagonal(
            centre=self.mean_ if self.with_mean else np.zeros(n),
            weight=1 / self.scale_ if self.with_std else np.ones(n),
        )

    def inverse_stage(self) -> Affine:
        """Return ``z * scale + mean``."""
        n = len(self.mean_)
        return Affine.diagonal(
            centre=np.zeros(n),
            weight=self.scale_ if self.with_std else np.ones(n),
            offset=self.mean_ if self.with_mean else np.zeros(n),
        )


def constant(total: Moments) -> Any:
    """Return which channels do not vary by more than rounding can explain.

    The bound is that of scikit-learn's ``_is_constant_feature``: Chan, Golub and LeVeque, The American Statistician 37
    (1983) 242, equation 3.2.
    """
    eps = np.finfo(np.float64).eps
    return total.var <= total.n * eps * total.var + (total.n * total.mean * eps) ** 2
