"""What every step is.

How to write a step: subclass :class:`Step`, take the parameters in ``__init__`` and store them, and write ``kernel``.
A step that learns says in ``request`` which statistic of its input it needs and takes it in ``learn``. Fitting, lazy
transforms, folding, saving and the loaders then work by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import Stage, chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where, require_columns
from msicube.preprocess.engine import Progress
from msicube.preprocess.fitting import Fit, fit_more
from msicube.preprocess.inputs import ArraySource, source_of
from msicube.preprocess.moments import Statistic
from msicube.preprocess.request import Request
from msicube.preprocess.transformer import Transformer
from msicube.scheduling import SchedulerLike


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
    #: As the first step, it brings spectra of any axis onto one, each slide from its own; see ``on_axis``.
    takes_any_axis: ClassVar[bool] = False
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
