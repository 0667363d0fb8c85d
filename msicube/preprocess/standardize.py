"""Channels brought to mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.by_slide import moments_of_slides, row_of
from msicube.preprocess.chain import Stage
from msicube.preprocess.moments import ClassMoments, FloatArray, Moments
from msicube.preprocess.request import Request, moments


class Standardize(Step):
    """Subtract each channel's mean and divide by its standard deviation.

    The same numbers as scikit-learn's ``StandardScaler``, out of core.

    Parameters
    ----------
    with_mean, with_std
        Whether to centre, and whether to scale.
    by
        ``"slide"`` takes the mean and the deviation of each slide for that slide, so that slides measured on different
        days agree in both. What they differ in by nature, such as their mean, is then gone as well. A slide that was
        not fitted on has to be shown to the step by :meth:`add_slides`; transforming it before is an error. The spectra
        of an array or a dataset count as one slide.

    Attributes
    ----------
    mean_, var_, scale_ : (n_channels,) or (n_slides, n_channels) float64
        Mean, population variance, and what the channel is divided by: the standard deviation, or 1 for a channel that
        is constant. By slide there is a row for each of ``slides_``.
    slides_ : list of str
        The slides that are known; empty where all are treated alike.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity. In ``transform`` such values stay what they are.

    Notes
    -----
    A slide with one finite spectrum becomes 0; one without any is not known.
    """

    linear = True
    learned_values = ("slides_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    mean_: FloatArray
    var_: FloatArray
    scale_: FloatArray
    slides_: list[str]

    def __init__(
        self, *, with_mean: bool = True, with_std: bool = True, by: Literal["slide"] | None = None
    ) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.by = by

    @property
    def learned_arrays(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        """Names and dimensions of what is learned."""
        dims = ("slide", "channel") if self.by_slide else ("channel",)
        return {"mean_": dims, "var_": dims, "scale_": dims}

    @property
    def by_slide(self) -> bool:
        """Whether each slide has its own mean and deviation."""
        return self.by is not None

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        if self.by not in (None, "slide"):
            raise UsageError(
                f"Standardize(by={self.by!r}): expected 'slide', or None to treat all slides alike"
            )
        return n_channels

    def request(self) -> Request:
        """Ask for the moments."""
        return moments(self.by)

    def learn(self, statistic: ClassMoments) -> None:
        """Take mean and scale from the moments of all spectra, or of each slide."""
        learn_counts(self, statistic)
        if self.by_slide:
            self.slides_ = []
            self.learn_more(statistic)
        else:
            self.slides_ = []
            total = statistic.total()
            self.mean_, self.var_, self.scale_ = total.mean, total.var, _scale(total)

    def learn_more(self, statistic: ClassMoments) -> None:
        """Take mean and scale of further slides."""
        slides = {s: one for s, one in moments_of_slides(statistic).items() if s not in self.slides_}
        if not slides:
            return
        rows = [np.stack([take(one) for one in slides.values()]) for take in (_mean, _var, _scale)]
        if self.slides_:
            known = (self.mean_, self.var_, self.scale_)
            rows = [np.concatenate(pair) for pair in zip(known, rows, strict=True)]
        self.mean_, self.var_, self.scale_ = rows
        self.slides_ = [*self.slides_, *slides]

    def as_affine(self) -> Affine | None:
        """Return ``(x - mean) / scale``, where it is the same for all slides."""
        return None if self.by_slide else self._affine(self.mean_, self.scale_)

    def for_slide(self, slide: str) -> Stage:
        """Return ``(x - mean) / scale`` of a slide."""
        if not self.by_slide:
            return self
        row = row_of(self, slide)
        return self._affine(self.mean_[row], self.scale_[row])

    def _affine(self, mean: FloatArray, scale: FloatArray) -> Affine:
        n = len(mean)
        return Affine.diagonal(
            centre=mean if self.with_mean else np.zeros(n), weight=1 / scale if self.with_std else np.ones(n)
        )

    def inverse_stage(self) -> Affine:
        """Return ``z * scale + mean``."""
        n = len(self.mean_)
        return Affine.diagonal(
            centre=np.zeros(n),
            weight=self.scale_ if self.with_std else np.ones(n),
            offset=self.mean_ if self.with_mean else np.zeros(n),
        )


def constant(total: Moments) -> NDArray[Any]:
    """Return which channels do not vary by more than rounding can explain.

    The bound is that of scikit-learn's ``_is_constant_feature``: Chan, Golub and LeVeque, The American Statistician 37
    (1983) 242, equation 3.2.
    """
    eps = np.finfo(np.float64).eps
    return total.var <= total.n * eps * total.var + (total.n * total.mean * eps) ** 2


def _mean(one: Moments) -> FloatArray:
    return one.mean


def _var(one: Moments) -> FloatArray:
    return one.var


def _scale(one: Moments) -> FloatArray:
    """Return the standard deviation, or 1 where it is that of a constant."""
    return np.where(constant(one), 1.0, np.sqrt(one.var))
