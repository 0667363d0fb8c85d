"""Channels chosen by what they tell, or by where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import ClassMoments, FloatArray, Moments
from msicube.preprocess.positions import Ranges, Tolerance, check_ranges, columns_at, columns_in
from msicube.preprocess.request import Request, moments
from msicube.preprocess.standardize import constant

Criterion = Literal["difference", "t", "variance"]


class _Selection(Step):
    """Keep the channels ``indices_``; nothing but those has to be read."""

    linear = True
    learned_arrays: ClassVar = {"indices_": ("selected",)}

    indices_: NDArray[np.intp]

    def as_affine(self) -> Affine:
        """Return the choice of columns."""
        return Affine.selection(self.indices_)

    def channels_out(self) -> Channels:
        """Return the chosen channels."""
        return self._channels.take(self.indices_)


class SelectChannels(_Selection):
    """Keep the channels that score highest, or those at given places.

    The score of a channel is, by ``criterion``, one of

    - ``"difference"``: the absolute difference of its two class means; with more classes, the largest difference of any
      two. Behind :class:`Standardize` the difference is in standard deviations.
    - ``"t"``: the absolute difference of two class means in units of its standard error, Welch's t; with more classes,
      the largest of any two.
    - ``"variance"``: its variance, without a look at classes.

    Class means and variances of a pipeline come with the moments that other steps need, at no pass of their own.

    Parameters
    ----------
    k
        How many to keep by their score. Without it, ``at`` or ``ranges`` say which.
    by
        Column of the study's samples table that holds the class of each slide. For an array or a dataset the classes
        are the ``y`` of ``fit``. Without classes to compare (``"variance"``, ``at``, ``ranges``) it does not matter.
    criterion
        See above. Not named ``score``, which scikit-learn takes for a method.
    at
        Positions on the axis (m/z or wavenumber; column numbers of a plain array), for each of which the nearest
        channel is kept.
    ranges
        Pairs ``(lower, upper)`` on the axis; all channels in any of them are kept, both ends included.
    tolerance
        How far a channel may lie from a position of ``at``: a number in the unit of the axis, or ``"ppm:20"``. None
        takes the nearest channel of every position that lies on the axis.

    Attributes
    ----------
    indices_ : (k,) int
        The chosen channels, ascending. Of equal scores the lower channel is taken.
    scores_ : (n_channels,) float64
        Of all channels; NaN where places were given.
    classes_ : list
        The classes; empty where none were compared.
    n_spectra_ : int
        Spectra that were fitted on; 0 where places were given.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity.

    Notes
    -----
    A channel that is constant scores 0. By t, one that differs between two classes and is
    constant in both scores infinity. By t each class needs two spectra. Pixels of a slide are no independent samples:
    the t of pixels ranks channels, it does not test a hypothesis.

    References
    ----------
    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947) 28.
    """

    learned_arrays: ClassVar = {"indices_": ("selected",), "scores_": ("channel",)}
    learned_values = ("classes_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    scores_: FloatArray
    classes_: list[Any]

    def __init__(
        self,
        k: int | None = None,
        *,
        by: str = "label",
        criterion: Criterion = "difference",
        at: ArrayLike | None = None,
        ranges: Ranges | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        self.k = k
        self.by = by
        self.criterion = criterion
        self.at = at
        self.ranges = ranges
        self.tolerance = tolerance

    def plan(self, n_channels: int) -> int:
        """Return ``k``, which must be between 1 and the number of channels; at most all where places are given."""
        if (self.k is not None) + (self.at is not None) + (self.ranges is not None) != 1:
            raise UsageError(
                f"SelectChannels(k={self.k!r}, at={self.at!r}, ranges={self.ranges!r}): give one of the three, to "
                f"choose by score, by position or by range"
            )
        if self.k is None:
            return n_channels
        if self.criterion not in ("difference", "t", "variance"):
            raise UsageError(
                f"SelectChannels(criterion={self.criterion!r}): expected 'difference', 't' or 'variance'"
            )
        if not 1 <= self.k <= n_channels:
            raise UsageError(
                f"SelectChannels(k={self.k}): choose between 1 and the {n_channels} channels that come in"
            )
        return int(self.k)

    def foresee(self, channels: Channels) -> Channels | None:
        """Return the channels at given places; of those that are to be scored only the number is known."""
        if self.k is not None:
            return super().foresee(channels)
        columns = self._placed(channels)
        return None if columns is None else channels.take(columns)

    def prepare(self, channels: Channels) -> None:
        """Begin a fit; the channels at given places are known already."""
        super().prepare(channels)
        columns = self._placed(channels)
        if columns is not None:
            self.indices_, self.scores_ = columns, np.full(channels.n, np.nan)
            self.classes_, self.n_spectra_, self.n_nonfinite_ = [], 0, 0

    @property
    def classes_by(self) -> str | None:
        """The column whose classes are compared."""
        return None if self.k is None or self.criterion == "variance" else self.by

    def request(self) -> Request | None:
        """Ask for the moments that the score takes."""
        if self.k is None:
            return None
        return moments(self.classes_by)

    def check_classes(self, classes: Sequence[Any]) -> None:
        """Check that there are two classes at least."""
        if len(classes) < 2:
            raise UsageError(
                f"SelectChannels(by={self.by!r}) compares classes, and all spectra are of one, {classes[0]!r}: fit on "
                f"slides of at least two"
            )

    def learn(self, statistic: ClassMoments) -> None:
        """Score the channels and keep the best."""
        learn_counts(self, statistic)
        if self.criterion == "variance":
            self.classes_ = []
            self.scores_ = statistic.total().var
        else:
            self.classes_ = sorted(
                (name for name, moments in statistic.classes.items() if moments.n), key=str
            )
            self.check_classes(self.classes_)
            known = [statistic.classes[name] for name in self.classes_]
            self.scores_ = self._t(known) if self.criterion == "t" else _difference(known)
        self.indices_ = np.sort(np.argsort(-self.scores_, kind="stable")[: self.k])

    def _placed(self, channels: Channels) -> NDArray[np.intp] | None:
        """Return the channels at the given places; None where there are none, or the axis is not known yet."""
        self.plan(channels.n)
        if self.k is not None or not channels.known:
            return None
        if self.ranges is not None:
            return columns_in(channels, self.ranges)
        assert self.at is not None
        return columns_at(channels, self.at, self.tolerance)

    def _t(self, classes: Sequence[Moments]) -> FloatArray:
        small = [name for name, one in zip(self.classes_, classes, strict=True) if one.n < 2]
        if small:
            raise UsageError(
                f"SelectChannels(criterion='t') needs two finite spectra of each class, {small[0]!r} has one: leave "
                f"the class out, or choose by criterion='difference'"
            )
        # What rounding leaves of a constant channel must not be divided by itself.
        return np.where(constant(reduce(Moments.merge, classes)), 0.0, _welch(classes))


class Crop(_Selection):
    """Keep a part of the spectral axis.

    Parameters
    ----------
    lower, upper
        First and last position to keep (m/z or wavenumber; column numbers of a plain array), both included. None for no
        bound.
    exclude
        Pairs ``(lower, upper)`` inside the part, whose channels are left out, both ends included.

    Attributes
    ----------
    indices_ : (n_kept,) int
        The channels that are kept, ascending.

    Notes
    -----
    No value is looked at: a NaN or an infinity in a channel that is left out does no harm to later steps.
    """

    def __init__(
        self, lower: float | None = None, upper: float | None = None, *, exclude: Ranges | None = None
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.exclude = exclude

    def plan(self, n_channels: int) -> int:
        """Check the parameters; at most all channels are kept."""
        if self.lower is None and self.upper is None and self.exclude is None:
            raise UsageError("Crop() keeps everything: give lower, upper or exclude")
        if self.exclude is not None:
            check_ranges(self.exclude)
        return n_channels

    def foresee(self, channels: Channels) -> Channels | None:
        """Return the channels that are kept; None where the axis is not known yet."""
        self.plan(channels.n)
        return channels.take(self._kept(channels)) if channels.known else None

    def prepare(self, channels: Channels) -> None:
        """Find the channels."""
        super().prepare(channels)
        self.indices_ = self._kept(channels)

    def _kept(self, channels: Channels) -> NDArray[np.intp]:
        whole = (
            -np.inf if self.lower is None else self.lower,
            np.inf if self.upper is None else self.upper,
        )
        kept = columns_in(channels, [whole])
        for lower, upper in check_ranges(self.exclude) if self.exclude is not None else []:
            values = channels.values[kept]
            kept = kept[(values < lower) | (values > upper)]
        if not len(kept):
            raise UsageError(f"{self} leaves no channel: exclude less of {whole[0]:.6g} to {whole[1]:.6g}")
        return kept


def _difference(classes: Sequence[Moments]) -> FloatArray:
    """Return the largest difference of any two class means."""
    means = np.stack([one.mean for one in classes])
    return means.max(axis=0) - means.min(axis=0)


def _welch(classes: Sequence[Moments]) -> FloatArray:
    """Return the largest absolute t of any two classes."""
    best = np.zeros(len(classes[0].mean))
    for number, one in enumerate(classes):
        for other in classes[:number]:
            difference = np.abs(one.mean - other.mean)
            error = np.sqrt(one.m2 / (one.n * (one.n - 1.0)) + other.m2 / (other.n * (other.n - 1.0)))
            with np.errstate(divide="ignore", invalid="ignore"):
                t = difference / error
            np.maximum(best, np.where(difference == 0, 0.0, t), out=best)
    return best
