"""Steps that learn numbers for each slide: what makes a measurement differ from the next, and nothing else.

A slide is transformed with what was learned of that slide. One that the fit has not seen is an error, not a guess: to
learn of it is a pass over its spectra, which is made when it is asked for, by ``add_slides``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msicube.errors import UsageError
from msicube.preprocess.chain import chain_of
from msicube.preprocess.engine import Progress, run_pass
from msicube.preprocess.moments import ClassMoments, Moments
from msicube.preprocess.sources import Source
from msicube.scheduling import SchedulerLike

if TYPE_CHECKING:
    from msicube.preprocess.base import Step


class BySlide(Protocol):
    """What a step adds to be one that works by slide.

    ``request`` asks for a statistic by :data:`~msicube.preprocess.request.SLIDE`, ``learn`` takes it for the slides of
    the fit, and ``for_slide`` returns what maps the spectra of one slide. The kernel of the step itself maps none.

    Attributes
    ----------
    slides_
        The slides that are known, in the order of the rows of what was learned of them.
    """

    slides_: list[str]

    def learn_more(self, statistic: Any) -> None:
        """Learn from the statistic of further slides; learned arrays are replaced, not written to."""


def unknown_slides(steps: Iterable[Step], slides: Iterable[str]) -> list[str]:
    """Return the slides that a step which works by slide has yet to see."""
    working = [step for step in steps if step.by_slide]
    return [slide for slide in slides if any(slide not in step.slides_ for step in working)]


def learn_slides(
    steps: Sequence[Step],
    source: Source,
    *,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Let each fitted step that works by slide learn of the slides of a source, by one pass each."""
    for number, step in enumerate(steps):
        request = step.request()
        if step.by_slide and request is not None:
            chain = chain_of(steps[:number], source.channels.n)
            label = f"{type(step).__name__}: {request}"
            tally = run_pass(
                source, chain, request, scheduler=scheduler, workers=workers, progress=progress, label=label
            )
            if tally.statistic is not None:
                step.learn_more(tally.statistic)


def moments_of_slides(statistic: ClassMoments) -> dict[str, Moments]:
    """Return the moments of each slide with a finite spectrum, by name; the name of an array's is empty."""
    named = {str(name or ""): moments for name, moments in statistic.classes.items() if moments.n}
    return dict(sorted(named.items()))


def row_of(step: Step, slide: str) -> int:
    """Return the row of a slide in what a step has learned.

    Raises
    ------
    UsageError
        It has not seen the slide.
    """
    known: list[str] = step.slides_
    if slide in known:
        return known.index(slide)
    what = f"{step} works by slide and knows {_some(known)}"
    if not slide:
        raise UsageError(
            f"{what}, and the spectra of an array or a dataset belong to none of them: transform the study, or give "
            f"transform_block the slide"
        )
    raise UsageError(
        f"{what}, not {slide}: have it learn from a finite spectrum of the slide with add_slides(study, "
        f"slides=[{slide!r}])"
    )


def _some(slides: Sequence[str]) -> str:
    """Return slides in few words."""
    if slides == [""]:
        return "only the array or dataset of its fit"
    return ", ".join(slides[:3]) + (f" and {len(slides) - 3} more" if len(slides) > 3 else "")
