"""What a step and a pipeline have in common, as their user sees it: fit, transform, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

from msicube import errors
from msicube.preprocess.by_slide import learn_slides, unknown_slides
from msicube.preprocess.chain import Chain, axis_of_its_own
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where
from msicube.preprocess.engine import Progress
from msicube.preprocess.fitting import Fit, fit_steps
from msicube.preprocess.inputs import source_of
from msicube.preprocess.inverse import Inverse
from msicube.preprocess.lazy import Mapped, transform_any
from msicube.preprocess.sources import Source
from msicube.preprocess.studies import StudySource, chosen_slides, study_where
from msicube.scheduling import SchedulerLike, shared
from msicube.store import Study

if TYPE_CHECKING:
    from msicube.preprocess.base import Step


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
        first = next(iter(self._steps()), None)
        any_axis = getattr(first, "takes_any_axis", False)
        source = source_of(X, y, slides=slides, where=where, allow_test=allow_test, any_axis=any_axis)
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
        # One pool of processes, or one connection, for all passes. Dask keeps its threads from fit to fit, and with
        # them the memory that the allocator holds for each.
        held = nullcontext(scheduler) if scheduler == "threads" else shared(scheduler, workers)
        with held as own:
            fit = fit_steps(steps, source, cache=cache, scheduler=own, workers=workers, progress=progress)
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
        where: str | None = None,
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
        where
            Which of their pixels, as for :meth:`fit`. By default those that a pipeline was fitted on, by the mask or
            expression that it remembers; ``"acquired"`` stands for all. A single step remembers none.
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
            remembered = getattr(self, "where_", None) if getattr(self, "slides_", []) else None
            inside = study_where(remembered if where is None else where)
            source = StudySource.of(study, unknown, where=inside, any_axis=self.chain.takes_any_axis)
            axes: dict[str, Channels] = {}
            for slide in unknown:
                found = source.axes.get(slide, source.channels)
                own = axis_of_its_own(self.chain, self.channels_in, found, where=f"slide {slide}")
                axes |= {} if own is None else {slide: own}
            source = replace(source, channels=self.channels_in, axes=axes)
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
            The module is then called as ``module(batch["spectra"], batch["slide"])``.

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
            getattr(step, "classes_by", None) is not None for step in self._steps()
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
