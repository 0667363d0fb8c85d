"""The pipeline of a recipe: built, fitted, or found in the study. Does not import torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import msicube.preprocess
from msicube.errors import RecipeError
from msicube.experiments.recipe import PipelineSection, Step
from msicube.preprocess import Pipeline
from msicube.preprocess import Step as PipelineStep
from msicube.preprocess.materialise import FINGERPRINT, WHERE
from msicube.store import Study
from msicube.store.draft import read_attrs


def build_pipeline(section: PipelineSection) -> Pipeline:
    """Return the unfitted pipeline of a recipe.

    Raises
    ------
    RecipeError
        An unknown step, or a parameter that it does not take or lacks.
    """
    return Pipeline([_build_step(step) for step in section.steps])


def check_saved(pipeline: Pipeline, section: PipelineSection, *, train: Sequence[str], study: Study) -> None:
    """Check that a pipeline found in a study is the one that a recipe would fit.

    Raises
    ------
    RecipeError
        Its steps or the slides of its fit are others.
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
    more, less = sorted(set(pipeline.slides_) - set(train)), sorted(set(train) - set(pipeline.slides_))
    if more or less:
        found = f"{more[0]!r} among them" if more else f"{less[0]!r} not among them"
        raise RecipeError(
            f"pipeline '{section.name}' in {study.path} was fitted on {len(pipeline.slides_)} slides, {found}, and the "
            f"recipe trains on {len(train)}: {remedy}"
        )


def is_materialised(study: Study, pipeline: Pipeline, name: str, slides: Sequence[str]) -> bool:
    """Return whether all slides have the features of just this pipeline, on all pixels, under this name."""
    fingerprint = pipeline.fingerprint()
    attrs = [read_attrs(study.location / slide / name) or {} for slide in slides]
    return all(found.get(FINGERPRINT) == fingerprint and WHERE not in found for found in attrs)


def str_steps(steps: Sequence[PipelineStep]) -> str:
    """Return steps with all of their parameters in one line."""
    texts = []
    for step in steps:
        parameters = ", ".join(
            f"{key}={value!r}" for key, value in sorted(step.get_params(deep=False).items())
        )
        texts.append(f"{type(step).__name__}({parameters})")
    return " -> ".join(texts)


def _build_step(step: Step) -> PipelineStep:
    known = _known_steps()
    if step.step not in known:
        raise RecipeError(
            f"[pipeline] there is no step {step.step!r}{_nearest(step.step, known)}: expected one of {', '.join(known)}"
        )
    kind = known[step.step]
    allowed = inspect.signature(kind).parameters
    for key in step.parameters:
        if key not in allowed:
            raise RecipeError(
                f"[pipeline] step {step.step} has no parameter {key!r}{_nearest(key, allowed)}: expected "
                f"{', '.join(allowed) or 'none'}"
            )
    lacking = [p.name for p in allowed.values() if p.default is p.empty and p.name not in step.parameters]
    if lacking:
        raise RecipeError(f"[pipeline] step {step.step} lacks the parameter {lacking[0]!r}")
    return kind(**step.parameters)


def _known_steps() -> dict[str, type[PipelineStep]]:
    found = {name: getattr(msicube.preprocess, name) for name in msicube.preprocess.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, PipelineStep) and kind is not PipelineStep
    }


def _nearest(name: str, allowed: Any) -> str:
    close = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
