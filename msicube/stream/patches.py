"""Patches for training: windows of slides that hold enough tissue, shuffled, scaled and balanced."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from msicube.errors import UsageError
from msicube.stream.base import Batch, Stream, settings
from msicube.stream.budget import PatchBudget, spend_on_patches
from msicube.stream.cells import CellReader
from msicube.stream.order import Remainder
from msicube.stream.patch_fetch import CellCache, PatchBatch, PatchReader, read_patches
from msicube.stream.patch_plan import Choice, PatchPlan, plan_patches
from msicube.stream.patch_table import Scale, check_scale, find_patches
from msicube.stream.selection import BlockTransform, select, slide_groups

if TYPE_CHECKING:
    import pandas as pd

    from msicube.store import Study


class PatchStream(Stream):
    """Batches of shuffled patches from one or many slides.

    Parameters
    ----------
    study
        An open study.
    slides
        Names of slides; all by default.
    variable
        ``"intensity"``, or a variable that a pipeline was applied into.
    where
        ``"acquired"``, or the name of a ``(y, x)`` variable that selects among the acquired pixels; the others are 0.
    pipeline
        A fitted pipeline, applied to each spectrum in the reading threads.
    size, stride
        Pixels of a patch's edge, and between one patch and the next. The grid starts at the first pixel of a slide;
        patches that would leave the slide are left out.
    min_coverage
        Fraction of selected pixels that a patch must have at the least.
    scale
        ``"patch"``: to [0, 1] over the selected pixels of all channels of a patch. ``"channel"``: each channel by
        itself. None: not at all. What is constant becomes 0.
    batch_size, seed, remainder, labels, shuffle, threads, rank, world_size
        As for :class:`~msicube.stream.SpectrumStream`. The order follows from the patches, ``seed``, the epoch and the
        global batch size alone; ``"pad"`` and ``"repeat"`` fill the last step with the epoch's first patches.
    memory
        Budget of each process. What the batches leave of it keeps cells in memory, so patches of a few channels are
        read once.
    balance
        Column of the samples table: every value of it gives as many patches to an epoch as the rarest one has. The
        epochs take turns, so that all patches are used over some epochs.
    limit
        The most patches of an epoch, over all ranks, taken in the same turns.

    Attributes
    ----------
    slides, classes : tuple of str
        What the numbers in ``batch["slide"]`` and ``batch["label"]`` stand for.
    n_channels : int
        Channels of a patch, after the pipeline.
    n_samples : int
        Patches in an epoch, over all ranks.

    Yields
    ------
    dict
        ``"patches"`` (n, channels, size, size) float32, in channels-last memory order, ``"label"`` (n,) int64, -1
        without labels, ``"weight"`` (n,) float32, ``"slide"``, ``"y"``, ``"x"`` (n,) int64: slide and first pixel.

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
        slides: Sequence[str] | None = None,
        variable: str = "intensity",
        where: str = "acquired",
        pipeline: BlockTransform | None = None,
        size: int = 32,
        stride: int = 32,
        min_coverage: float = 0.5,
        scale: Scale | None = "patch",
        batch_size: int = 32,
        seed: int = 0,
        memory: str | int = "256 MiB",
        remainder: Remainder = "pad",
        labels: str | None = "label",
        balance: str | None = None,
        limit: int | None = None,
        shuffle: bool = True,
        threads: int | None = None,
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
        _check_grid(size, stride, min_coverage)
        check_scale(scale)
        self.size, self.stride, self.min_coverage, self.scale = size, stride, min_coverage, scale
        self.balance, self.limit = balance, limit
        self._selection = select(
            study, slides=slides, variable=variable, where=where, pipeline=pipeline, labels=labels
        )
        self.slides, self.classes = self._selection.slides, self._selection.classes
        self.n_channels = self._selection.n_channels
        self._table = find_patches(self._selection, size=size, stride=stride, min_coverage=min_coverage)
        if not len(self._table):
            raise UsageError(
                f"{len(self.slides)} slides hold no patch of {size} x {size} pixels of which {min_coverage:.0%} are "
                f"selected: take a smaller size or coverage"
            )
        groups = slide_groups(study, self.slides, balance)
        self._choice = Choice.of(groups[self._table.slide], limit=limit)
        self.n_samples = self._choice.n_patches
        self.n_steps = self._count_steps()
        self.budget = self._spend()
        self._plan: PatchPlan | None = None
        self._cache: CellCache | None = None

    @property
    def patches(self) -> pd.DataFrame:
        """All patches: ``slide``, first pixel ``y`` and ``x``, ``coverage``, ``label``."""
        import pandas as pd

        table, labels = self._table, self._selection.labels[self._table.slide]
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
        epoch = self.epoch if self.settings.shuffle else 0
        if self._plan is None or self._plan.epoch != epoch:
            self._plan = self._make_plan(epoch)
        return self._plan

    def describe(self) -> dict[str, Any]:
        """Return what an epoch is made of and what it takes: numbers of patches and steps, bytes.

        ``"read_ahead"`` is the number of batches that are assembled before they are needed, ``"cache"`` the bytes of
        cells that are kept, ``"bytes"`` an estimate of all memory that an iteration takes.
        """
        return {
            "samples": self.n_samples,
            "patches": len(self._table),
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
        pixels = [cube.shape[0] * cube.shape[1] for cube in self._selection.cubes]
        cell = max(cube.cell[0] * cube.cell[1] for cube in self._selection.cubes)
        return spend_on_patches(
            self.settings.memory,
            batch_bytes=4 * self.n_channels * self.settings.batch_size * self.size**2,
            thread_bytes=CellReader.bytes_per_thread(self._selection) + 4 * self.n_channels * cell,
            all_cells=4 * self.n_channels * sum(pixels),
            threads=self.settings.threads,
        )

    def _make_plan(self, epoch: int) -> PatchPlan:
        return plan_patches(
            self._choice,
            seed=self.settings.seed,
            epoch=epoch,
            global_batch=self.settings.global_batch,
            remainder=self.settings.remainder,
            shuffle=self.settings.shuffle,
        )

    def _identity(self) -> dict[str, Any]:
        names = ("size", "stride", "min_coverage", "scale", "balance", "limit")
        return {"dataset": self._selection.digest, **{name: getattr(self, name) for name in names}}

    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        if self._cache is None:
            self._cache = CellCache(CellReader(self._selection), self.budget.cache)
        reader = PatchReader(
            self.plan if epoch == self.epoch else self._make_plan(epoch),
            self._table,
            self._selection,
            self._cache,
            scale=self.scale,
            rank=self.settings.rank,
            world_size=self.settings.world_size,
            steps=steps,
            ahead=self.budget.ahead,
        )
        with closing(read_patches(reader, threads=self.budget.threads)) as reading:
            for batch in reading:
                yield self._tensors(batch)

    def _tensors(self, batch: PatchBatch) -> Batch:
        slide = self._table.slide[batch.ids]
        return {
            "patches": torch.from_numpy(batch.patches).permute(0, 3, 1, 2),
            "label": torch.from_numpy(self._selection.labels[slide]),
            "weight": torch.from_numpy(batch.weight),
            "slide": torch.from_numpy(slide),
            "y": torch.from_numpy(self._table.y[batch.ids]),
            "x": torch.from_numpy(self._table.x[batch.ids]),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}


def _check_grid(size: int, stride: int, min_coverage: float) -> None:
    if size < 1 or stride < 1 or not 0 <= min_coverage <= 1:
        raise UsageError(
            f"size={size}, stride={stride}, min_coverage={min_coverage}: size and stride are at least 1, the coverage "
            f"is a fraction from 0 to 1"
        )
