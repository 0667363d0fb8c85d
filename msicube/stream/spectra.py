"""Spectra for training: every selected pixel once an epoch, shuffled, from more data than fits in memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.base import Batch, Stream
from msicube.stream.blas import one_blas_thread
from msicube.stream.budget import Budget, Demand, spend
from msicube.stream.cells import CellReader
from msicube.stream.fetch import DeckReader, SpectrumBatch, read_batches
from msicube.stream.lookup import slide_groups
from msicube.stream.mixing import between_cells
from msicube.stream.options import Settings, StreamOptions, resolve
from msicube.stream.plan import EpochPlan, check_lanes, check_samples, lanes_for, plan_epoch
from msicube.stream.sampling import Draws, GroupSampler, Sampler, WeightedSampler

if TYPE_CHECKING:
    from msicube.store import Study


class SpectrumStream(Stream):
    """Batches of shuffled spectra from one or many slides.

    Parameters
    ----------
    study
        An open study.
        One that ``msicube pool`` has written gives spectra in a global order, and where in the slides they come from.
    batch_size
        Spectra of a step on this rank. All ranks together take ``batch_size * world_size``.
    lanes
        Number of independent sequences that the epoch is dealt from; must divide the global batch and be divisible by
        the number of ranks. The default suits 1, 2, 4 and 8 ranks.
    slides
        Names of slides; all by default.
    variable
        ``"intensity"``, or a variable that a pipeline was applied into.
    where
        Which pixels: the name of a mask or an expression such as ``"tissue & ~dead"``; always among the acquired ones.
    pipeline
        A fitted pipeline, applied to each spectrum in the reading threads. Only the channels that it takes are read.
        NumPy's linear algebra is held to one thread while the stream is read.
    labels
        Column of the samples table that labels the slides, or None.
    pixel_labels
        A ``(y, x)`` variable of whole numbers, such as an annotation, that labels the pixels.
    seed
        The order of an epoch follows from the selected pixels, ``seed``, the epoch, the global batch size and
        ``memory``; threads, DataLoader workers and ranks do not change it.
    memory
        Budget of each process, such as ``"256 MiB"``: more memory mixes more of the slides at a time.
    remainder
        How the last step is filled: ``"pad"`` with samples of weight 0 and ``"repeat"`` with samples of weight 1, both
        of them copies of samples that came shortly before; ``"drop"`` leaves the last step out.
    balance
        Column of the samples table, such as the class or the patient: every value of it gives as many spectra to an
        epoch as the rarest one has. Which, is drawn anew for each epoch.
    replacement
        With ``balance``: as many as the most frequent value has; the spectra of the others come again, equally often
        to within one.
    weights
        How often spectra come, in proportion: a column of the samples table or a ``(y, x)`` variable of numbers from 0.
        An epoch has as many samples as there are selected pixels; each comes as often as its share says, rounded up or
        down.
    limit
        The most spectra of an epoch, over all ranks; drawn anew for each epoch and spread evenly over all cells, which
        are all read for them.
    shuffle
        False yields every epoch in the same, unshuffled order, for evaluation: lanes of neighbouring pixels, dealt in
        turn.
    on_error
        ``"raise"``, or ``"skip"``: spectra that cannot be read come as zeros of weight 0 and are counted in
        ``skipped``. The order stays as it is, so ranks keep in step.
    threads
        Reading threads; the number of processors by default.
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
        ``"slide"``, ``"y"``, ``"x"`` (n,) int64: where each spectrum comes from; ``"pixel_label"`` (n,) int64
        where asked for.

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
        batch_size: int = 256,
        lanes: int | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        source, chosen = resolve(batch_size, options)
        super().__init__(study, source, chosen)
        self.lanes = lanes_for(chosen.global_batch) if lanes is None else lanes
        check_lanes(self.lanes, chosen.global_batch, chosen.world_size)
        self._sampler = self._choose_sampler(study)
        check_samples(self.n_samples, self.lanes)
        self._count_steps(0)
        self.budget = self._spend(chosen)
        self._plan: tuple[EpochPlan, Draws] | None = None
        self._ion_current = partial(_ion_current, study) if self._selection.origin is None else None

    def _choose_sampler(self, study: Study) -> Sampler:
        chosen, selection = self.settings, self._selection
        if selection.weights is not None:
            n = int(selection.counts.sum())
            n = n if chosen.limit is None else min(n, chosen.limit)
            return WeightedSampler(selection.sum_in_cells(selection.weights), n)
        if selection.origin is None:
            groups = selection.per_cell(slide_groups(study, self.slides, chosen.balance))
        elif chosen.balance is None:
            groups = np.zeros(len(selection.counts), np.int64)
        else:
            raise UsageError(
                f"{study.path} is a pool, in which slides are mixed: give balance={chosen.balance!r} when it is written"
            )
        return GroupSampler(selection.counts, groups, chosen.limit, chosen.replacement)

    @property
    def plan(self) -> EpochPlan:
        """The order of the current epoch; its cells are the entries of what the sampler drew."""
        return self._planned(self.epoch)[0]

    def mixing(self) -> float:
        """Estimate how well a batch is mixed.

        Returns
        -------
        float
            Variance of the mean total ion current of a batch, over that of a batch of independent draws: 1.0 is as good
            as can be. From the share of the variance that lies between cells, and from how often two spectra of a batch
            share a cell, in the plan and by chance. Of a pool always 1.
        """
        if self._ion_current is None:
            return 1.0
        plan = self.plan
        counts = np.concatenate([lane.stops - lane.starts for lane in plan.lanes])
        everywhere = float((counts.astype(np.float64) ** 2).sum()) / plan.n_samples**2
        together = sum(lane.together() for lane in plan.lanes) / plan.n_samples
        others = self.settings.global_batch - 1
        return 1.0 + self._correlation * max(-1.0, (plan.share - 1) * together - others * everywhere)

    @cached_property
    def _correlation(self) -> float:
        """Share of the variance of the total ion current that lies between cells."""
        assert self._ion_current is not None
        return between_cells(self._selection, self._ion_current)

    def describe(self) -> dict[str, Any]:
        """Return what an epoch is made of and what it takes: numbers of samples, steps and lanes, bytes.

        ``"deck"`` is the number of spectra of a lane that are shuffled together, ``"read_ahead"`` the number of spectra
        that are read before they are needed, ``"bytes"`` an estimate of all memory that an iteration takes, and
        ``"mixing"`` that of :meth:`mixing`.
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
            "mixing": self.mixing(),
        }

    def _count_samples(self, epoch: int) -> int:
        return self._sampler.n_samples

    def _spend(self, chosen: Settings, deck: int | None = None) -> Budget:
        demand = Demand(
            n_samples=self.n_samples,
            largest_cell=self._sampler.largest,
            n_channels=self.n_channels,
            thread_bytes=CellReader.bytes_per_thread(self._selection),
            batch=chosen.global_batch,
            lanes=self.lanes,
        )
        return spend(chosen.memory, demand, threads=chosen.threads, world_size=chosen.world_size, deck=deck)

    def _drawn_epoch(self, epoch: int) -> int:
        return epoch if self.settings.shuffle else 0

    def _planned(self, epoch: int) -> tuple[EpochPlan, Draws]:
        epoch = self._drawn_epoch(epoch)
        if self._plan is None or self._plan[0].epoch != epoch:
            draws = self._sampler.draw(seed=self.settings.seed, epoch=epoch)
            plan = plan_epoch(
                draws.counts,
                global_batch=self.settings.global_batch,
                deck=self.budget.deck,
                lanes=self.lanes,
                seed=self.settings.seed,
                epoch=epoch,
                remainder=self.settings.remainder,
                shuffle=self.settings.shuffle,
            )
            self._plan = plan, draws
        return self._plan

    def _identity(self) -> dict[str, Any]:
        return {"lanes": self.lanes, "deck": self.budget.deck}

    def _adopt(self, state: Mapping[str, Any]) -> None:
        if state["deck"] != self.budget.deck:
            self.budget, self._plan = self._spend(self.settings, int(state["deck"])), None

    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        plan, draws = self._planned(epoch)
        decks = DeckReader(
            plan,
            draws,
            self._cells,
            lanes=plan.of_rank(self.settings.rank, self.settings.world_size),
            steps=steps,
            rows=self.budget.rows,
        )
        with (
            one_blas_thread(self._selection),
            closing(read_batches(decks, threads=self.budget.threads, finish=self._tensors)) as reading,
        ):
            yield from reading

    def _tensors(self, batch: SpectrumBatch) -> Batch:
        slide, y, x = batch.places.T.copy()
        tensors = {
            "spectra": torch.from_numpy(batch.spectra),
            "label": torch.from_numpy(self._selection.labels[slide]),
            "weight": torch.from_numpy(batch.weight),
            "slide": torch.from_numpy(slide),
            "y": torch.from_numpy(y),
            "x": torch.from_numpy(x),
        }
        if self._selection.pixel_labels is not None:
            labels = np.empty(len(slide), np.int64)
            for number in np.unique(slide):
                inside = slide == number
                labels[inside] = self._selection.pixel_labels[number][y[inside], x[inside]]
            tensors["pixel_label"] = torch.from_numpy(labels)
        return tensors


def _ion_current(study: Study, slide: str) -> NDArray[np.float64]:
    return study.small(slide, "total_ion_current").astype(np.float64)
