"""Patches for training: windows of slides that hold enough tissue, shuffled, scaled and balanced."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from msicube.errors import UsageError
from msicube.stream.base import Batch, Stream
from msicube.stream.blas import one_blas_thread
from msicube.stream.budget import PatchBudget, spend_on_patches
from msicube.stream.cells import CellReader
from msicube.stream.lookup import slide_groups
from msicube.stream.options import StreamOptions, resolve
from msicube.stream.patch_fetch import CellCache, PatchBatch, PatchReader, Pixels, SlideImages, read_patches
from msicube.stream.patch_plan import Choice, PatchPlan, WeightedChoice, plan_patches
from msicube.stream.patch_table import Edges, Layout, PatchTable, Phase, find_patches, window_sums
from msicube.stream.scaling import Scale, check_scale

if TYPE_CHECKING:
    import pandas as pd

    from msicube.store import Study


class PatchStream(Stream):
    """Batches of shuffled patches from one or many slides.

    Parameters
    ----------
    study
        An open study.
    size, stride
        Pixels of a patch's edge, and between one patch and the next: less than ``size`` lets patches overlap.
    min_coverage
        Fraction of selected pixels that a patch must have at the least.
    phase
        ``"fixed"``: the grid starts at the first pixel of a slide. ``"random"``: anywhere within a stride, anew for
        each epoch and slide; the number of patches and steps then changes a little from epoch to epoch.
    edges
        What becomes of patches that would leave the slide. ``"drop"``: they are left out. ``"shift"``: the first and
        the last of each row and column move to the edge. ``"pad"``: they stay, and are 0 outside of it.
    crops
        So many patches of each slide at random positions, anew for each epoch, instead of a grid.
    scale
        ``"patch"``: to [0, 1] over the selected pixels of all channels of a patch. ``"channel"``: each channel by
        itself. None: not at all. What is constant becomes 0.
    batch_size
        Patches of a step on this rank.
    pixel_labels
        A ``(y, x)`` variable of whole numbers, such as an annotation, to come with the patches.
    memory
        Budget of each process. What the batches leave of it keeps cells in memory, so patches of a few channels are
        read once.
    balance, replacement, limit
        As for :class:`~msicube.stream.SpectrumStream`, in patches. Where not all patches of a value are taken, the
        epochs take turns, so that all are used over some epochs.
    weights
        How often patches come, in proportion: a column of the samples table, or a ``(y, x)`` variable, of which the sum
        over the patch counts.
    slides, variable, where, pipeline, labels, seed, remainder, shuffle, on_error, threads, rank, world_size
        As for :class:`~msicube.stream.SpectrumStream`; pixels that are not selected are 0. The order follows from the
        patches, ``seed``, the epoch and the global batch size alone; ``"pad"`` and ``"repeat"`` fill the last step with
        the epoch's first patches. With ``on_error="skip"`` the part of a patch that cannot be read is 0.

    Attributes
    ----------
    slides, classes : tuple of str
        What the numbers in ``batch["slide"]`` and ``batch["label"]`` stand for.
    n_channels : int
        Channels of a patch, after the pipeline.
    n_samples : int
        Patches in the current epoch, over all ranks.

    Yields
    ------
    dict
        ``"patches"`` (n, channels, size, size) float32, in channels-last memory order, ``"label"`` (n,) int64, -1
        without labels, ``"weight"`` (n,) float32, ``"slide"``, ``"y"``, ``"x"`` (n,) int64: slide and first pixel;
        ``"pixel_label"`` (n, size, size) int64, -1 where not selected, where asked for.

    Raises
    ------
    UsageError
        Arguments that contradict each other or the study, or no patch at all.
    MemoryLimitError
        The budget is too small; the message has the size that is needed.
    StoreError
        While iterating: a part of a slide cannot be read; the message names it.
    """

    def __init__(
        self,
        study: Study,
        *,
        size: int = 32,
        stride: int = 32,
        min_coverage: float = 0.5,
        phase: Phase = "fixed",
        edges: Edges = "drop",
        crops: int | None = None,
        scale: Scale | None = "patch",
        batch_size: int = 32,
        **options: Unpack[StreamOptions],
    ) -> None:
        check_scale(scale)
        self.layout = Layout(
            size=size, stride=stride, min_coverage=min_coverage, phase=phase, edges=edges, crops=crops
        )
        self.scale = scale
        source, chosen = resolve(batch_size, options)
        super().__init__(study, source, chosen)
        if self._selection.origin is not None:
            raise UsageError(
                f"{study.path} is a pool of single spectra: take patches from the study it was made of"
            )
        self._groups = slide_groups(study, self.slides, chosen.balance)
        self._drawn: tuple[int, PatchTable, Choice | WeightedChoice] | None = None
        self._plan: PatchPlan | None = None
        self._pixels: Pixels | None = None
        self._count_steps(0)
        self.budget = self._spend()

    @property
    def patches(self) -> pd.DataFrame:
        """All patches of the current epoch: ``slide``, first pixel ``y`` and ``x``, ``coverage``, ``label``."""
        import pandas as pd

        table, _ = self._draw(self.epoch)
        labels = self._selection.labels[table.slide]
        return pd.DataFrame(
            {
                "slide": pd.Categorical.from_codes(table.slide, categories=pd.Index(self.slides)),
                "y": table.y,
                "x": table.x,
                "coverage": table.coverage,
                "label": pd.Categorical.from_codes(labels, categories=pd.Index(self.classes)),
            }
        )

    @property
    def plan(self) -> PatchPlan:
        """The order of the current epoch."""
        return self._planned(self.epoch)

    def describe(self) -> dict[str, Any]:
        """Return what an epoch is made of and what it takes: numbers of patches and steps, bytes.

        ``"read_ahead"`` is the number of batches that are assembled before they are needed, ``"cache"`` the bytes of
        cells that are kept, ``"bytes"`` an estimate of all memory that an iteration takes.
        """
        return {
            "samples": self.n_samples,
            "patches": len(self._draw(self.epoch)[0]),
            "steps": len(self),
            "batch_size": self.settings.batch_size,
            "global_batch": self.settings.global_batch,
            "channels": self.n_channels,
            "read_ahead": self.budget.ahead,
            "cache": self.budget.cache,
            "threads": self.budget.threads,
            "memory": self.settings.memory,
            "bytes": self.budget.n_bytes,
        }

    def _spend(self) -> PatchBudget:
        cell = max(cube.cell[0] * cube.cell[1] for cube in self._selection.cubes)
        return spend_on_patches(
            self.settings.memory,
            batch_bytes=4 * self.n_channels * self.settings.batch_size * self.layout.size**2,
            thread_bytes=CellReader.bytes_per_thread(self._selection) + 4 * self.n_channels * cell,
            all_cells=self._all_cells(),
            threads=self.settings.threads,
        )

    def _all_cells(self) -> int:
        """Return the bytes of all cells together."""
        return 4 * self.n_channels * sum(cube.shape[0] * cube.shape[1] for cube in self._selection.cubes)

    def _count_samples(self, epoch: int) -> int:
        return self._draw(epoch)[1].n_patches

    def _draw(self, epoch: int) -> tuple[PatchTable, Choice | WeightedChoice]:
        """Return the patches that there are in an epoch, and which of them it takes."""
        epoch = epoch if self.layout.changes and self.settings.shuffle else 0
        if self._drawn is None or self._drawn[0] != epoch:
            table = find_patches(self._selection, self.layout, seed=self.settings.seed, epoch=epoch)
            if not len(table):
                raise UsageError(
                    f"{len(self.slides)} slides hold no patch of {table.size} x {table.size} pixels of which "
                    f"{self.layout.min_coverage:.0%} are selected: take a smaller size or coverage"
                )
            self._drawn = epoch, table, self._choose(table)
        return self._drawn[1], self._drawn[2]

    def _choose(self, table: PatchTable) -> Choice | WeightedChoice:
        chosen, weights = self.settings, self._selection.weights
        if weights is None:
            groups = self._groups[table.slide]
            return Choice.of(groups, limit=chosen.limit, replacement=chosen.replacement)
        each = np.empty(len(table), np.int64)
        for slide, image in enumerate(weights):
            inside = np.flatnonzero(table.slide == slide)
            each[inside] = window_sums(image, table.y[inside], table.x[inside], table.size)
        if not each.any():
            raise UsageError(f"weights={chosen.weights!r} are 0 in every patch: no patch would come")
        return WeightedChoice(each, len(table) if chosen.limit is None else min(len(table), chosen.limit))

    def _planned(self, epoch: int) -> PatchPlan:
        epoch = epoch if self.settings.shuffle else 0
        if self._plan is None or self._plan.epoch != epoch:
            self._plan = plan_patches(
                self._draw(epoch)[1],
                seed=self.settings.seed,
                epoch=epoch,
                global_batch=self.settings.global_batch,
                remainder=self.settings.remainder,
                shuffle=self.settings.shuffle,
            )
        return self._plan

    def _identity(self) -> dict[str, Any]:
        return {**asdict(self.layout), "scale": self.scale}

    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        if self._pixels is None:
            whole = self.budget.cache >= self._all_cells()
            self._pixels = SlideImages(self._cells) if whole else CellCache(self._cells, self.budget.cache)
        reader = PatchReader(
            self._planned(epoch),
            self._draw(epoch)[0],
            self._selection,
            self._pixels,
            scale=self.scale,
            rank=self.settings.rank,
            world_size=self.settings.world_size,
            steps=steps,
            ahead=self.budget.ahead,
        )
        reading = read_patches(reader, threads=self.budget.threads)
        with one_blas_thread(self._selection), closing(reading):
            for batch in reading:
                yield self._tensors(batch, reader)

    def _tensors(self, batch: PatchBatch, reader: PatchReader) -> Batch:
        table = reader.table
        slide = table.slide[batch.ids]
        tensors = {
            "patches": torch.from_numpy(batch.patches).permute(0, 3, 1, 2),
            "label": torch.from_numpy(self._selection.labels[slide]),
            "weight": torch.from_numpy(batch.weight),
            "slide": torch.from_numpy(slide),
            "y": torch.from_numpy(table.y[batch.ids]),
            "x": torch.from_numpy(table.x[batch.ids]),
        }
        if self._selection.pixel_labels is not None:
            tensors["pixel_label"] = torch.from_numpy(reader.labels(batch.ids))
        return tensors

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pixels": None}
