"""What every step is, and what steps and pipelines share.

How to write a step: subclass :class:`Step`, take the parameters in ``__init__`` and store them, and write ``kernel``.
A step that learns says in ``request`` which statistic of its input it needs and takes it in ``learn``. Fitting, lazy
transforms, folding, saving and the loaders then work by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

from msicube import errors
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import Chain, Stage, chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.engine import Progress
from msicube.preprocess.fitting import Fit, fit_steps
from msicube.preprocess.inputs import source_of
from msicube.preprocess.inverse import Inverse
from msicube.preprocess.lazy import Mapped, transform_any
from msicube.preprocess.moments import Statistic
from msicube.preprocess.request import Request
from msicube.preprocess.sources import Source
from msicube.scheduling import SchedulerLike


class NotFittedError(errors.NotFittedError, SklearnNotFittedError):
    """An estimator was used before it was fitted."""


class Transformer(TransformerMixin, BaseEstimator):
    """What a step and a pipeline have in common: fit, transform, and the kernel of a block.

    Attributes
    ----------
    n_features_in_, n_features_out_ : int
        Channels that come in, features that go out.
    """

    n_features_in_: int
    n_features_out_: int
    _channels: Channels
    _chain: Chain

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        slides: Iterable[str] | None = None,
        allow_test: bool = False,
        scheduler: SchedulerLike = "threads",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from spectra.

        The result has the same bits on any scheduler and with any number of workers; the chunking of the data changes
        it by no more than float64 rounds. ``X`` is not changed.

        Parameters
        ----------
        X
            A study, the dataset of a slide (variable ``intensity`` of dims y, x, channel; pixels that are not
            ``acquired`` are left out), or an ``(n, channels)`` array.
        y
            Classes, where a step needs them and ``X`` is no study: one for each spectrum.
        slides
            Of a study: the slides to fit on. By default those whose ``split`` in the samples table is ``train``, or all
            where the table has no such column.
        allow_test
            Whether slides whose ``split`` is ``test`` may be fitted on.
        scheduler
            ``"threads"``, ``"processes"``, ``"synchronous"``, the address of a Dask scheduler, or a
            ``distributed.Client``.
        workers
            Threads or processes of a local scheduler; the number of processors by default.
        progress
            Called in this process after each tile with what is being gathered, tiles done and tiles in all.

        Returns
        -------
        self

        Raises
        ------
        LeakageError
            A slide that is held out for testing.
        AxisMismatch
            Slides on different spectral axes.
        UsageError
            A parameter that does not fit the data, a missing label, or no finite spectrum.
        """
        source = source_of(X, y, slides=slides, allow_test=allow_test)
        return self.fit_source(source, scheduler=scheduler, workers=workers, progress=progress)

    def fit_source(
        self,
        source: Source,
        *,
        scheduler: SchedulerLike = "threads",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from a source of spectra: what ``fit`` does with the source that it makes of its arguments."""
        steps = self._new_steps()
        fit = fit_steps(steps, source, scheduler=scheduler, workers=workers, progress=progress)
        self._finish(steps, fit)
        return self

    def transform(self, X: Any) -> Any:
        """Map spectra.

        Parameters
        ----------
        X
            A study, the dataset of a slide, or an ``(n, channels)`` array.

        Returns
        -------
        TransformedStudy, xarray.Dataset or ndarray
            Of a study, a mapping of slide name to dataset. Of a dataset, a new one with the variable ``features``
            (y, x, feature), lazy, 0 where not acquired. Of an array, ``(n, features)``. float32, or float64 where the
            spectra are of a type that float32 does not hold exactly.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        AxisMismatch
            The spectra lie on another axis than those of the fit.
        """
        return transform_any(X, Mapped(self.chain, self.channels_in, self.channels_out(), self._provenance))

    def transform_block(self, block: NDArray[Any]) -> NDArray[Any]:
        """Map a block of spectra: the kernel that Dask, the loaders and the tests share.

        Parameters
        ----------
        block
            ``(n, channels)`` real numbers; not changed.

        Returns
        -------
        ndarray
            ``(n, features)`` float32, or float64 for types that float32 does not hold exactly. Safe to call from many
            threads.
        """
        return self.chain(np.asarray(block))

    def inverse_transform(self, X: Any) -> Any:
        """Map features back to spectra.

        Parameters
        ----------
        X
            What ``transform`` gave: an ``(n, features)`` array, a dataset with the variable ``features``, or a mapping
            of slide to such datasets.

        Returns
        -------
        ndarray, xarray.Dataset or RestoredStudy
            ``(n, channels)`` spectra; a dataset with the variable ``intensity``, lazy; or a mapping of these.

        Raises
        ------
        UsageError
            A step cannot be undone; the message names it.
        """
        self.check_fitted()
        return Inverse.of(self._fitted_steps(), self.channels_in)(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the name of each feature: ``mz 760.5`` for a channel, ``PC1`` for a component.

        ``input_features`` is there for scikit-learn and is not looked at: the axis of the fit names the channels.
        """
        self.check_fitted()
        return self.channels_out().names()

    @property
    def chain(self) -> Chain:
        """The fitted map of a block, linear steps folded."""
        self.check_fitted()
        return self._chain

    @property
    def channels_in(self) -> Channels:
        """What the columns that come in stand for."""
        self.check_fitted()
        return self._channels

    def channels_out(self) -> Channels:
        """Return what the features stand for."""
        raise NotImplementedError

    def check_fitted(self) -> None:
        """Check that ``fit`` was called.

        Raises
        ------
        NotFittedError
            It was not.
        """
        if not self.__sklearn_is_fitted__():
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted: call fit(study) first")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_chain")

    def _fitted_steps(self) -> Sequence[Step]:
        """Return the steps that were fitted."""
        raise NotImplementedError

    def _new_steps(self) -> Sequence[Step]:
        """Return the steps to fit; new ones, so that a fit that fails changes nothing."""
        raise NotImplementedError

    def _finish(self, steps: Sequence[Step], fit: Fit) -> None:
        """Keep what was fitted."""
        raise NotImplementedError

    def _provenance(self) -> dict[str, Any]:
        """Return attributes that tell how features were made."""
        raise NotImplementedError


class Step(Transformer):
    """One step of a pipeline, which also works by itself.

    Attributes
    ----------
    n_irregular_ : int or None
        How many spectra or values of the fitted data were irregular, in the sense that the step's docstring gives. None
        where no pass went through it.
    """

    #: The map is affine, so that the statistics of the output can follow from those of the input.
    linear: ClassVar[bool] = False
    #: The map treats every value by itself, so that channels may be chosen before it as well as after it.
    elementwise: ClassVar[bool] = False
    #: Learned arrays and their dimensions, which is what is saved.
    learned_arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Learned numbers and texts, saved as JSON.
    learned_values: ClassVar[tuple[str, ...]] = ("n_irregular_",)

    n_irregular_: int | None

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block: the one place where the step's numbers are made. Affine steps have it already.

        Parameters
        ----------
        block
            ``(n, channels)`` float32 or float64, C-contiguous; not written to unless it is ``out``.
        out
            None, or the block itself where it may be overwritten; a step that keeps the shape should do so.
        tally
            ``(1,)``, to which a step that knows irregular input adds how much of it there was; None does without.

        Returns
        -------
        ndarray
            ``(n, features)`` of the block's type.
        """
        affine = self.as_affine()
        if affine is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a kernel nor an affine form")
        return affine.kernel(block, out)

    def plan(self, n_channels: int) -> int:
        """Return the number of features that so many channels become; called before anything is read.

        Raises
        ------
        UsageError
            The parameters do not fit this number of channels.
        """
        return n_channels

    def check_classes(self, classes: Sequence[Any]) -> None:
        """Check the classes that ``request`` asks for; called before anything is read.

        Raises
        ------
        UsageError
            The step cannot be fitted on them.
        """

    def prepare(self, channels: Channels) -> None:
        """Begin a fit: take note of the channels, and learn what takes no data."""
        self.n_features_in_ = channels.n
        self.n_features_out_ = self.plan(channels.n)
        self.n_irregular_ = None
        self._channels = channels

    def reads(self) -> Affine | None:
        """Return the choice of the channels that the step looks at, or None for all.

        What it asks for in ``request`` and its kernel then see these channels only, and the others need not be read.
        """
        return None

    def request(self) -> Request | None:
        """Return the statistic of the input that is needed first, or None."""
        return None

    def learn(self, statistic: Any) -> Request | None:
        """Learn from the statistic that was asked for; return another request where one pass is not enough."""
        raise NotImplementedError

    def as_affine(self) -> Affine | None:
        """Return the fitted step as an affine map, if it is one; it is then folded with its neighbours."""
        return None

    def inverse_stage(self) -> Stage | None:
        """Return what maps the features of the fitted step back to what came in, or None where that is lost."""
        return None

    def channels_out(self) -> Channels:
        """Return what the features stand for: by default the channels that came in."""
        return self._channels

    def restore(self, channels: Channels, learned: Mapping[str, Any]) -> None:
        """Set what was learned in an earlier fit."""
        self.prepare(channels)
        for name, value in learned.items():
            setattr(self, name, value)
        self.seal()

    def seal(self) -> None:
        """End a fit: from here on the step can transform."""
        self.n_features_out_ = self.channels_out().n
        self._chain = chain_of([self], self.n_features_in_)

    def _fitted_steps(self) -> Sequence[Step]:
        return [self]

    def _new_steps(self) -> Sequence[Step]:
        return [clone(self)]

    def _finish(self, steps: Sequence[Step], fit: Fit) -> None:
        steps[0].seal()
        self.__dict__.update(steps[0].__dict__)

    def _provenance(self) -> dict[str, Any]:
        return {"pipeline": str(self)}


def learn_counts(step: Any, statistic: Statistic) -> None:
    """Set ``n_spectra_`` and ``n_nonfinite_`` of a step from the statistic that it learns from."""
    step.n_spectra_ = statistic.n
    step.n_nonfinite_ = statistic.n_nonfinite
