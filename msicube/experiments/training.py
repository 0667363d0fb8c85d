"""Train a network by a recipe on a study, and leave a run's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.experiments.evaluation import evaluate
from msicube.experiments.features import Features, prepare_features
from msicube.experiments.illustration import draw_network, draw_results, draw_study
from msicube.experiments.recipe import Recipe
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.record import describe_model, first_info, recorded
from msicube.experiments.run import (
    EXAMPLES,
    INFO,
    PIPELINE,
    PREDICTIONS,
    SUMMARY,
    WEIGHTS,
    Run,
    create_run,
    replacing,
)
from msicube.experiments.split import Split, resolve_split, shuffled_labels
from msicube.experiments.summary import summarise
from msicube.experiments.torch_settings import choose_device, torch_settings
from msicube.models import build_model, find_model
from msicube.preprocess.recipes import build_pipeline
from msicube.scheduling import SchedulerLike
from msicube.store import Study, open_study


@dataclass(frozen=True)
class TrainingEvent:
    """How far a run is.

    Attributes
    ----------
    stage
        ``"fit"`` (the pipeline), ``"train"`` (steps of an epoch) or ``"epoch"`` (one is over, with its metrics).
    done, total
        Of the stage: pieces of a pass, steps, epochs.
    what
        What is being done, where a stage has several parts.
    epoch, epochs
        Counted from 1; 0 before training.
    fold, folds
        Counted from 1; 0 where there are no folds.
    metrics
        As in ``metrics.jsonl``, at the end of an epoch.
    """

    stage: str
    done: int
    total: int
    what: str = ""
    epoch: int = 0
    epochs: int = 0
    fold: int = 0
    folds: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)


OnEvent = Callable[[TrainingEvent], None]


def train(
    recipe: str | Path | Recipe,
    study: str | os.PathLike[str] | Study,
    out: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    shuffle_labels: bool = False,
    seed: int = 0,
    scheduler: SchedulerLike = "threads",
    overwrite: bool = False,
    figures: bool = True,
    progress: OnEvent | None = None,
) -> Run:
    """Train a network and evaluate it on held-out patients after every epoch.

    With ``data.split = "folds"`` that is done for each fold, with a pipeline and a network of its own; see
    :func:`~msicube.experiments.folds.cross_validate`.

    Parameters
    ----------
    recipe
        A recipe, its path, or the name of a built-in one.
    study
        A study or where it is.
    out
        The run's folder; :mod:`msicube.experiments.run` says what it holds. It is written as the run goes on.
    overrides
        Values of the recipe by dotted key.
    shuffle_labels
        Train on labels that say nothing of the truth, and evaluate on the true ones: the control that shows what is
        reached without learning. The pipeline is then fitted in the run, on the shuffled labels as well.
    seed
        Of the network's first weights, the order of the samples, a split that is drawn, and shuffled labels. On one
        machine with one number of threads a seed gives the same run on the CPU.
    scheduler
        Where the pipeline is fitted.
    overwrite
        Replace a run that is in ``out`` already.
    figures
        Draw the run's figures. :func:`~msicube.experiments.report` draws those that need only the folder.
    progress
        Called after each step.

    Returns
    -------
    Run
        The finished run. The weights are those after the last epoch: none is chosen by its held-out result.

    Raises
    ------
    RecipeError
        The recipe is wrong, or does not fit the study.
    LeakageError
        A patient is in both parts.
    UsageError
        ``out`` holds something else.
    KeyboardInterrupt
        Passed on; the folder is a usable run as of the last finished epoch.
    """
    report = progress or (lambda _: None)
    recipe = _recipe(recipe, overrides)
    if recipe.data.split == "folds" and not recipe.data.fold:
        from msicube.experiments.folds import cross_validate

        return cross_validate(
            recipe,
            study,
            out,
            shuffle_labels=shuffle_labels,
            seed=seed,
            scheduler=scheduler,
            overwrite=overwrite,
            figures=figures,
            progress=progress,
        )
    study = study if isinstance(study, Study) else open_study(study)
    device = choose_device(recipe.train.device)
    split = resolve_split(recipe.data, study.samples, seed=seed)
    labels = shuffled_labels(split, seed=seed) if shuffle_labels else None
    find_model(recipe.model.name, recipe.model.options)
    build_pipeline(recipe.pipeline)
    run = create_run(out, recipe, overwrite=overwrite)
    info = first_info(study, split, labels, seed, device)
    run.write_json(INFO, info)
    with recorded(run, info), torch_settings(threads=recipe.train.threads, seed=seed, device=device):
        info["torch_threads"] = torch.get_num_threads()
        features = prepare_features(
            recipe,
            study,
            split,
            labels,
            seed=seed,
            scheduler=scheduler,
            progress=lambda what, done, total: report(TrainingEvent("fit", done, total, what)),
        )
        model = build_model(
            recipe.model.name,
            n_channels=len(features.names),
            n_classes=len(split.classes),
            **recipe.model.options,
        ).to(device)
        info |= {"pipeline": features.describe(), "features": features.names, "model": describe_model(model)}
        run.write_json(INFO, info)
        features.save(run.path / PIPELINE)
        if figures:
            draw_study(run, study, split, features)
        _Session(run, recipe, split, features, model, device, labels, report).fit(seed)
    if figures:
        draw_network(run, study)
        draw_results(run)
    return run


@dataclass
class _Session:
    """The training loop of one run."""

    run: Run
    recipe: Recipe
    split: Split
    features: Features
    model: nn.Module
    device: torch.device
    labels: Mapping[str, str] | None
    report: OnEvent

    def fit(self, seed: int) -> None:
        settings = self.recipe.train
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = kind(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        stream = self.features.stream(self.split.train, seed=seed, training=True)
        held_out = self.features.stream(self.split.test, seed=seed, training=False)
        try:
            for epoch in range(1, settings.epochs + 1):
                started = time.perf_counter()
                stream.set_epoch(epoch - 1)
                entry: dict[str, Any] = {"epoch": epoch, "train": self._train(stream, optimizer, epoch)}
                entry |= {
                    "test": self._test(held_out, last=epoch == settings.epochs),
                    "seconds": time.perf_counter() - started,
                }
                self._save_weights()
                self.run.append_metrics(entry)
                self.report(
                    TrainingEvent(
                        "epoch", epoch, settings.epochs, epoch=epoch, epochs=settings.epochs, metrics=entry
                    )
                )
        except KeyboardInterrupt:
            if not self.run.metrics:  # else those of the last finished epoch stay beside its predictions
                self._save_weights()
            raise

    def _train(self, stream: Any, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
        """Train one epoch; return the running means of loss and accuracy."""
        self.model.train()
        names = self.labels or self.split.labels
        target_of = torch.tensor([self.split.classes.index(names[slide]) for slide in stream.slides])
        steps = self.features.n_steps(stream, training=True)
        sums = np.zeros(3)
        for step, batch in enumerate(self.features.batches(stream, training=True), start=1):
            inputs = batch[self.features.key].to(self.device, non_blocking=True)
            target = target_of[batch["slide"]].to(self.device)
            weight = batch["weight"].to(self.device)
            optimizer.zero_grad(set_to_none=True)
            logits = self.model(inputs)
            losses = nn.functional.cross_entropy(logits, target, reduction="none") * weight
            (losses.sum() / weight.sum()).backward()
            optimizer.step()
            sums += _sums(losses, logits, target, weight)
            self.report(TrainingEvent("train", step, steps, epoch=epoch, epochs=self.recipe.train.epochs))
        return {"loss": float(sums[0] / sums[2]), "accuracy": float(sums[1] / sums[2])}

    def _test(self, held_out: Any, *, last: bool) -> dict[str, Any]:
        """Score the held-out slides and write what comes of it; with confidence intervals after the last epoch."""
        found = evaluate(
            self.model,
            self.features.batches(held_out, training=False),
            key=self.features.key,
            slides=held_out.slides,
            labels=self.split.indices(held_out.slides),
            patients=[self.split.patients[slide] for slide in held_out.slides],
            classes=self.split.classes,
            device=self.device,
        )
        summary = summarise(found.predictions, self.split.classes, self.split.positive, intervals=last)
        with replacing(self.run.path / PREDICTIONS) as partial:
            found.predictions.to_csv(partial, index=False, float_format="%.6g")
        with replacing(self.run.path / EXAMPLES) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **found.examples.arrays())
        self.run.write_json(SUMMARY, summary)
        return {"loss": found.loss, **summary["samples"]["metrics"]}

    def _save_weights(self) -> None:
        with replacing(self.run.path / WEIGHTS) as partial:
            torch.save(self.model.state_dict(), partial)


def _sums(losses: Tensor, logits: Tensor, target: Tensor, weight: Tensor) -> tuple[float, float, float]:
    right = (logits.argmax(dim=1) == target) * weight
    total, correct, n = torch.stack([losses.detach().sum(), right.sum(), weight.sum()]).tolist()
    return total, correct, n


def _recipe(recipe: str | Path | Recipe, overrides: Mapping[str, Any] | None) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides=overrides)
    if overrides:
        raise UsageError("overrides are for a recipe that is read from a file: change the Recipe itself")
    return recipe
