"""Masks made of the slides of a study and stored in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from msicube.errors import NoFiniteSpectrum, UnknownSlide, UsageError
from msicube.preprocess.chain import axis_of_its_own
from msicube.preprocess.channels import Channels
from msicube.preprocess.engine import Progress
from msicube.preprocess.masks.base import Mask
from msicube.preprocess.masks.coverage import CoverageMask
from msicube.preprocess.masks.deciding import decide_slides
from msicube.preprocess.masks.jobs import Job, MadeMask, Origin, steps_of
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.studies import StudySource, chosen_slides, study_channels
from msicube.scheduling import SchedulerLike, default_workers, is_local, shared
from msicube.store import Study, open_study, read_mask
from msicube.store.lock import write_lock
from msicube.store.masks import ACQUIRED, check_mask_name, parse_where

Bools = NDArray[np.bool_]
#: Slides that are worked on at a time where each is fitted on by itself; fewer where their statistics would take more
#: than so many bytes of this process.
SLIDES_AT_ONCE, STATISTICS_BYTES = 16, 256 * 2**20


def make_mask(
    study: Study | str | os.PathLike[str],
    mask: Mask | Pipeline | CoverageMask,
    *,
    name: str,
    slides: Iterable[str] | None = None,
    where: str | None = None,
    per_slide: bool = False,
    fit_slides: Iterable[str] | None = None,
    allow_test: bool = False,
    images: bool = False,
    overwrite: bool = False,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[MadeMask]:
    """Make a mask of the slides of a study and store it in them, as a boolean variable of dims ``(y, x)``.

    Afterwards ``study[slide][name]`` and ``study.mask(slide, name)`` give it, and every ``where=`` knows it. A slide's
    mask appears whole or not at all. Running it again goes on where it stopped.

    Parameters
    ----------
    study
        The study or its path.
    mask
        Which: a mask, or a pipeline whose last step is one. One that is fitted is used as it is; else it is fitted
        first.
    name
        Letters, digits and underscores.
    slides
        Those that get the mask; all by default.
    where
        Only look at the pixels that this expression of masks chooses, for fitting and afterwards; the others are False.
    per_slide
        Fit on each slide by itself: several at a time, whose tasks share the workers, with the same masks.
    fit_slides
        The slides to fit on together. By default those whose ``split`` in the samples table is ``train``, or all where
        the table has no such column.
    allow_test
        Whether slides whose ``split`` is ``test`` may be fitted on together with others.
    images
        Also store the numbers that the mask was decided on, as ``<name>_<number>``: T2 and Q of :class:`OutlierMask`.
    overwrite
        Whether to replace a mask of this name that was made in another way.
    scheduler, workers
        Where tiles are read; see :mod:`msicube.scheduling`.
    progress
        Called in this process with what is done, parts done and parts in all.

    Returns
    -------
    list of MadeMask
        One for each slide, in the order of the study.

    Raises
    ------
    UsageError
        A name that is taken, an expression or a parameter that does not fit.
    LeakageError
        A slide to fit on that is held out for testing.
    StudyLocked
        Another process is writing to the study.

    Notes
    -----
    With ``per_slide``, a slide without a finite spectrum gets a mask that holds nothing, or all of it where it is one
    of bad spectra (:class:`DeadPixelMask`, :class:`OutlierMask`), and a remark.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    check_mask_name(name)
    parse_where(where or ACQUIRED)
    wanted = _wanted(opened, slides)
    if per_slide and fit_slides is not None:
        raise UsageError("per_slide=True fits on each slide by itself: leave out fit_slides=")
    with write_lock(opened.location):
        job = Job(opened, name, where or ACQUIRED, _images(mask) if images else (), overwrite)
        run = {"scheduler": scheduler, "workers": workers, "progress": progress}
        if isinstance(mask, CoverageMask):
            made = _tidy(job, mask, wanted, progress)
        elif per_slide:
            made = _one_by_one(job, _as_pipeline(mask), wanted, run)
        else:
            pipeline = _as_pipeline(mask)
            if not pipeline.__sklearn_is_fitted__():
                together = chosen_slides(opened, fit_slides, allow_test=allow_test)
                pipeline = _fitted(pipeline, opened, together, job.where, run)
            made = _all(job, pipeline, wanted, Origin.of(pipeline), run)
    return [made[slide] for slide in wanted]


def _wanted(study: Study, slides: Iterable[str] | None) -> list[str]:
    names = set(study.slides if slides is None else [slides] if isinstance(slides, str) else slides)
    unknown = sorted(names - set(study.slides))
    if unknown:
        raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {len(study.slides)} slides")
    return [slide for slide in study.slides if slide in names]


def _images(mask: Mask | Pipeline | CoverageMask) -> tuple[str, ...]:
    """Return the names of the numbers that a mask is decided on."""
    last = mask.steps[-1] if isinstance(mask, Pipeline) and mask.steps else mask
    return last.images if isinstance(last, Mask) else ()


def _as_pipeline(mask: Mask | Pipeline) -> Pipeline:
    """Return a pipeline that ends with a mask, fitted where it is."""
    if isinstance(mask, Pipeline):
        if not mask.steps or not isinstance(mask.steps[-1], Mask):
            raise UsageError(
                f"the last step of the pipeline has to be a mask such as TissueMask(), found {mask}"
            )
        return mask
    if not isinstance(mask, Mask):
        raise UsageError(f"a mask such as TissueMask() is expected, found {type(mask).__name__}")
    pipeline = Pipeline([clone(mask)])
    if mask.__sklearn_is_fitted__():
        record: dict[str, Any] = {"passes_": [], "slides_": [], "labels_": []}
        return pipeline.restore([mask], mask.channels_in, record)
    return pipeline


def _fitted(
    pipeline: Pipeline, study: Study, slides: list[str], where: str, run: Mapping[str, Any]
) -> Pipeline:
    """Return a copy of a pipeline, fitted on chosen pixels of slides."""
    fitted: Pipeline = clone(pipeline)
    any_axis = fitted.steps[0].takes_any_axis
    return fitted.fit_source(StudySource.of(study, slides, where=where, any_axis=any_axis), **run)


def _one_by_one(
    job: Job, pipeline: Pipeline, slides: Sequence[str], run: Mapping[str, Any]
) -> dict[str, MadeMask]:
    """Fit on each slide by itself and make its mask; several slides at a time, whose tasks share the workers."""
    if not slides:
        return {}
    report, lock = run["progress"], Lock()

    def progress(*event: Any) -> None:
        with lock:
            report(*event)

    with (
        shared(run["scheduler"], run["workers"]) as scheduler,
        ThreadPoolExecutor(_slides_at_once(job, slides[0], run)) as threads,
    ):
        own = {**run, "scheduler": scheduler, "progress": None if report is None else progress}
        running = {slide: threads.submit(_by_itself, job, slide, pipeline, own) for slide in slides}
        try:
            wait(running.values(), return_when=FIRST_EXCEPTION)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
        for one in running.values():
            if not one.cancelled() and (error := one.exception()) is not None:
                raise error
    return {slide: one.result() for slide, one in running.items()}


def _slides_at_once(job: Job, slide: str, run: Mapping[str, Any]) -> int:
    """Return how many slides to work on at a time."""
    if run["scheduler"] == "synchronous":
        return 1
    largest = (
        3 * 8 * study_channels(job.study, slide).n ** 2
    )  # a covariance, and two more while they are merged
    bound = max(1, min(SLIDES_AT_ONCE, STATISTICS_BYTES // largest))
    return min(bound, run["workers"] or default_workers()) if is_local(run["scheduler"]) else bound


def _by_itself(job: Job, slide: str, pipeline: Pipeline, run: Mapping[str, Any]) -> MadeMask:
    """Fit on one slide and make its mask, unless it is there."""
    looked_at, identity = job.looked_at(slide), ["per slide", steps_of(pipeline)]
    present = job.present(slide, looked_at, identity)
    if present is not None:
        return present
    if not looked_at.any():
        return _nothing(job, slide, looked_at, pipeline, identity, "no pixel to look at")
    try:
        fitted = _fitted(pipeline, job.study, [slide], job.where, run)
    except NoFiniteSpectrum:
        return _nothing(job, slide, looked_at, pipeline, identity, "no finite spectrum")
    origin = replace(Origin.of(fitted), identity=identity)
    return _all(job, fitted, [slide], origin, run)[slide]


def _nothing(
    job: Job, slide: str, looked_at: Bools, pipeline: Pipeline, identity: Any, remark: str
) -> MadeMask:
    """Store the mask of a slide that has nothing to fit on: of no pixel, or of all where it is one of bad spectra."""
    last = pipeline.steps[-1]
    held = looked_at if isinstance(last, Mask) and last.holds_nonfinite else np.zeros_like(looked_at)
    origin = Origin({"steps": steps_of(pipeline), "learned": None, "fitted_on": []}, identity, remark)
    return job.store(slide, held, looked_at, origin, {})


def _all(
    job: Job, pipeline: Pipeline, slides: Sequence[str], origin: Origin, run: Mapping[str, Any]
) -> dict[str, MadeMask]:
    """Make the masks of slides by a fitted pipeline, a few slides at a time."""
    made: dict[str, MadeMask] = {}
    todo: list[str] = []
    axes: dict[str, Channels | None] = {}
    for slide in slides:
        found = study_channels(job.study, slide)
        axes[slide] = axis_of_its_own(pipeline.chain, pipeline.channels_in, found, where=f"slide {slide}")
        present = job.present(slide, job.looked_at(slide), origin.identity)
        if present is None:
            todo.append(slide)
        else:
            made[slide] = present
    return made | decide_slides(job, {slide: axes[slide] for slide in todo}, pipeline.chain, origin, **run)


def _tidy(
    job: Job, mask: CoverageMask, slides: Sequence[str], progress: Progress | None
) -> dict[str, MadeMask]:
    """Tidy a mask of each slide."""
    parse_where(mask.of)
    steps = [{"class": type(mask).__name__, "params": mask.get_params()}]
    made: dict[str, MadeMask] = {}
    for slide in slides:
        given, looked_at = read_mask(job.study.location, slide, mask.of), job.looked_at(slide)
        identity = [steps, hashlib.sha256(np.packbits(given).tobytes()).hexdigest()]
        origin = Origin({"steps": steps, "learned": {}, "fitted_on": []}, identity)
        present = job.present(slide, looked_at, identity)
        made[slide] = present or job.store(
            slide, mask.predict(given & looked_at, looked_at), looked_at, origin, {}
        )
        if progress is not None:
            progress(slide, 1, 1)
    return made
