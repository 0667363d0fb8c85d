"""What every step is, and what steps and pipelines share.

How to write a step: subclass :class:`Step`, take the parameters in ``__init__`` and store them, and write ``kernel``.
A step that learns says in ``request`` which statistic of its input it needs and takes it in ``learn``. Fitting, lazy
transforms, folding, saving and the loaders then work by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

from msicube import errors
from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.by_slide import learn_slides, unknown_slides
from msicube.preprocess.chain import Chain, Stage, chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where, require_columns
from msicube.preprocess.engine import Progress
from msicube.preprocess.fitting import Fit, fit_more, fit_steps
from msicube.preprocess.inputs import ArraySource, source_of
from msicube.preprocess.inverse import Inverse
from msicube.preprocess.lazy import Mapped, transform_any
from msicube.preprocess.moments import Statistic
from msicube.preprocess.request import Request
from msicube.preprocess.sources import Source
from msicube.preprocess.studies import chosen_slides
from msicube.scheduling import SchedulerLike
from msicube.store import Study


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
        where: Where = None,
        allow_test: bool = False,
        cache: bool | None = None,
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
        where
            Which spectra, of those that are acquired: of a study the name of a mask or an expression such as
            ``"tissue & ~dead"``, of a dataset the name of a boolean variable (y, x), or a boolean array with one value
            for each spectrum of a dataset or an array.
        allow_test
            Whether slides whose ``split`` is ``test`` may be fitted on.
        cache
            Whether the statistics of each slide are kept in the study, and taken from there by the next fit instead of
            reading the slide: one that was stopped goes on, one on a slide more reads that slide. The result has the
            same bits. Where the study cannot be written to, nothing new is kept. None stands for True, unless the
            environment variable ``MSICUBE_STATISTICS`` is ``off``.
        scheduler
            ``"threads"``, ``"processes"``, ``"synchronous"``, the address of a Dask scheduler, or a
            ``distributed.Client``.
        workers
            Threads or processes of a local scheduler; the number of processors by default.
        progress
            Called in this process after each tile with what is being gathered and of which slide, tiles of it done
            and tiles of it in all. A slide whose statistic was kept counts as one tile.

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
            A parameter that does not fit the data, a missing label or mask, or no finite spectrum.
        """
        source = source_of(X, y, slides=slides, where=where, allow_test=allow_test)
        return self.fit_source(source, cache=cache, scheduler=scheduler, workers=workers, progress=progress)

    def fit_source(
        self,
        source: Source,
        *,
        cache: bool | None = None,
        scheduler: SchedulerLike = "threads",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from a source of spectra: what ``fit`` does with the source that it makes of its arguments."""
        steps = self._new_steps()
        fit = fit_steps(steps, source, cache=cache, scheduler=scheduler, workers=workers, progress=progress)
        self._finish(steps, fit)
        return self

    def transform(self, X: Any, *, where: Where = None) -> Any:
        """Map spectra.

        Parameters
        ----------
        X
            A study, the dataset of a slide, or an ``(n, channels)`` array.
        where
            Which spectra, as for :meth:`fit`; by default all, whatever the fit was made on. The features of the others
            are 0, as those of pixels that are not acquired.

        Returns
        -------
        TransformedStudy, xarray.Dataset or ndarray
            Of a study, a mapping of slide name to dataset. Of a dataset, a new one with the variable ``features``
            (y, x, feature), lazy, 0 where not acquired, and with ``inside`` (y, x) where pixels were chosen: which have
            features. Of an array, ``(n, features)``. float32, or float64 where the spectra are of a type that float32
            does not hold exactly.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        AxisMismatch
            The spectra lie on another axis than those of the fit.
        UsageError
            No such mask, or data of another form.
        """
        mapped = Mapped(
            type(self).__name__, self.chain, self.channels_in, self.channels_out(), self._provenance
        )
        return transform_any(X, mapped, where)

    def transform_block(self, block: NDArray[Any], *, slide: str = "") -> NDArray[Any]:
        """Map a block of spectra: the kernel that Dask, the loaders and the tests share.

        Parameters
        ----------
        block
            ``(n, channels)`` real numbers; not changed.
        slide
            The slide that they are from, where a step works by slide.

        Returns
        -------
        ndarray
            ``(n, features)`` float32, or float64 for types that float32 does not hold exactly. Safe to call from many
            threads.
        """
        return self.chain.for_slide(slide)(np.asarray(block))

    def add_slides(
        self,
        study: Study,
        *,
        slides: Iterable[str] | None = None,
        scheduler: SchedulerLike = "threads",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn of further slides what is a slide's own; all that was fitted stays as it is.

        A step that works by slide, such as ``Standardize(by="slide")``, transforms only slides that it has seen. This
        shows it others, slides for testing among them: what it learns of a slide touches that slide alone.

        Parameters
        ----------
        study
            Which has the slides.
        slides
            Their names; all by default. Those that are known already are not read again.
        scheduler, workers, progress
            As for :meth:`fit`.

        Returns
        -------
        self
            One pass was made for each step that works by slide; none where there is none.
        """
        self.check_fitted()
        steps = [copy(step) for step in self._fitted_steps()]
        wanted = study.slides if slides is None else slides
        unknown = unknown_slides(steps, chosen_slides(study, wanted, allow_test=True))
        if unknown:
            source = source_of(study, slides=unknown, allow_test=True)
            self.channels_in.require(source.channels, where=f"slide {unknown[0]}")
            learn_slides(steps, source, scheduler=scheduler, workers=workers, progress=progress)
            self._replace_steps(steps)
        return self

    def to_torch(self, *, slides: Sequence[str] | None = None) -> Any:
        """Return the fitted map as a ``torch.nn.Module``, for loaders that transform batches on a GPU.

        Its output agrees with :meth:`transform_block` to 1e-5 of the largest feature.

        Parameters
        ----------
        slides
            Where a step works by slide: what the numbers in ``batch["slide"]`` stand for, which is ``stream.slides``.
            The module is then called as ``module(batch["x"], batch["slide"])``.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        UsageError
            A step has no form in torch, or works by slide and has not seen one of them; the message names it.
        MissingDependency
            torch is not installed.
        """
        self.check_fitted()
        if find_spec("torch") is None:
            raise errors.MissingDependency(
                "to_torch needs torch, which is not installed: pip install 'msicube[torch]'"
            )
        # By name, at run time: this layer lies below torch's and never imports it.
        return import_module("msicube.stream.torch_chain").to_torch(self, slides=slides)

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = any(
            isinstance(step, Step) and step.classes_by is not None for step in self._steps()
        )
        return tags

    def _steps(self) -> Sequence[Any]:
        """Return the unfitted steps, as they were given."""
        raise NotImplementedError

    def _new_steps(self) -> Sequence[Step]:
        """Return the steps to fit; new ones, so that a fit that fails changes nothing."""
        raise NotImplementedError

    def _finish(self, steps: Sequence[Step], fit: Fit) -> None:
        """Keep what was fitted."""
        raise NotImplementedError

    def _fitted_steps(self) -> Sequence[Step]:
        """Return the fitted steps."""
        raise NotImplementedError

    def _replace_steps(self, steps: list[Step]) -> None:
        """Put steps that have learned more in place of the fitted ones."""
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
    #: Why the step takes no part in a fit that it shares with others; empty where it does.
    alone: ClassVar[str] = ""
    #: Learned arrays and their dimensions, which is what is saved.
    learned_arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Learned numbers and texts, saved as JSON.
    learned_values: ClassVar[tuple[str, ...]] = ("n_irregular_",)

    n_irregular_: int | None
    _gathered: Statistic

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        slides: Iterable[str] | None = None,
        where: Where = None,
        allow_test: bool = False,
        cache: bool | None = None,
        scheduler: SchedulerLike = "threads",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from more spectra, as if all that came before and these had been given to one ``fit``.

        The numbers agree with those of one fit to what float64 rounds. The statistic of all spectra so far stays in
        memory with the step: for a covariance 8 bytes for each pair of channels.

        Parameters
        ----------
        X, y, slides, where, allow_test, cache, scheduler, workers, progress
            As for :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        UsageError
            The step needs more than one pass, or was fitted by ``fit``, which keeps no statistic.
        LeakageError, AxisMismatch
            As for :meth:`fit`.
        """
        source = source_of(X, y, slides=slides, where=where, allow_test=allow_test)
        step: Step = clone(self)
        earlier = getattr(self, "_gathered", None)
        if earlier is None and self.__sklearn_is_fitted__() and self.request() is not None:
            raise UsageError(
                f"this {type(self).__name__} was fitted by fit, which keeps nothing to add to: begin with a new one "
                f"(sklearn.base.clone), and give it all data by partial_fit"
            )
        if self.__sklearn_is_fitted__():
            if isinstance(source, ArraySource):
                require_columns(source.values, self.n_features_in_, type(self).__name__)
            self.channels_in.require(source.channels, where="X")
        gathered = fit_more(
            step, source, earlier, cache=cache, scheduler=scheduler, workers=workers, progress=progress
        )
        self._take(step, gathered)
        return self

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
        if affine is None and self.by_slide:
            raise UsageError(f"{self} works by slide: take the chain of one with chain.for_slide(name)")
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

    def foresee(self, channels: Channels) -> Channels | None:
        """Return what the features will stand for, as far as that is known before anything is read.

        A step whose output depends on the axis of its input, not only on the number of channels, overrides this.
        Positions that are yet to be learned are NaN; None stands for features whose very number is.

        Raises
        ------
        UsageError
            The parameters do not fit the channels.
        """
        n_features = self.plan(channels.n)
        keeps = type(self).channels_out is Step.channels_out
        return channels if keeps else Channels.unknown(channels.kind, n_features)

    def check_classes(self, classes: Sequence[Any]) -> None:
        """Check the classes that ``request`` asks for; called before anything is read.

        Raises
        ------
        UsageError
            The step cannot be fitted on them.
        """

    def prepare(self, channels: Channels) -> None:
        """Begin a fit: take note of the channels, and learn what takes no data."""
        features = self.foresee(channels)
        self.n_features_in_ = channels.n
        self.n_features_out_ = channels.n if features is None else features.n
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

    @property
    def classes_by(self) -> str | None:
        """Column of the samples table that names the class of each spectrum, where ``request`` asks by class."""
        return None

    @property
    def by_slide(self) -> bool:
        """Whether the step learns numbers for each slide; see :class:`msicube.preprocess.by_slide.BySlide`."""
        return False

    def for_slide(self, slide: str) -> Stage:
        """Return what maps the spectra of one slide: the step itself, unless it works by slide."""
        return self

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

    def _steps(self) -> Sequence[Any]:
        return [self]

    def _new_steps(self) -> Sequence[Step]:
        return [clone(self)]

    def _finish(self, steps: Sequence[Step], fit: Fit) -> None:
        self._take(steps[0], None)

    def _fitted_steps(self) -> Sequence[Step]:
        return [self]

    def _replace_steps(self, steps: list[Step]) -> None:
        self._take(steps[0], None)

    def _take(self, step: Step, gathered: Statistic | None) -> None:
        """Become a step that was fitted, on a statistic that more data may be added to."""
        step.seal()
        self.__dict__.pop("_gathered", None)
        given = self.get_params(deep=False)  # the caller's own objects, of which the step holds clones
        self.__dict__.update({name: value for name, value in step.__dict__.items() if name not in given})
        if gathered is not None:
            self._gathered = gathered

    def _provenance(self) -> dict[str, Any]:
        return {"pipeline": str(self)}


def learn_counts(step: Any, statistic: Statistic) -> None:
    """Set ``n_spectra_`` and ``n_nonfinite_`` of a step from the statistic that it learns from."""
    step.n_spectra_ = statistic.n
    step.n_nonfinite_ = statistic.n_nonfinite
