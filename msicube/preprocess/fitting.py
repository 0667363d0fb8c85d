"""Fitting a run of steps in the fewest passes over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msicube.errors import AxisMismatch, NoFiniteSpectrum, UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import Chain, chain_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.engine import Progress, Tally, run_pass
from msicube.preprocess.kept import LIMIT_BYTES, Kept, kept_of_pass, wants_cache
from msicube.preprocess.moments import Statistic
from msicube.preprocess.request import SLIDE, Request
from msicube.preprocess.sources import Source
from msicube.scheduling import SchedulerLike

if TYPE_CHECKING:
    from msicube.preprocess.base import Step


@dataclass(frozen=True)
class Pass:
    """A pass over the data, for the record.

    Attributes
    ----------
    gathered
        Which statistic: ``moments by label``.
    before
        The step whose input it describes.
    n_channels
        Channels of that input.
    n_spectra
        Spectra in the statistic.
    n_nonfinite
        Spectra left out of it because of a NaN or an infinity.
    n_kept
        Slides that were not read, because an earlier fit had kept their statistic.
    """

    gathered: str
    before: str
    n_channels: int
    n_spectra: int
    n_nonfinite: int
    n_kept: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Fit:
    """What is known of a fit besides what the steps learned.

    Attributes
    ----------
    channels
        Of the spectra.
    slides
        A hash of the content of each slide, by its name, in the order of the fit.
    where
        Which pixels of them.
    classes
        The classes of the spectra.
    passes
        In order.
    """

    channels: Channels
    slides: dict[str, str]
    where: str | None
    classes: list[Any]
    passes: list[Pass]


@dataclass(frozen=True)
class _Known:
    """A statistic of the input of a step."""

    request: Request
    statistic: Statistic

    def through(self, step: Step) -> _Known | None:
        """Return the statistic of the step's output, where it follows from this one."""
        affine = step.as_affine()
        statistic = None if affine is None else self.statistic.through(affine)
        return None if statistic is None else _Known(self.request, statistic)


def fit_steps(
    steps: Sequence[Step],
    source: Source,
    *,
    cache: bool | None = None,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Fit steps in order, each on the output of those before it.

    A pass is made only where a step needs a statistic that does not follow from one that is known already: the moments
    of standardised spectra follow from those of the spectra, the moments of their logarithms do not.

    Raises
    ------
    UsageError
        A step does not fit the number of channels, a label is missing, or no spectrum is finite.
    """
    classes = _check(steps, source)
    channels = source.channels
    known: _Known | None = None
    passes: list[Pass] = []
    used: set[str] = set()
    for number, step in enumerate(steps):
        step.prepare(channels)
        request = step.request()
        while request is not None:
            if known is None or not known.request.covers(request):
                chain = chain_of(steps[:number], source.channels.n, before=step)
                wanted = _shared(request, steps[number:], channels)
                data = _asked(source, wanted)
                kept = kept_of_pass(data, chain, wanted) if wants_cache(cache) else None
                tally = run_pass(
                    data,
                    chain,
                    wanted,
                    kept=kept,
                    scheduler=scheduler,
                    workers=workers,
                    progress=progress,
                    label=f"pass {len(passes) + 1}: {wanted}",
                )
                known = _Known(wanted, _statistic(tally, data))
                passes.append(_record(known, step, channels, kept))
                _note_irregular(chain, tally)
                if kept is not None:
                    used.update(kept.entries.values())
                    kept.store.trim(frozenset(used), LIMIT_BYTES)
            request = step.learn(known.statistic)
        channels = step.channels_out()
        known = None if known is None else known.through(step)
    slides = {slide: source.digests[slide] for slide in source.slides}
    return Fit(source.channels, slides, source.where, classes, passes)


def fit_more(
    step: Step,
    source: Source,
    earlier: Statistic | None,
    *,
    cache: bool | None = None,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Statistic | None:
    """Fit one step on what was gathered earlier and more spectra; return what is gathered now.

    Raises
    ------
    UsageError
        The step needs more than one pass; and as :func:`fit_steps`.
    """
    step.prepare(source.channels)
    request = step.request()
    if request is None:
        return None
    if request.by not in (None, SLIDE):
        source.classes(
            request.by
        )  # each spectrum has one; whether they suffice shows with those of all parts
    source = _asked(source, request)
    chain = chain_of([], source.channels.n)
    kept = kept_of_pass(source, chain, request) if wants_cache(cache) else None
    tally = run_pass(
        source,
        chain,
        request,
        kept=kept,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
        label=str(request),
    )
    statistic: Statistic = _statistic(tally, source)
    if earlier is not None:
        statistic = earlier.merge(statistic)
    if step.learn(statistic) is not None:
        raise UsageError(
            f"{type(step).__name__} goes through the data more than once, so it cannot be fitted part by part: give "
            f"fit all of it, it reads no more than a strip at a time"
        )
    return statistic


def _check(steps: Sequence[Step], source: Source) -> list[Any]:
    """Check, before anything is read, that the steps can be fitted; return the classes that they need."""
    channels: Channels | None = source.channels
    classes: set[Any] = set()
    for step in steps:
        if step.alone:
            raise UsageError(step.alone)
        channels = None if channels is None else step.foresee(channels)
    for slide, axis in source.axes.items():
        try:
            steps[0].foresee(axis)
        except UsageError as error:
            raise AxisMismatch(f"slide {slide}: {error}") from error
    for step in steps:
        by = step.classes_by
        if by not in (None, SLIDE):
            found = source.classes(by)
            step.check_classes(found)
            classes.update(found)
    return sorted(classes, key=str)


def _shared(request: Request, steps: Sequence[Step], channels: Channels) -> Request:
    """Return a request that also answers later steps, as far as what it gathers can follow the data through them."""
    known: Channels | None = channels
    for step, following in pairwise(steps):
        known = None if known is None else step.foresee(known)
        if not step.linear or known is None:
            break
        following.foresee(known)  # what a step asks for may depend on the number of channels
        later = following.request()
        request = (request if later is None else request.join(later)) or request
    return request


def _asked(source: Source, request: Request) -> Source:
    """Return the spectra that a request is about."""
    return source if request.where is None else source.inside(request.where)


def _statistic(tally: Tally, source: Source) -> Statistic:
    """Return the statistic of a pass, which must hold spectra."""
    if tally.statistic is not None and tally.statistic.n > 0:
        return tally.statistic
    where = f"slides {', '.join(source.slides[:5])}" if source.slides else "X"
    if tally.statistic is None:
        inside = "" if source.where is None else f" and inside where= ({source.where})"
        raise NoFiniteSpectrum(f"{where}: no pixel is acquired{inside}, there is nothing to fit on")
    if not tally.statistic.n_nonfinite:
        raise NoFiniteSpectrum(f"{where}: no spectrum is left to fit on, all are zero or constant")
    raise NoFiniteSpectrum(
        f"{where}: all {tally.statistic.n_nonfinite} spectra hold a NaN or an infinity where a step is fitted on them; "
        f"a step before it may have made them"
    )


def _record(known: _Known, step: Step, channels: Channels, kept: Kept | None) -> Pass:
    statistic = known.statistic
    return Pass(
        gathered=str(known.request),
        before=type(step).__name__,
        n_channels=channels.n,
        n_spectra=statistic.n,
        n_nonfinite=statistic.n_nonfinite,
        n_kept=0 if kept is None else len(kept.present),
    )


def _note_irregular(chain: Chain, tally: Tally) -> None:
    """Tell each step what the first pass through it, which sees all of its channels, found irregular."""
    for stage, count in zip(chain.stages, tally.irregular.tolist(), strict=True):
        if not isinstance(stage, Affine) and getattr(stage, "n_irregular_", None) is None:
            stage.n_irregular_ = count  # type: ignore[attr-defined]
