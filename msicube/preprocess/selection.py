"""Channels chosen by how well they separate classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import ClassMoments, FloatArray
from msicube.preprocess.request import Request, moments


class SelectChannels(Step):
    """Keep the channels whose class means differ most.

    The score of a channel is the absolute difference of its two class means; with more classes, the largest difference
    of any two. Behind :class:`Standardize` the difference is in standard deviations. Class means of a pipeline come
    with the moments that other steps need, at no pass of their own.

    Parameters
    ----------
    k
        How many to keep.
    by
        Column of the study's samples table that holds the class of each slide. For an array or a dataset the classes
        are the ``y`` of ``fit``.

    Attributes
    ----------
    indices_ : (k,) int
        The chosen channels, ascending. Of equal scores the lower channel is taken.
    scores_ : (n_channels,) float64
        Of all channels.
    classes_ : list
        The classes.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity.
    """

    linear = True
    learned_arrays: ClassVar = {"indices_": ("selected",), "scores_": ("channel",)}
    learned_values = ("classes_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    indices_: NDArray[np.intp]
    scores_: FloatArray
    classes_: list[Any]

    def __init__(self, k: int, *, by: str = "label") -> None:
        self.k = k
        self.by = by

    def plan(self, n_channels: int) -> int:
        """Return ``k``, which must be between 1 and the number of channels."""
        if not 1 <= self.k <= n_channels:
            raise UsageError(
                f"SelectChannels(k={self.k}): choose between 1 and the {n_channels} channels that come in"
            )
        return int(self.k)

    def request(self) -> Request:
        """Ask for the moments of each class."""
        return moments(self.by)

    def check_classes(self, classes: Sequence[Any]) -> None:
        """Check that there are two classes at least."""
        if len(classes) < 2:
            raise UsageError(
                f"SelectChannels(by={self.by!r}) compares classes, and all spectra are of one, {classes[0]!r}: fit on "
                f"slides of at least two"
            )

    def learn(self, statistic: ClassMoments) -> None:
        """Score the channels and keep the best."""
        classes = sorted((name for name, moments in statistic.classes.items() if moments.n), key=str)
        self.check_classes(classes)
        means = np.stack([statistic.classes[name].mean for name in classes])
        learn_counts(self, statistic)
        self.classes_ = classes
        self.scores_ = means.max(axis=0) - means.min(axis=0)
        self.indices_ = np.sort(np.argsort(-self.scores_, kind="stable")[: self.k])

    def as_affine(self) -> Affine:
        """Return the choice of columns."""
        return Affine.selection(self.indices_)

    def channels_out(self) -> Channels:
        """Return the chosen channels."""
        return self._channels.take(self.indices_)
