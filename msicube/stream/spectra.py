"""Spectra for training: every selected pixel once an epoch, shuffled, from more data than fits in memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from msicube.stream.base import Batch, Settings, Stream, settings
from msicube.stream.budget import Budget, Demand, spend
from msicube.stream.cells import CellReader
from msicube.stream.fetch import SpectrumBatch, read_batches
from msicube.stream.order import Remainder
from msicube.stream.plan import EpochPlan, check_lanes, check_samples, lanes_for, plan_epoch
from msicube.stream.selection import BlockTransform, select, slide_groups
from msicube.stream.thinning import Thinning

if TYPE_CHECKING:
    from msicube.store import Study


class SpectrumStream(Stream):
    """Batches of shuffled spectra from one or many slides.

    Parameters
    ----------
    study
        An open study.
    slides
        Names of slides; all by default.
    variable
        ``"intensity"``, or a variable that a pipeline was applied into.
    where
        ``"acquired"``, or the name of a ``(y, x)`` variable that selects among the acquired pixels.
    pipeline
        A fitted pipeline, applied to each spectrum in the reading threads.
    batch_size
        Spectra of a step on this rank. All ranks together take ``batch_size * world_size``.
    seed
        The order of an epoch follows from the selected pixels, ``seed``, the epoch, the global batch size and
        ``memory``; threads, DataLoader workers and ranks do not change it.
    memory
        Budget of each process, such as ``"256 MiB"``: more memory mixes more of the slides at a time.
    remainder
        How the last step is filled: ``"pad"`` with samples of weight 0 and ``"repeat"`` with samples of weight 1, both
        of them copies of samples that came shortly before; ``"drop"`` leaves the last step out.
    labels
        Column of the samples table that labels the slides, or None.
    balance
        Column of the samples table: every value of it gives as many spectra to an epoch as the rarest one has. Which,
        is drawn anew for each epoch.
    limit
        The most spectra of an epoch, over all ranks; drawn anew for each epoch and spread evenly over all cells, which
        are all read for them.
    shuffle
        False yields every epoch in the same, unshuffled order, for evaluation: lanes of neighbouring pixels, dealt in
        turn.
    threads
        Reading threads; the number of processors by default.
    lanes
        Number of independent sequences that the epoch is dealt from; must divide the global batch and be divisible by
        the number of ranks. The default suits 1, 2, 4 and 8 ranks.
    rank, world_size
        By default from ``torch.distributed`` where it is initialised, else 0 of 1.

    Attributes
    ----------
    slides, classes : tuple of str
        What the numbers in ``batch["slide"]`` and ``batch["label"]`` stand for.
    n_channels : int
        Values of a spectrum, after the pipeline.
    n_samples : int
        Spectra in an epoch, over all ranks.

    Yields
    ------
    dict
        ``"spectra"`` (n, channels) float32, ``"label"`` (n,) int64, -1 without labels, ``"weight"`` (n,) float32,
        ``"slide"``, ``"y"``, ``"x"`` (n,) int64: where each spectrum comes from.

    Raises
    ------
    UsageError
        Arguments that contradict each other or the study.
    MemoryLimitError
        The budget is too small; the message has the size that is needed.
    StoreError
        While iterating: a part of a slide cannot be read; the message names it.

    Notes
    -----
    Use it plainly, or as ``DataLoader(stream, batch_size=None)``. Workers (spawned) give the same batches, but each of
    them reads all cells; threads are what makes this fast.
    """

    _adopted = frozenset({"deck"})

    def __init__(
        self,
        study: Study,
        *,
        slides: Sequence[str] | None = None,
        variable: str = "intensity",
        where: str = "acquired",
        pipeline: BlockTransform | None = None,
        batch_size: int = 256,
        seed: int = 0,
        memory: str | int = "256 MiB",
        remainder: Remainder = "pad",
        labels: str | None = "label",
        balance: str | None = None,
        limit: int | None = None,
        shuffle: bool = True,
        threads: int | None = None,
        lanes: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        chosen = settings(
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            remainder=remainder,
            memory=memory,
            threads=threads,
            rank=rank,
            world_size=world_size,
        )
        super().__init__(chosen)
        self.lanes = lanes_for(chosen.global_batch) if lanes is None else lanes
        check_lanes(self.lanes, chosen.global_batch, chosen.world_size)
        self.balance, self.limit = balance, limit
        self._selection = select(
            study, slides=slides, variable=variable, where=where, pipeline=pipeline, labels=labels
        )
        self.slides, self.classes = self._selection.slides, self._selection.classes
        self.n_channels = self._selection.n_channels
        groups = slide_groups(study, self.slides, balance)
        self._thinning = Thinning(self._selection.counts, self._selection.per_cell(groups), limit)
        self.n_samples = self._thinning.n_samples
        check_samples(self.n_samples, self.lanes)
        self.n_steps = self._count_steps()
        self.budget = self._spend(chosen)
        self._plan: EpochPlan | None = None

    @property
    def plan(self) -> EpochPlan:
        """The order of the current epoch."""
        if self._plan is None or self._plan.epoch != self._drawn_epoch(self.epoch):
            self._plan = self._make_plan(self.epoch)
        return self._plan

    def describe(self) -> dict[str, Any]:
        """Return what an epoch is made of and what it takes: numbers of samples, steps and lanes, bytes.

        ``"deck"`` is the number of spectra of a lane that are shuffled together, ``"read_ahead"`` the number of spectra
        that are read before they are needed, ``"bytes"`` an estimate of all memory that an iteration takes.
        """
        return {
            "samples": self.n_samples,
            "steps": len(self),
            "batch_size": self.settings.batch_size,
            "global_batch": self.settings.global_batch,
            "channels": self.n_channels,
            "cells": int((self._selection.counts > 0).sum()),
            "lanes": self.lanes,
            "deck": self.budget.deck,
            "read_ahead": self.budget.read_ahead,
            "threads": self.budget.threads,
            "memory": self.settings.memory,
            "bytes": self.budget.n_bytes,
        }

    def _spend(self, chosen: Settings, deck: int | None = None) -> Budget:
        demand = Demand(
            n_samples=self.n_samples,
            largest_cell=self._thinning.largest,
            n_channels=self.n_channels,
            thread_bytes=CellReader.bytes_per_thread(self._selection),
            batch=chosen.global_batch,
            lanes=self.lanes,
        )
        return spend(chosen.memory, demand, threads=chosen.threads, world_size=chosen.world_size, deck=deck)

    def _drawn_epoch(self, epoch: int) -> int:
        return epoch if self.settings.shuffle else 0

    def _make_plan(self, epoch: int) -> EpochPlan:
        epoch = self._drawn_epoch(epoch)
        return plan_epoch(
            self._thinning.draw(seed=self.settings.seed, epoch=epoch),
            global_batch=self.settings.global_batch,
            deck=self.budget.deck,
            lanes=self.lanes,
            seed=self.settings.seed,
            epoch=epoch,
            remainder=self.settings.remainder,
            shuffle=self.settings.shuffle,
        )

    def _identity(self) -> dict[str, Any]:
        return {
            "dataset": self._selection.digest,
            "lanes": self.lanes,
            "balance": self.balance,
            "limit": self.limit,
            "deck": self.budget.deck,
        }

    def _adopt(self, state: Mapping[str, Any]) -> None:
        if state["deck"] != self.budget.deck:
            self.budget, self._plan = self._spend(self.settings, int(state["deck"])), None

    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        plan = self.plan if epoch == self.epoch else self._make_plan(epoch)
        lanes = plan.of_rank(self.settings.rank, self.settings.world_size)
        reading = read_batches(
            plan,
            self._selection,
            lanes=lanes,
            steps=steps,
            rows=self.budget.rows,
            threads=self.budget.threads,
        )
        with closing(reading):
            for batch in reading:
                yield self._tensors(batch)

    def _tensors(self, batch: SpectrumBatch) -> Batch:
        slide, y, x = batch.places.T.copy()
        return {
            "spectra": torch.from_numpy(batch.spectra),
            "label": torch.from_numpy(self._selection.labels[slide]),
            "weight": torch.from_numpy(batch.weight),
            "slide": torch.from_numpy(slide),
            "y": torch.from_numpy(y),
            "x": torch.from_numpy(x),
        }
