"""From a plan to batches of patches: cells are read, and kept as memory allows, and patches are cut from them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.stream.cells import CellReader
from msicube.stream.crew import Crew, Ticket
from msicube.stream.order import Integers
from msicube.stream.patch_plan import PatchPlan
from msicube.stream.patch_table import PatchTable, Scale, scale_patches
from msicube.stream.selection import Selection
from msicube.tiling import Window

#: Patches that a thread assembles at a time.
GROUP = 8


class CellCache:
    """The cells that were used last, within a number of bytes; for any thread."""

    def __init__(self, reader: CellReader, n_bytes: int) -> None:
        self._reader, self._room = reader, n_bytes
        self._cells: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def image(self, cell: int) -> NDArray[np.float32]:
        """Return a cell as ``(y, x, n_channels)``; not to be written to."""
        with self._lock:
            if cell in self._cells:
                self._cells.move_to_end(cell)
                return self._cells[cell]
        image = self._reader.image(cell)
        with self._lock:
            if cell not in self._cells:
                self._cells[cell] = image
                self._room -= image.nbytes
            while self._room < 0:
                self._room += self._cells.popitem(last=False)[1].nbytes
        return image


class PatchBatch(Ticket):
    """One step's patches on this rank, being assembled.

    Attributes
    ----------
    ids, weight : (n,)
        Which patches, and how they count.
    patches : (n, size, size, channels) float32
        There once the batch is admitted.
    """

    def __init__(self, ids: Integers, weight: NDArray[np.float32]) -> None:
        super().__init__(-(-len(ids) // GROUP))
        self.ids, self.weight = ids, weight
        self.patches: NDArray[np.float32] = np.empty((0, 0, 0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class PatchJob:
    """Assemble some patches of a batch."""

    ticket: PatchBatch
    members: slice


class PatchReader:
    """Assembles the batches of some steps.

    Parameters
    ----------
    plan, table
        The order of the patches, and where they are.
    selection, cache
        What they are cut from.
    scale
        As in :func:`~msicube.stream.patch_table.scale_patches`.
    rank, world_size
        Whose share of each step.
    steps
        What this process yields.
    ahead
        Batches that may be in memory before they are asked for.
    """

    def __init__(
        self,
        plan: PatchPlan,
        table: PatchTable,
        selection: Selection,
        cache: CellCache,
        *,
        scale: Scale | None,
        rank: int,
        world_size: int,
        steps: range,
        ahead: int,
    ) -> None:
        self.plan, self.table, self.selection, self.cache, self.scale = plan, table, selection, cache, scale
        self.rank, self.world_size, self.steps = rank, world_size, steps
        self._ahead = self._room = ahead
        self._batches: dict[int, PatchBatch] = {}

    def jobs(self) -> Iterator[PatchJob]:
        """Yield what is to be assembled, in the order of need."""
        for step in self.steps:
            batch = self._batch(step)
            for start in range(0, len(batch.ids), GROUP):
                yield PatchJob(batch, slice(start, start + GROUP))

    def admit(self, job: PatchJob) -> bool:
        """Make room for a batch with its first job; the others come with it."""
        if job.members.start:
            return True
        if not self._room:
            return False
        self._room -= 1
        shape = (len(job.ticket.ids), self.table.size, self.table.size, self.selection.n_channels)
        job.ticket.patches = np.zeros(shape, np.float32)
        return True

    def assemble(self, job: PatchJob) -> None:
        """Fill one job's part of its batch."""
        patches, ids = job.ticket.patches[job.members], job.ticket.ids[job.members]
        acquired = np.empty(patches.shape[:3], bool)
        for place, patch in enumerate(ids.tolist()):
            slide, window = int(self.table.slide[patch]), self.table.window(patch)
            acquired[place] = self.selection.masks[slide].read(window)
            self._cut(slide, window, patches[place])
        scale_patches(patches, acquired, self.scale)

    def batch(self, step: int, crew: Crew[PatchJob]) -> PatchBatch:
        """Return a batch when it is assembled."""
        batch = self._batch(step)
        if not self._ahead:  # room is made for what is asked for, and not before
            crew.release(self._make_room)
        crew.wait(batch)
        del self._batches[step]
        if self._ahead:
            crew.release(self._make_room)
        return batch

    def _batch(self, step: int) -> PatchBatch:
        # Asked for by the reading threads and by the consumer, whoever comes first.
        found = self._batches.get(step)
        return found or self._batches.setdefault(
            step, PatchBatch(*self.plan.step(step, self.rank, self.world_size))
        )

    def _make_room(self) -> None:
        self._room += 1

    def _cut(self, slide: int, window: Window, out: NDArray[np.float32]) -> None:
        for cell in self.selection.cells_of(slide, window):
            area = self.selection.window(cell)
            part = area.intersect(window)
            if part is None or not self.selection.counts[cell]:
                continue
            inside = self.cache.image(cell)[
                part.y0 - area.y0 : part.y1 - area.y0, part.x0 - area.x0 : part.x1 - area.x0
            ]
            out[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0] = inside


def read_patches(reader: PatchReader, *, threads: int) -> Generator[PatchBatch]:
    """Yield the batches of a reader's steps.

    Parameters
    ----------
    reader
        What to read; used once.
    threads
        Reading threads; they are gone when the iteration is over, is closed, or fails.

    Raises
    ------
    StoreError
        A cell cannot be read; the message names slide and window.
    """
    crew = Crew(reader.jobs(), admit=reader.admit, work=reader.assemble, threads=threads)
    try:
        for step in reader.steps:
            yield reader.batch(step, crew)
    finally:
        crew.close()
