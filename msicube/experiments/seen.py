"""Which slides a pretraining sees, and whether a run may start from what it learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from msicube.errors import LeakageError, RecipeError
from msicube.experiments.recipe import DataSection, Recipe
from msicube.experiments.relabelled import PatchDraw
from msicube.experiments.split import TEST, Split, resolve_split
from msicube.preprocess.recipes import build_pipeline
from msicube.store import Study, slide_digest


@dataclass(frozen=True)
class Seen:
    """The slides of a pretraining.

    Attributes
    ----------
    split
        All of them as training slides, which is what a pipeline is fitted on, and none to test.
    train, validation
        Those that the encoder learns from, and those of other patients that it only reconstructs.
    unlabelled, held_out
        What was asked for.
    draw
        Where patches are split, which of them are left out.
    """

    split: Split
    train: tuple[str, ...]
    validation: tuple[str, ...]
    unlabelled: bool
    held_out: bool
    draw: PatchDraw | None

    def record(self, study: Study) -> dict[str, Any]:
        """Return what later tells whether a slide or a patient was seen."""
        return {
            "unlabelled": self.unlabelled,
            "held_out": self.held_out,
            "draw": None if self.draw is None else asdict(self.draw),
            "seen": [
                {
                    "slide": slide,
                    "patient": self.split.patients[slide],
                    "digest": slide_digest(study, slide),
                }
                for slide in self.split.train
            ],
        }


def seen_slides(
    recipe: Recipe, samples: pd.DataFrame, *, seed: int, unlabelled: bool = False, held_out: bool = False
) -> Seen:
    """Choose the slides of a pretraining.

    Parameters
    ----------
    recipe
        Its split says which slides are held out.
    samples
        Index ``slide``.
    seed
        Of a split that is drawn, and of the patients for validation.
    unlabelled
        Slides without a label instead of those that the split trains on. Of patients who are held out, none.
    held_out
        Those that are held out as well.

    Raises
    ------
    RecipeError
        There are no such slides; it is not said which fold is held out; or a step of the pipeline asks for labels
        where there are none.
    """
    data = recipe.data
    labels = _texts(samples, data.label)
    patients = {slide: slide for slide in map(str, samples.index)} | _texts(samples, data.patient)
    split = _split(data, samples, labels, seed, one_fold=not (unlabelled or held_out))
    if unlabelled:
        _check_steps(recipe)
        slides = _without_label(samples, labels, patients, split, held_out=held_out)
    elif split is None:
        raise RecipeError(
            f"no slide has a {data.label!r}, so no slide is trained on: say unlabelled=True (--unlabelled)"
        )
    else:
        slides = [*split.train, *(split.held_out if held_out else ())]
    seen = sorted(set(slides))
    validation = _validation(seen, patients, recipe.pretrain.validation if recipe.pretrain else 0, seed)
    by_patch = split is not None and split.by_patch and not (unlabelled or held_out)
    return Seen(
        Split(
            classes=split.classes if split else (),
            positive=split.positive if split else 0,
            train=tuple(seen),
            test=(),
            unused=tuple(sorted(set(map(str, samples.index)) - set(seen))),
            labels={slide: labels.get(slide, "") for slide in seen},
            patients={slide: patients[slide] for slide in seen},
            by="patch" if by_patch else "samples",
        ),
        tuple(slide for slide in seen if slide not in validation),
        tuple(validation),
        unlabelled,
        held_out,
        patch_draw(recipe, seed) if by_patch else None,
    )


def check_unseen(record: Mapping[str, Any], split: Split, study: Study, draw: PatchDraw | None) -> None:
    """Check that nothing that a run holds out was seen in a pretraining.

    Parameters
    ----------
    record
        As :meth:`Seen.record` gave it.
    split, study
        Of the run.
    draw
        Of the run, where patches are split: the held-out ones were not seen if the pretraining left out the same.

    Raises
    ------
    LeakageError
        A patient or a slide was seen; it does not matter under which name, or in which copy of the study.
    """
    if split.by_patch and draw is not None and record["draw"] == asdict(draw):
        return
    patients = set() if split.by_patch else {row["patient"] for row in record["seen"]}
    digests = {row["digest"]: row["slide"] for row in record["seen"]}
    for slide in split.held_out:
        if split.patients[slide] in patients:
            found = f"slides of patient {split.patients[slide]!r}"
        elif (digest := slide_digest(study, slide)) in digests:
            found = f"slide {digests[digest]!r}"
        else:
            continue
        raise LeakageError(
            f"the pretraining saw {found}, of whom this run holds out slide {slide!r}: pretrain with the split, the "
            f"fold and the seed of the run, or hold out others"
        )


def patch_draw(recipe: Recipe, seed: int) -> PatchDraw:
    """Return which patches or pixels are held out where they are split."""
    return PatchDraw(recipe.patches.size if recipe.patches else 1, recipe.data.test_fraction, seed)


def _texts(samples: pd.DataFrame, column: str) -> dict[str, str]:
    """Return the values in a column of the samples table, of slides that have one."""
    if column not in samples.columns:
        return {}
    values = samples[column].dropna().astype(str)
    return {str(slide): text for slide, text in values.items() if text}


def _split(
    data: DataSection, samples: pd.DataFrame, labels: Mapping[str, str], seed: int, *, one_fold: bool
) -> Split | None:
    """Return the split of the recipe, in which all slides are held out over several folds; None without labels."""
    if not labels:
        return None
    if data.split != "folds" or data.fold:
        return resolve_split(data, samples, seed=seed)
    if one_fold:
        raise RecipeError(
            f"each of {data.folds} folds holds out other slides, so each needs a pretraining of its own: set data.fold "
            f"= 1, 2, ... in turn, and train with model.pretrained = 'PRE_{{fold}}'"
        )
    split = resolve_split(replace(data, fold=1), samples, seed=seed)
    return replace(split, train=(), validation=(), test=tuple(sorted((*split.train, *split.held_out))))


def _without_label(
    samples: pd.DataFrame,
    labels: Mapping[str, str],
    patients: Mapping[str, str],
    split: Split | None,
    *,
    held_out: bool,
) -> list[str]:
    away: set[str] = set()
    if split is not None and not split.by_patch:
        away = {split.patients[slide] for slide in split.held_out}
    parts = _texts(samples, "split")
    slides = [str(slide) for slide in samples.index if str(slide) not in labels]
    if not held_out:
        slides = [slide for slide in slides if patients[slide] not in away and parts.get(slide) != TEST]
    if not slides:
        raise RecipeError(
            f"none of the {len(samples)} slides is without a label and of a patient who is not held out: leave "
            f"unlabelled=True (--unlabelled) away, and those that the split trains on are taken"
        )
    return slides


def _check_steps(recipe: Recipe) -> None:
    for step in build_pipeline(recipe.pipeline).steps:
        if step.classes_by == recipe.data.label:
            raise RecipeError(
                f"step {step} asks for the label of every slide, which slides without one do not have: take another, "
                f"such as SelectChannels with criterion = 'variance', or pretrain on the slides that have labels"
            )


def _validation(slides: list[str], patients: Mapping[str, str], share: float, seed: int) -> list[str]:
    """Return the slides of some patients, not of all."""
    names = sorted({patients[slide] for slide in slides})
    number = min(max(1, round(share * len(names))), len(names) - 1) if share else 0
    drawn = set(np.random.default_rng([seed, 0x7A11]).permutation(names)[:number].tolist())
    return [slide for slide in slides if patients[slide] in drawn]
