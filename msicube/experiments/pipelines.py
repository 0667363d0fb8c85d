"""The pipeline of a recipe, found in the study. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence

from msicube.errors import RecipeError
from msicube.preprocess import Pipeline
from msicube.preprocess.materialise import FINGERPRINT, WHERE, WHERE_DIGEST
from msicube.preprocess.recipes import PipelineSection, build_pipeline, str_steps
from msicube.preprocess.studies import mask_digest
from msicube.store import Study
from msicube.store.draft import read_attrs


def check_saved(
    pipeline: Pipeline,
    section: PipelineSection,
    *,
    train: Sequence[str],
    study: Study,
    where: str | None = None,
) -> None:
    """Check that a pipeline found in a study is the one that a recipe would fit on these slides and pixels.

    Raises
    ------
    RecipeError
        Its steps, or the slides or pixels of its fit, are others.
    """
    remedy = (
        f"set pipeline.name to a name that the study does not have, and the run fits its own, or fit '{section.name}' "
        f"again"
    )
    saved, wanted = str_steps(pipeline.steps_), str_steps(build_pipeline(section).steps)
    if saved != wanted:
        raise RecipeError(
            f"pipeline '{section.name}' in {study.path} has the steps {saved}, the recipe has {wanted}: {remedy}"
        )
    if pipeline.where_ != where:
        fitted, takes = (f"where {text!r}" if text else "on all pixels" for text in (pipeline.where_, where))
        raise RecipeError(
            f"pipeline '{section.name}' in {study.path} was fitted {fitted}, the recipe fits {takes}: "
            f"{remedy}"
        )
    more, less = sorted(set(pipeline.slides_) - set(train)), sorted(set(train) - set(pipeline.slides_))
    if more or less:
        found = f"{more[0]!r} among them" if more else f"{less[0]!r} not among them"
        raise RecipeError(
            f"pipeline '{section.name}' in {study.path} was fitted on {len(pipeline.slides_)} slides, {found}, and the "
            f"recipe trains on {len(train)}: {remedy}"
        )


def is_materialised(
    study: Study, pipeline: Pipeline, name: str, slides: Sequence[str], *, where: str | None = None
) -> bool:
    """Return whether all slides have the features of just this pipeline under this name, on all pixels or ``where``."""
    fingerprint = pipeline.fingerprint()

    def fits(slide: str) -> bool:
        found = read_attrs(study.location / slide / name) or {}
        if found.get(FINGERPRINT) != fingerprint:
            return False
        if WHERE not in found:
            return True
        return (
            where is not None
            and found[WHERE] == where
            and found[WHERE_DIGEST] == mask_digest(study, where, slide)
        )

    return all(fits(slide) for slide in slides)
