"""Runs that start from an encoder learned without labels: its pipeline, its weights, and that nothing leaks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msicube.errors import CorruptSource, LeakageError, RecipeError, UsageError
from msicube.experiments.recipe import Recipe
from msicube.experiments.run import INFO, PIPELINE, WEIGHTS, Run
from msicube.experiments.seen import check_unseen, patch_draw
from msicube.experiments.split import Split
from msicube.models import Provenance, build_model, find_model, without_weights
from msicube.models.encoding import Loaded, encoder_parts, freeze_encoder, load_encoder
from msicube.preprocess import Pipeline
from msicube.preprocess.recipes import build_pipeline, str_steps
from msicube.preprocess.studies import study_channels
from msicube.store import Study


@dataclass(frozen=True)
class Pretrained:
    """A pretraining that a run starts from.

    Attributes
    ----------
    run
        Its folder.
    pipeline
        That its encoder knows the features of; it was fitted on slides that the pretraining saw.
    """

    run: Run
    pipeline: Pipeline

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.run.path

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the encoder's weights.

        Raises
        ------
        CorruptSource
            The file is damaged.
        """
        path = self.path / WEIGHTS
        try:
            state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
            raise CorruptSource(
                f"{path} holds no weights that torch can read ({error}): pretrain again"
            ) from error
        return state


def open_pretraining(path: str | os.PathLike[str]) -> Run:
    """Open the folder of a pretraining.

    Raises
    ------
    UsageError
        The folder holds no pretraining.
    """
    run = Run(Path(path))
    if not (run.path / INFO).is_file() or not run.is_pretraining:
        raise UsageError(
            f"{run.path} is no pretraining: make one with `msicube pretrain RECIPE STUDY --out PRE`"
        )
    return run


def find_pretrained(recipe: Recipe) -> Pretrained | None:
    """Return the pretraining that a recipe starts from, or None.

    Raises
    ------
    RecipeError
        The folder holds none, or one of other samples or another pipeline; or only the head of a network that was not
        pretrained is to be trained.
    """
    section = recipe.model
    if not section.pretrained:
        if section.finetune == "head":
            raise RecipeError(
                "model.finetune = 'head' freezes everything else, which is random: give model.pretrained as well"
            )
        return None
    path = section.pretrained.replace("{fold}", str(recipe.data.fold))
    try:
        run = open_pretraining(path)
    except UsageError as error:
        raise RecipeError(f"model.pretrained = {section.pretrained!r}: {error}") from error
    if not (run.path / WEIGHTS).is_file():
        raise RecipeError(
            f"model.pretrained = {section.pretrained!r} has no {WEIGHTS}, its first epoch did not end: pretrain again"
        )
    found = Pretrained(run, Pipeline.load(run.path / PIPELINE, name=run.recipe.pipeline.name))
    _check_recipe(found, recipe)
    return found


def check_pretrained(recipe: Recipe, study: Study, split: Split, *, seed: int, shuffled: bool) -> None:
    """Check, before anything is written, that a run may start from its pretraining.

    Raises
    ------
    RecipeError
        As :func:`find_pretrained`.
    AxisMismatch
        The study lies on another spectral axis.
    LeakageError
        The pretraining saw a patient or a slide that the run holds out, or true labels that the run shuffles.
    """
    found = find_pretrained(recipe)
    if found is None:
        return
    first = split.train[0]
    found.pipeline.channels_in.require(study_channels(study, first), where=f"slide {first}")
    draw = patch_draw(recipe, seed) if split.by_patch else None
    check_unseen(found.run.info["pretraining"], split, study, draw)
    if shuffled and found.pipeline.labels_:
        raise LeakageError(
            f"the pipeline of {found.path} was fitted with the true labels, so labels that are shuffled here would not "
            f"show what is reached without them: pretrain with a pipeline that asks for no labels"
        )


def first_network(recipe: Recipe, *, n_channels: int, n_classes: int) -> nn.Module:
    """Build the network of a recipe, with the weights that it starts from.

    Parameters
    ----------
    recipe
        ``[model]`` says which network and which weights.
    n_channels, n_classes
        Of its samples and its logits.

    Raises
    ------
    RecipeError
        As :func:`find_pretrained`, or none of the weights fits the network.
    """
    found = find_pretrained(recipe)
    section = recipe.model
    if found is None:
        return build_model(section.name, n_channels=n_channels, n_classes=n_classes, **section.options)
    options = without_weights(section.name, section.options)
    model = build_model(section.name, n_channels=n_channels, n_classes=n_classes, **options)
    try:
        loaded = load_encoder(model, found.weights())
    except RecipeError as error:
        raise RecipeError(f"model.pretrained = {section.pretrained!r}: {error}") from error
    head = [name for name, _ in model.named_children() if name not in encoder_parts(model)]
    if section.finetune == "head":
        if not head:
            raise RecipeError(f"model.finetune = 'head': {section.name} has no part beside its encoder")
        freeze_encoder(model)
    setattr(model, "provenance", _provenance(found, loaded, head, section.finetune))  # noqa: B010
    return model


def describe_pretrained(recipe: Recipe) -> dict[str, Any] | None:
    """Return what a run records of the pretraining that it starts from."""
    found = find_pretrained(recipe)
    if found is None:
        return None
    return {
        "path": str(found.path.resolve()),
        "weights": blake2b((found.path / WEIGHTS).read_bytes(), digest_size=16).hexdigest(),
        "n_seen": len(found.run.info["pretraining"]["seen"]),
    }


def _check_recipe(found: Pretrained, recipe: Recipe) -> None:
    """Check that the encoder will see what it was pretrained on."""
    own, name = found.run.recipe, f"model.pretrained = {recipe.model.pretrained!r}"
    find_model(recipe.model.name, recipe.model.options)
    kinds = [
        ("patches scaled by " + repr(one.patches.scale)) if one.patches else "spectra"
        for one in (own, recipe)
    ]
    if kinds[0] != kinds[1]:
        raise RecipeError(f"{name} was pretrained on {kinds[0]}, the recipe has {kinds[1]}: pretrain again")
    steps = [str_steps(build_pipeline(one.pipeline).steps) for one in (own, recipe)]
    if steps[0] != steps[1]:
        raise RecipeError(
            f"{name} knows the features of the steps {steps[0]}, the recipe has {steps[1]}: pretrain again, or give "
            f"the run the pipeline of the pretraining"
        )


def _provenance(found: Pretrained, loaded: Loaded, head: list[str], finetune: str) -> Provenance:
    note = f"{len(loaded.loaded)} arrays of the encoder were loaded; new: {', '.join((*loaded.fresh, *head))}"
    if loaded.unused:
        note += f"; no place for {', '.join(loaded.unused)}"
    return Provenance(f"pretrained: {found.path}", note, ("all",) if finetune == "all" else tuple(head))
