"""Learn a network's encoder without labels, from samples of which a part is masked."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msicube.errors import RecipeError
from msicube.experiments.checkpoint import write_state
from msicube.experiments.events import OnEvent, TrainingEvent
from msicube.experiments.features import AnyStream, Features, prepare_features
from msicube.experiments.pretraining_figures import draw_pretraining
from msicube.experiments.recipe import PretrainSection, Recipe
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.reconstruction import (
    MaskedModel,
    Masker,
    Moments,
    Reconstruction,
    masked_error,
    reconstruct,
)
from msicube.experiments.record import describe_model, first_info, recorded
from msicube.experiments.run import EXAMPLES, INFO, PIPELINE, SUMMARY, WEIGHTS, Run, create_run, replacing
from msicube.experiments.seen import Seen, seen_slides
from msicube.experiments.split import TRAIN
from msicube.experiments.torch_settings import choose_device, torch_settings
from msicube.models import build_model, find_model, without_weights
from msicube.models.decoders import build_decoder
from msicube.models.encoding import encode, encoder_parts, encoder_state
from msicube.scheduling import SchedulerLike
from msicube.store import Study, open_study
from msicube.stream import PatchStream, SpectrumStream

DECODER = "decoder.pt"


def pretrain(
    recipe: str | Path | Recipe,
    study: str | os.PathLike[str] | Study,
    out: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    unlabelled: bool = False,
    held_out: bool = False,
    seed: int = 0,
    scheduler: SchedulerLike = "threads",
    overwrite: bool = False,
    figures: bool = True,
    progress: OnEvent | None = None,
) -> Run:
    """Learn the encoder of a recipe's network by reconstructing what is masked of its samples.

    Of a spectrum, spans of neighbouring channels are masked; of a patch, squares. The network's encoder sees the rest,
    with the mean of the channel where something is masked, and a small decoder is to give the masked values back; the
    loss is their mean squared error in units of their channel's variance. Labels are not used, but for the pipeline's
    steps that ask for them. The encoder starts from random weights, also where the recipe has others.

    A training run starts from the result with ``model.pretrained = "PRE"``.

    Parameters
    ----------
    recipe
        A recipe, its path, or the name of a built-in one; its section ``[pretrain]`` is
        :class:`~msicube.experiments.recipe.PretrainSection`.
    study
        A study or where it is.
    out
        The folder of the result, of the kind that :func:`~msicube.experiments.train` makes.
    overrides
        Values of the recipe by dotted key.
    unlabelled
        See slides without a label instead of those that the split trains on; none of patients who are held out.
    held_out
        See the slides that are held out as well. A run that holds them out cannot start from the result.
    seed
        Of the first weights, the order, the masks, and a split that is drawn, which must be that of the run to follow.
        On one machine with one number of threads a seed gives the same result on the CPU.
    scheduler
        Where the pipeline is fitted.
    overwrite
        Replace a run that is in ``out`` already.
    figures
        Draw the loss, and masked samples with what was made of them.
    progress
        Called after each step.

    Returns
    -------
    Run
        With ``info["pretraining"]["seen"]``: every slide and patient that was seen, by the pipeline too. The weights
        are those after the last epoch.

    Raises
    ------
    RecipeError
        The recipe is wrong, or does not fit the study; it does not say which fold is held out; or the network does not
        say what its encoder is (:mod:`msicube.models.encoding`).
    UsageError
        ``out`` holds something else.
    KeyboardInterrupt
        Passed on; the folder is usable as of the last finished epoch.

    Notes
    -----
    Memory is the stream's budget and the network; nothing grows with the study but one line for each slide.

    References
    ----------
    Masked autoencoders: He et al., CVPR (2022) 15979. Masked squares, a light decoder and a loss on masked pixels alone
    are SimMIM's: Xie et al., CVPR (2022) 9653.
    """
    report = progress or (lambda _: None)
    recipe = _recipe(recipe, overrides)
    section = recipe.pretrain
    assert section is not None
    study = study if isinstance(study, Study) else open_study(study)
    device = choose_device(recipe.train.device)
    find_model(recipe.model.name, recipe.model.options)
    seen = seen_slides(recipe, study.samples, seed=seed, unlabelled=unlabelled, held_out=held_out)
    run = create_run(out, recipe, overwrite=overwrite)
    info = first_info(
        study, replace(seen.split, train=seen.train, validation=seen.validation), None, seed, device
    )
    info["pretraining"] = seen.record(study)
    run.write_json(INFO, info)
    with recorded(run, info), torch_settings(threads=recipe.train.threads, seed=seed, device=device):
        info["torch_threads"] = torch.get_num_threads()
        features = prepare_features(
            recipe,
            study,
            seen.split,
            None,
            seed=seed,
            scheduler=scheduler,
            progress=lambda what, done, total: report(TrainingEvent("fit", done, total, what)),
        )
        features.save(run.path / PIPELINE)
        samples = _Samples(features, section, seed)
        model = _build(recipe, samples, seen).to(device)
        info |= {"pipeline": features.describe(), "features": features.names}
        info["model"] = {**describe_model(model.network), "encoder": list(encoder_parts(model.network))}
        info["decoder"] = {
            "class": type(model.decoder).__qualname__,
            "n_parameters": sum(one.numel() for one in model.decoder.parameters()),
        }
        run.write_json(INFO, info)
        _Session(run, section, samples, seen, model, device, report).fit(recipe)
    if figures:
        draw_pretraining(run, features.pipeline.channels_out())
    return run


@dataclass(frozen=True)
class _Samples:
    """Streams of samples, without labels."""

    features: Features
    section: PretrainSection
    seed: int

    def stream(self, slides: tuple[str, ...], *, training: bool) -> AnyStream:
        """Return the samples of some slides, in random order; to validate, in the same one every time."""
        features, recipe = self.features, self.features.recipe
        study = features.study.part(TRAIN)
        common: dict[str, Any] = {
            "slides": list(slides),
            "variable": features.variable or "intensity",
            "pipeline": None if features.variable else features.pipeline,
            "batch_size": recipe.train.batch_size,
            "seed": self.seed,
            "memory": recipe.train.memory,
            "labels": None,
            "rank": 0,
            "world_size": 1,
        }
        if recipe.patches is None:
            return SpectrumStream(study, **common, lanes=None if training else 1)
        patches = recipe.patches
        return PatchStream(
            study,
            **common,
            size=patches.size,
            stride=(patches.stride if training else patches.test_stride) or patches.size,
            min_coverage=patches.min_coverage,
            scale=None if patches.scale == "none" else patches.scale,
            limit=self._limit(training=training) or None,
            pixel_labels="acquired",
        )

    def n_steps(self, stream: AnyStream, *, training: bool) -> int:
        """Return the steps of an epoch; patches are limited by their stream."""
        limit = self._limit(training=training)
        if not limit or self.features.recipe.patches:
            return len(stream)
        return min(len(stream), max(1, limit // self.features.recipe.train.batch_size))

    def batches(self, stream: AnyStream, *, training: bool) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batches of an epoch."""
        return islice(stream, self.n_steps(stream, training=training))

    def _limit(self, *, training: bool) -> int:
        return self.section.limit if training else self.section.test_limit

    def moments(self, slides: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each channel over the first epoch's samples, in one pass."""
        moments, key = Moments(), self.features.key
        for batch in self.batches(self.stream(slides, training=True), training=True):
            real = batch["weight"] > 0
            values = batch[key][real]
            if key == "patches":
                values = values.movedim(1, -1)[batch["pixel_label"][real] >= 0]
            moments.add(values.numpy())
        return moments.tensors(2 if key == "patches" else 0)


def _build(recipe: Recipe, samples: _Samples, seen: Seen) -> MaskedModel:
    """Return a network with a decoder that fits what its encoder makes of a sample."""
    shape: tuple[int, ...] = (len(samples.features.names),)
    section, edge = samples.section, shape[0]
    piece, name = section.span, "span"
    if recipe.patches:
        shape, edge = (*shape, recipe.patches.size, recipe.patches.size), recipe.patches.size
        piece, name = section.block, "block"
    if piece >= edge:
        raise RecipeError(
            f"pretrain.{name} = {piece} masks all of a sample of {edge} {'pixels' if recipe.patches else 'channels'}: "
            f"take less"
        )
    options = without_weights(recipe.model.name, recipe.model.options)
    network = build_model(recipe.model.name, n_channels=shape[0], n_classes=2, **options)
    encoder_parts(network)
    network.eval()
    with torch.no_grad():
        features = encode(network, torch.zeros(2, *shape))
    decoder = build_decoder(features.shape, shape)
    return MaskedModel(network, decoder, *samples.moments(seen.train))


@dataclass
class _Session:
    """The training loop."""

    run: Run
    section: PretrainSection
    samples: _Samples
    seen: Seen
    model: MaskedModel
    device: torch.device
    report: OnEvent

    def fit(self, recipe: Recipe) -> None:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.train.optimizer]
        network = self.model.network
        parts: list[nn.Module] = [network.get_submodule(name) for name in encoder_parts(network)]
        weights = [weight for part in (*parts, self.model.decoder) for weight in part.parameters()]
        optimizer = kind(weights, lr=self.section.learning_rate, weight_decay=self.section.weight_decay)
        stream = self.samples.stream(self.seen.train, training=True)
        shown = self.samples.stream(self.seen.validation or self.seen.train, training=False)
        epochs = self.section.epochs
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            stream.set_epoch(epoch - 1)
            entry: dict[str, Any] = {"epoch": epoch, "train": {"loss": self._train(stream, optimizer, epoch)}}
            found = reconstruct(
                self.model, self.samples.batches(shown, training=False), self._masker(shown), self.device
            )
            entry |= {"test": found.errors, "seconds": time.perf_counter() - started}
            self._save(found)
            self.run.append_metrics(entry)
            self.report(TrainingEvent("epoch", epoch, epochs, epoch=epoch, epochs=epochs, metrics=entry))

    def _masker(self, stream: AnyStream) -> Masker:
        return Masker(self.section, self.samples.seed, stream.slides)

    def _train(self, stream: AnyStream, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        """Train one epoch; return the running mean of the loss."""
        self.model.train()
        masker, steps = self._masker(stream), self.samples.n_steps(stream, training=True)
        total, n_values = 0.0, 0
        for step, batch in enumerate(self.samples.batches(stream, training=True), start=1):
            given = masker(batch, epoch=epoch)
            samples, masked = given.samples.to(self.device), given.masked.to(self.device)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate((epoch - 1 + (step - 1) / steps) / self.section.epochs)
            optimizer.zero_grad(set_to_none=True)
            error, n = masked_error(self.model(samples, masked), self.model.standardise(samples), masked)
            (error / max(1, n)).backward()
            optimizer.step()
            total, n_values = total + error.item(), n_values + n
            self.report(TrainingEvent("train", step, steps, epoch=epoch, epochs=self.section.epochs))
        return total / max(1, n_values)

    def _learning_rate(self, done: float) -> float:
        """Return the learning rate when a share of all steps is done."""
        return self.section.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _save(self, found: Reconstruction) -> None:
        states = {WEIGHTS: encoder_state(self.model.network), DECODER: self.model.taught_with()}
        for name, state in states.items():
            write_state(self.run.path / name, state)
        with replacing(self.run.path / EXAMPLES) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **found.examples)
        part = "validation" if self.seen.validation else "training"
        self.run.write_json(SUMMARY, {"part": part, "n_values": found.n_values, "masked_error": found.errors})


def _recipe(recipe: str | Path | Recipe, overrides: Mapping[str, Any] | None) -> Recipe:
    """Return the recipe with a section ``[pretrain]``."""
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides=overrides)
    elif overrides:
        raise RecipeError("overrides are for a recipe that is read from a file: change the Recipe itself")
    if recipe.model.pretrained:
        raise RecipeError("model.pretrained is for training: a pretraining starts from random weights")
    return replace(recipe, pretrain=recipe.pretrain or PretrainSection())
