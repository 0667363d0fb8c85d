"""From a plan to batches of patches: cells are read, and kept as memory allows, and patches are cut from them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.stream.cells import CellReader
from msicube.stream.crew import Crew, Ticket
from msicube.stream.order import Integers
from msicube.stream.patch_plan import PatchPlan
from msicube.stream.patch_table import PatchTable
from msicube.stream.scaling import Scale, scale_patches
from msicube.stream.selection import Selection
from msicube.tiling import Window

#: What a thread assembles at a time: so many bytes of patches, but not fewer patches than this.
GROUP_BYTES, LEAST_GROUP = 2**20, 8


class Pixels(Protocol):
    """Where patches are cut from."""

    def cut(self, slide: int, window: Window, out: NDArray[np.float32]) -> None:
        """Copy a window that lies inside a slide; ``out`` is 0 before, and where not selected after it."""

    def mask(self, slide: int, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window that lies inside a slide are selected."""


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

    def cut(self, slide: int, window: Window, out: NDArray[np.float32]) -> None:
        """Copy a window, cell by cell."""
        selection = self._reader.selection
        for cell in selection.cells_of(slide, window):
            area = selection.window(cell)
            part = area.intersect(window)
            if part is not None and selection.counts[cell]:
                out[_inside(part, window)] = self.image(cell)[_inside(part, area)]

    def mask(self, slide: int, window: Window) -> NDArray[np.bool_]:
        """Return the mask of a window."""
        return self._reader.selection.masks[slide].read(window)


class SlideImages:
    """Whole slides, filled cell by cell as patches need them, where all of them fit into memory; for any thread."""

    def __init__(self, reader: CellReader) -> None:
        self._reader = reader
        selection = reader.selection
        self._images = [
            np.zeros((*cube.shape[:2], selection.n_channels), np.float32) for cube in selection.cubes
        ]
        self._masks = [mask.whole() for mask in selection.masks]
        self._ready = [
            np.zeros([-(-n // step) for n, step in zip(cube.shape, cube.cell, strict=False)], bool)
            for cube in selection.cubes
        ]

    def cut(self, slide: int, window: Window, out: NDArray[np.float32]) -> None:
        """Copy a window; two threads may read a cell, and then write the same numbers."""
        cell_y, cell_x = self._reader.selection.cubes[slide].cell
        y0, y1, x0, x1 = window
        if not self._ready[slide][y0 // cell_y : -(-y1 // cell_y), x0 // cell_x : -(-x1 // cell_x)].all():
            self._fill(slide, window)
        out[...] = self._images[slide][y0:y1, x0:x1]

    def mask(self, slide: int, window: Window) -> NDArray[np.bool_]:
        """Return the mask of a window."""
        y0, y1, x0, x1 = window
        return self._masks[slide][y0:y1, x0:x1]

    def _fill(self, slide: int, window: Window) -> None:
        selection, (cell_y, cell_x) = self._reader.selection, self._reader.selection.cubes[slide].cell
        for cell in selection.cells_of(slide, window):
            area = selection.window(cell)
            at = area.y0 // cell_y, area.x0 // cell_x
            if self._ready[slide][at]:
                continue
            if selection.counts[cell]:
                self._images[slide][area.slices] = self._reader.image(cell)
            self._ready[slide][at] = True


def _inside(part: Window, whole: Window) -> tuple[slice, slice]:
    """Return where a part of a window lies in it."""
    return part.shifted(-whole.y0, -whole.x0).slices


class PatchBatch(Ticket):
    """One step's patches on this rank, being assembled.

    Attributes
    ----------
    ids, weight : (n,)
        Which patches, and how they count.
    group
        Patches that one job assembles.
    patches : (n, size, size, channels) float32
        There once the batch is admitted.
    """

    def __init__(self, ids: Integers, weight: NDArray[np.float32], group: int) -> None:
        super().__init__(-(-len(ids) // group))
        self.ids, self.weight, self.group = ids, weight, group
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
    selection, pixels
        What they are cut from.
    scale
        As in :func:`~msicube.stream.scaling.scale_patches`.
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
        pixels: Pixels,
        *,
        scale: Scale | None,
        rank: int,
        world_size: int,
        steps: range,
        ahead: int,
    ) -> None:
        self.plan, self.table, self.selection, self.pixels, self.scale = plan, table, selection, pixels, scale
        self.rank, self.world_size, self.steps = rank, world_size, steps
        self._ahead = self._room = ahead
        self._batches: dict[int, PatchBatch] = {}
        patch_bytes = 4 * table.size**2 * selection.n_channels
        self._group = max(LEAST_GROUP, GROUP_BYTES // patch_bytes)

    def jobs(self) -> Iterator[PatchJob]:
        """Yield what is to be assembled, in the order of need."""
        for step in self.steps:
            batch = self._batch(step)
            for start in range(0, len(batch.ids), batch.group):
                yield PatchJob(batch, slice(start, start + batch.group))

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
        for patch, slide, y, x in zip(
            patches,
            *(column[ids].tolist() for column in (self.table.slide, self.table.y, self.table.x)),
            strict=True,
        ):
            self._cut(slide, y, x, patch)
        partial = np.flatnonzero(self.table.coverage[ids] < 1) if self.scale is not None else ()
        acquired = None
        if len(partial):
            acquired = np.ones(patches.shape[:3], bool)
            for place in partial:
                acquired[place] = self._acquired(int(ids[place]))
        scale_patches(patches, acquired, self.scale)

    def _cut(self, slide: int, y: int, x: int, out: NDArray[np.float32]) -> None:
        size = self.table.size
        ny, nx, _ = self.selection.cubes[slide].shape
        window = Window(y, y + size, x, x + size)
        if y < 0 or x < 0 or y + size > ny or x + size > nx:
            inside = Window(0, ny, 0, nx).intersect(window)
            if inside is None:
                return
            out, window = out[_inside(inside, window)], inside
        self.pixels.cut(slide, window, out)

    def _acquired(self, patch: int) -> NDArray[np.bool_]:
        """Return which pixels of a patch are selected; what lies outside of the slide is not."""
        slide, window = int(self.table.slide[patch]), self.table.window(patch)
        ny, nx, _ = self.selection.cubes[slide].shape
        if window.y0 >= 0 and window.x0 >= 0 and window.y1 <= ny and window.x1 <= nx:
            return self.pixels.mask(slide, window)
        found = np.zeros(window.shape, bool)
        inside = Window(0, ny, 0, nx).intersect(window)
        if inside is not None:
            found[_inside(inside, window)] = self.pixels.mask(slide, inside)
        return found

    def labels(self, ids: Integers) -> Integers:
        """Return the labels of the pixels of patches, ``(n, size, size)``: -1 where not selected."""
        assert self.selection.pixel_labels is not None
        found = np.full((len(ids), self.table.size, self.table.size), -1, np.int64)
        for place, patch in zip(found, ids.tolist(), strict=True):
            window, image = (
                self.table.window(patch),
                self.selection.pixel_labels[int(self.table.slide[patch])],
            )
            inside = Window(0, image.shape[0], 0, image.shape[1]).intersect(window)
            if inside is not None:
                place[_inside(inside, window)] = image[inside.slices]
            place[~self._acquired(patch)] = -1
        return found

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
            step, PatchBatch(*self.plan.step(step, self.rank, self.world_size), self._group)
        )

    def _make_room(self) -> None:
        self._room += 1


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
