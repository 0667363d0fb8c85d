"""Masks that belong to an experiment and not to the study: learned from its training slides, applied to all.

A mask that learns from several slides, such as outliers by their place in a principal component model, would have seen
what a fold holds out if it were made once and stored in the study. So a recipe may have sections ``[masks.<name>]``,
whose steps are fitted in each run on its training slides; the name then stands in expressions like that of any mask.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import EmptySlideWarning
from msicube.experiments.recipe import Recipe
from msicube.experiments.run import PIPELINE
from msicube.preprocess import Pipeline
from msicube.preprocess.chain import axis_of_its_own
from msicube.preprocess.channels import Channels
from msicube.preprocess.masks.deciding import decide_slides
from msicube.preprocess.masks.jobs import Job, MadeMask, Origin
from msicube.preprocess.recipes import build_pipeline, str_steps
from msicube.preprocess.studies import study_channels
from msicube.scheduling import SchedulerLike
from msicube.store import Study, read_mask
from msicube.store.masks import ACQUIRED
from msicube.store.packed import PackedMask

Progress = Callable[[str, int, int], None]
#: Name of a mask to slide to pixels.
Masks = Mapping[str, Mapping[str, PackedMask]]


class MaskedStudy(Study):
    """A study with masks that are not stored in it.

    Parameters
    ----------
    study
        Is not changed.
    masks
        By name and slide. They come before stored ones of the same name, in fits and streams too.
    """

    def __init__(self, study: Study, masks: Masks) -> None:
        super().__init__(study.location)
        self.own_masks = masks

    def mask_reader(self, slide: str, where: str = ACQUIRED) -> Callable[[], NDArray[np.bool_]]:
        """Return what reads which pixels of a slide an expression chooses, stored masks or not."""
        self._check(slide)
        given = {name: found[slide] for name, found in self.own_masks.items() if slide in found}
        return partial(read_mask, self.location, slide, where, given)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "own_masks": self.own_masks}


def used_masks(recipe: Recipe) -> list[str]:
    """Return the names of the recipe's own masks that its pixels, its pipeline or one of its steps asks for."""
    texts = [recipe.data.where, recipe.pipeline.where or ""]
    texts += [
        value
        for step in recipe.pipeline.steps
        for value in step.parameters.values()
        if isinstance(value, str)
    ]
    return [name for name in recipe.masks if any(named_in(name, text) for text in texts)]


def named_in(name: str, where: str) -> bool:
    """Return whether an expression names a mask."""
    return name in re.findall(r"\w+", where)


def fit_masks(
    recipe: Recipe,
    study: Study,
    slides: Iterable[str],
    *,
    scheduler: SchedulerLike = "threads",
    progress: Progress | None = None,
) -> dict[str, Pipeline]:
    """Fit the masks of a recipe that it uses.

    Parameters
    ----------
    recipe
        With sections ``[masks.<name>]``.
    study, slides
        What to learn from: the training slides.
    scheduler, progress
        Of the fits.
    """
    names, fitted = list(slides), {}
    for name in used_masks(recipe):
        section = recipe.masks[name]
        pipeline = build_pipeline(section)
        fitted[name] = pipeline.fit(
            study, slides=names, where=section.where, scheduler=scheduler, progress=progress
        )
    return fitted


def load_masks(run: Path, recipe: Recipe) -> dict[str, Pipeline]:
    """Return the fitted masks that a run has saved beside its pipeline."""
    return {name: Pipeline.load(run / PIPELINE, name=name) for name in used_masks(recipe)}


def make_masks(
    pipelines: Mapping[str, Pipeline],
    study: Study,
    slides: Iterable[str],
    *,
    scheduler: SchedulerLike = "threads",
    progress: Progress | None = None,
) -> Masks:
    """Apply fitted masks to slides; nothing is learned and nothing is stored.

    Parameters
    ----------
    pipelines
        By the name of the mask; the last step of each is a :class:`~msicube.preprocess.masks.Mask`.
    study, slides
        Where to apply them.
    scheduler, progress
        Of the work: one task a tile.
    """
    names = list(slides)
    found: dict[str, Mapping[str, PackedMask]] = {}
    for name, pipeline in pipelines.items():
        job = _Kept(study, name, pipeline.where_ or ACQUIRED, (), False)
        axes = {slide: _axis(pipeline, study, slide) for slide in names}
        decide_slides(
            job,
            axes,
            pipeline.chain,
            Origin({}, ""),
            scheduler=scheduler,
            workers=None,
            progress=progress,
        )
        found[name] = job.found
    return found


def _axis(pipeline: Pipeline, study: Study, slide: str) -> Channels | None:
    """Return the axis of a slide where it is not that of the fit."""
    found = study_channels(study, slide)
    return axis_of_its_own(pipeline.chain, pipeline.channels_in, found, where=f"slide {slide}")


def warn_of_empty(study: Study, slides: Iterable[str]) -> None:
    """Warn of slides of which nothing is left to look at.

    Parameters
    ----------
    study
        Whose :meth:`~msicube.store.Study.acquired` are the pixels of the experiment.
    slides
        To look at.

    Warns
    -----
    EmptySlideWarning
        There are some.
    """
    empty = [slide for slide in slides if not study.acquired(slide).any()]
    if empty:
        warnings.warn(
            f"the experiment's masks leave no pixel of {', '.join(empty[:5])}"
            f"{f' and {len(empty) - 5} more' if len(empty) > 5 else ''}, which drop out of its results: look at the "
            f"masks, or raise the margin of an OutlierMask",
            EmptySlideWarning,
            stacklevel=2,
        )


def describe_masks(pipelines: Mapping[str, Pipeline], masks: Masks) -> dict[str, Any]:
    """Return what a run records of its own masks: how they were made, and how much of each slide they hold."""
    return {
        name: {
            "steps": str_steps(pipeline.steps_),
            "where": pipeline.where_,
            "fitted_on": pipeline.slides_,
            "learned": {
                key.rstrip("_"): value
                for key in ("t2_limit_", "q_limit_", "captured_variance_", "n_spectra_", "margin")
                if (value := getattr(pipeline.steps_[-1], key, None)) is not None
            },
            "held": {slide: int(mask.whole().sum()) for slide, mask in sorted(masks[name].items())},
        }
        for name, pipeline in pipelines.items()
    }


@dataclass(frozen=True)
class _Kept(Job):
    """A mask that is kept in memory and not stored."""

    found: dict[str, PackedMask] = field(default_factory=dict)

    def store(
        self,
        slide: str,
        held: NDArray[np.bool_],
        looked_at: NDArray[np.bool_],
        origin: Origin,
        numbers: Mapping[str, NDArray[Any]],
    ) -> MadeMask:
        """Keep a mask."""
        held = held & looked_at
        self.found[slide] = PackedMask.of(held)
        return MadeMask(slide, "made", int(looked_at.sum()), int(held.sum()))
