"""The training loop of one run: epochs of steps, each evaluated, from the beginning or from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.experiments.acceleration import Precision, compiled
from msicube.experiments.checkpoint import Checkpoints, Place, write_state
from msicube.experiments.classical import fit_at_once
from msicube.experiments.evaluation import Evaluation, check_finite, score_samples
from msicube.experiments.events import OnEvent, TrainingEvent
from msicube.experiments.features import AnyStream, Features
from msicube.experiments.interruption import Interruption
from msicube.experiments.normalisation import renew_statistics
from msicube.experiments.ranks import Ranks
from msicube.experiments.run import EXAMPLES, PREDICTIONS, SUMMARY, WEIGHTS, Run, replacing
from msicube.experiments.split import Split
from msicube.experiments.summary import summarise
from msicube.experiments.tensorboard import EventWriter
from msicube.experiments.torch_settings import random_state, set_random_state
from msicube.models import FittedAtOnce
from msicube.models.encoding import rest_frozen

Batch = Mapping[str, Tensor]
_SEEDS_APART = 1_000_003


class Session:
    """The training of one network.

    Parameters
    ----------
    run
        Where its results go.
    split, features
        What it is trained on and evaluated on.
    model, device
        The network, on its device.
    labels
        Of the training slides, where they are not the true ones.
    seed
        Of the order of the samples.
    asked
        Tells whether the process was asked to stop.
    report
        Called after each step.
    ranks
        The processes that train together; each has a session.
    """

    def __init__(
        self,
        run: Run,
        split: Split,
        features: Features,
        model: nn.Module,
        device: torch.device,
        *,
        labels: Mapping[str, str] | None,
        seed: int,
        asked: Interruption,
        report: OnEvent,
        ranks: Ranks,
    ) -> None:
        self.run, self.split, self.features, self.ranks = run, split, features, ranks
        self.model, self.device, self.report, self.asked = model, device, report, asked
        self.settings = features.recipe.train
        self.stream = features.stream(split.train, seed=seed, training=True, ranks=ranks)
        self.held_out = features.stream(split.test, seed=seed, training=False)
        self.validation: AnyStream | None = None
        if split.validation:
            self.validation = features.stream(split.validation, seed=seed, training=False)
        names = labels or split.labels
        self.targets = torch.tensor([split.classes.index(names[slide]) for slide in self.stream.slides])
        self.seed = seed
        self.optimizer = self._optimizer()
        self.precision = Precision.choose(self.settings.precision, device)
        self.scaler = self.precision.scaler()
        self.trained = model if self.optimizer is None else ranks.together(model, device)
        if not ranks.leads:  # else each rank would drop the same units of other samples
            torch.manual_seed(seed + _SEEDS_APART * ranks.rank)
        if self.settings.compile and self.optimizer is not None:
            self.trained = compiled(self.trained, device)
        self.checkpoints = Checkpoints(run, every=self.settings.checkpoint_seconds)
        self.place = Place()
        self._whole, self._agreed = True, False
        self.events: EventWriter | None = None
        self._random: list[Any] = []

    def _optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimiser; None for a model that is fitted at once."""
        if isinstance(self.model, FittedAtOnce):
            if self.ranks.size > 1:
                raise UsageError(
                    f"{type(self.model).__name__} is fitted at once, in one process, and {self.ranks.size} were "
                    f"started: train it without torchrun"
                )
            return None
        settings = self.settings
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return kind(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    @property
    def outcome(self) -> dict[str, Any]:
        """What a run records of its epochs."""
        place = self.place
        last = {
            "epochs": place.epoch - 1,
            "stopped_early": self._out_of_patience,
            "precision": self.precision.name,
        }
        return last if self.validation is None else {**last, "best_epoch": place.best_epoch}

    @property
    def _out_of_patience(self) -> bool:
        patience, place = self.settings.patience, self.place
        return (
            bool(patience) and place.epoch <= self.settings.epochs and self._epochs_without_gain >= patience
        )

    @property
    def _epochs_without_gain(self) -> int:
        return self.place.epoch - 1 - self.place.best_epoch

    def fit(self) -> None:
        """Train and evaluate to the last epoch, or until the validation patients gain nothing any more.

        Raises
        ------
        KeyboardInterrupt
            The process was asked to stop; the checkpoint is that of the last whole step.
        """
        self._take_up()
        if self.settings.tensorboard and self.ranks.leads:
            steps = self.features.n_steps(self.stream, training=True)
            self.events = EventWriter(self.run.path, first_step=self._step_number(steps))
        try:
            while self.place.epoch <= self.settings.epochs and not self._out_of_patience:
                self._train()
                self.place = self.ranks.first(self._close_epoch)
        except KeyboardInterrupt:
            if self._whole and (self.ranks.size == 1 or self._agreed):
                self._save()
            # The weights of a finished epoch stay beside its predictions.
            if self.ranks.leads and not self.run.metrics:
                self._save_weights()
            raise
        finally:
            if self.events is not None:
                self.events.close()

    def _step_number(self, steps: int) -> int:
        """Return the steps since the beginning, in epochs of so many."""
        return (self.place.epoch - 1) * steps + self.place.step

    def _take_up(self) -> None:
        """Go on from the checkpoint, where there is one; epochs that it does not count are trained again."""
        state = self.checkpoints.load()
        if state is not None:
            self._restore(state)
            done, total = self.place.step, self.features.n_steps(self.stream, training=True)
            self.report(self._event("resumed", done, total))
        if self.ranks.leads:
            self.run.keep_metrics(before=self.place.epoch)

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            if self.optimizer is not None:
                self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"the checkpoint in {self.run.path} is of another network ({str(error).splitlines()[0]}): the code of "
                f"the network was changed, so start the run anew with overwrite=True (--overwrite)"
            ) from error
        self.stream.load_state_dict(state["stream"])
        self.place = Place(**state["place"])
        if self.ranks.rank < len(state["random"]):  # else one of more ranks than there were
            set_random_state(state["random"][self.ranks.rank], self.device)

    def _save(self) -> None:
        """Write a checkpoint; all ranks come here after the same step."""
        self._random = self.ranks.gather(random_state(self.device))
        if self.ranks.leads:
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self.stream.set_epoch(self.place.epoch - 1)
        self.checkpoints.save(
            {
                "place": asdict(self.place),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer and self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "stream": self.stream.state_dict(step=self.place.step),
                "random": [random_state(self.device), *self._random[1:]],
            }
        )

    def _train(self) -> None:
        """Train what is left of the current epoch."""
        if self.optimizer is None:
            self._fit_at_once()
            return
        place, started = self.place, time.perf_counter() - self.place.seconds
        self.stream.set_epoch(place.epoch - 1)
        self.trained.train()
        rest_frozen(self.model)
        steps = self.features.n_steps(self.stream, training=True)
        batches = self.features.batches(self.stream, training=True, start=place.step)
        with self.asked.held_back():
            for batch in batches:
                self._whole = False
                due = self.ranks.leads and self.checkpoints.due
                *sums, stop, due_now = self.ranks.total([*self._step(batch), self.asked.requested, due])
                place.sums = [total + new for total, new in zip(place.sums, sums, strict=True)]
                place.step += 1
                if self.events is not None:
                    number = self._step_number(steps)
                    self.events.step(sums[0] / sums[2], step=number, done=place.step, steps=steps)
                place.seconds = time.perf_counter() - started
                self._whole = True
                self.report(self._event("train", place.step, steps))
                if stop:
                    self._agreed = True  # all ranks stop after this step
                    raise KeyboardInterrupt
                if place.step == steps or due_now:
                    self._save()

    def _fit_at_once(self) -> None:
        """Fit a model that is fitted at once on a sample of the epoch, unless it was before the run was taken up."""
        place, steps = self.place, self.features.n_steps(self.stream, training=True)
        if place.step == steps:
            return
        assert isinstance(self.model, FittedAtOnce)
        started = time.perf_counter()
        self.stream.set_epoch(place.epoch - 1)

        def batches() -> Iterator[Batch]:
            for done, batch in enumerate(self.features.batches(self.stream, training=True), start=1):
                yield batch
                self.report(self._event("train", done, steps, what="drawing spectra"))

        n_samples = min(self.stream.n_samples, steps * self.settings.batch_size)
        found = fit_at_once(
            self.model, batches(), self.targets, n_samples=n_samples, seed=self.seed, device=self.device
        )
        n = found["n_spectra"]
        place.sums = [n * found["loss"], n * found["accuracy"], n]
        place.step, place.seconds = steps, time.perf_counter() - started
        self._save()

    def _step(self, batch: Batch) -> tuple[float, float, float]:
        """Train one step; return its weighted loss, the weight of the samples told right, and the weight."""
        inputs = batch[self.features.key].to(self.device, non_blocking=True)
        target = self.targets[batch["slide"]].to(self.device)
        weight = batch["weight"].to(self.device)
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            logits = self.trained(inputs)
        logits = logits.float()
        check_finite(logits.detach(), inputs, batch["slide"], self.stream.slides, what="training")
        losses = nn.functional.cross_entropy(logits, target, reduction="none") * weight
        self.scaler.scale(losses.sum() / self._shared_weight(weight)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return _sums(losses, logits, target, weight)

    def _shared_weight(self, weight: Tensor) -> Tensor | float:
        """Return what the sum of a step's losses is divided by; the ranks' gradients are averaged after it."""
        if self.ranks.size == 1:
            return weight.sum()
        return self.ranks.total([float(weight.sum())])[0] / self.ranks.size

    def _close_epoch(self) -> Place:
        """Evaluate the epoch that was trained, write what comes of it, and go on to the next."""
        place, epochs = self.place, self.settings.epochs
        started = time.perf_counter() - place.seconds
        loss, right, weight = place.sums
        self._renew_statistics()
        entry: dict[str, Any] = {
            "epoch": place.epoch,
            "train": {"loss": loss / weight, "accuracy": right / weight},
        }
        if self.optimizer is None:
            entry["train"]["n_spectra"] = int(weight)
        best, value = True, None
        if self.validation is not None:
            entry["validation"], _ = self._score(self.validation)
            value = entry["validation"][self.settings.monitor]
            best = self._is_better(value)
            entry["best"] = best
        intervals = best and (self.validation is not None or place.epoch == epochs)
        entry["test"], results = self._score(self.held_out, intervals=intervals)
        entry["seconds"] = time.perf_counter() - started
        if best:
            self._write(*results)
            self._save_weights()
        event = self._event("epoch", place.epoch, epochs, metrics=entry)
        with self.asked.held_back():
            self.run.append_metrics(entry)
            if self.events is not None:
                self.events.epoch(entry, step=self._step_number(place.step))
            if best and self.validation is not None:
                known = value is not None and np.isfinite(value)
                place.best_epoch, place.best = place.epoch, value if known else None
            place.next_epoch()
            self._write_checkpoint()
        self.report(event)
        return place

    def _renew_statistics(self) -> None:
        """Let batch normalisation know the weights that the epoch ended with; the next epoch goes on from there."""
        synchronised = any(isinstance(layer, nn.SyncBatchNorm) for layer in self.model.modules())
        if not self.settings.renew_statistics or self.optimizer is None or synchronised:
            return
        self.model.train()
        rest_frozen(self.model)
        self.stream.set_epoch(self.place.epoch - 1)
        batches = self.features.batches(self.stream, training=True)
        renew_statistics(self.model, batches, key=self.features.key, device=self.device)

    def _is_better(self, value: float | None) -> bool:
        """Return whether an epoch is the best so far; one without a number is not, unless it is the first."""
        if self.place.best is None or value is None or not np.isfinite(value):
            return self.place.best is None
        return value < self.place.best if self.settings.monitor == "loss" else value > self.place.best

    def _score(
        self, stream: AnyStream, *, intervals: bool = False
    ) -> tuple[dict[str, Any], tuple[Evaluation, dict[str, Any]]]:
        """Return the loss and the metrics of slides that are not trained on, and what they follow from."""
        found = score_samples(
            self.model,
            self.features.batches(stream, training=False),
            key=self.features.key,
            slides=stream.slides,
            labels=self.split.indices(stream.slides),
            patients=[self.split.patients[slide] for slide in stream.slides],
            classes=self.split.classes,
            device=self.device,
        )
        summary = summarise(found.predictions, self.split.classes, self.split.positive, intervals=intervals)
        return {"loss": found.loss, **summary["samples"]["metrics"]}, (found, summary)

    def _write(self, found: Evaluation, summary: Mapping[str, Any]) -> None:
        """Write the held-out predictions, and what follows from them."""
        with replacing(self.run.path / PREDICTIONS) as partial:
            found.predictions.to_csv(partial, index=False, float_format="%.6g")
        with replacing(self.run.path / EXAMPLES) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **found.examples.arrays())
        self.run.write_json(SUMMARY, summary)

    def _save_weights(self) -> None:
        write_state(self.run.path / WEIGHTS, self.model.state_dict())

    def _event(self, stage: str, done: int, total: int, **more: Any) -> TrainingEvent:
        return TrainingEvent(stage, done, total, epoch=self.place.epoch, epochs=self.settings.epochs, **more)


def _sums(losses: Tensor, logits: Tensor, target: Tensor, weight: Tensor) -> tuple[float, float, float]:
    right = (logits.argmax(dim=1) == target) * weight
    total, correct, n = torch.stack([losses.detach().sum(), right.sum(), weight.sum()]).tolist()
    return total, correct, n
