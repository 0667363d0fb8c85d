"""What a stream draws from: the selected pixels of some slides, cell by cell, and what is known of each slide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.store.packed import PackedMask
from msicube.stream.order import Integers
from msicube.tiling import Window

if TYPE_CHECKING:
    from msicube.preprocess.chain import Chain
    from msicube.store import CubeArray


class Fitted(Protocol):
    """A fitted pipeline or step, as far as a stream needs it."""

    @property
    def chain(self) -> Chain:
        """The map of a block of spectra; thread-safe."""

    def fingerprint(self) -> str:
        """Return a hash of the fitted numbers and the parameters."""


class Cell(NamedTuple):
    """A cell and its selected pixels.

    Attributes
    ----------
    number
        Among all cells.
    place, cube
        The number of its cube, and the cube.
    window
        Its pixels, clipped to the cube.
    pixels : (n,) intp
        The selected ones, as flat positions in the window.
    """

    number: int
    place: int
    cube: CubeArray
    window: Window
    pixels: NDArray[np.intp]

    def __str__(self) -> str:
        y0, y1, x0, x1 = self.window
        return f"slide {self.cube.slide}, rows {y0} to {y1}, columns {x0} to {x1}"


@dataclass(frozen=True, eq=False)
class Selection:
    """The selected pixels of some slides.

    Cells are numbered through, slide after slide and row-major in each; memory is a bit a pixel and a few integers a
    cell.

    Attributes
    ----------
    slides
        Names of the slides that the spectra come from.
    cubes, masks
        Stored variable and selected pixels of each slide; of a pool, its one cube of spectra of all slides.
    origin
        Of a pool: where each of its spectra comes from, ``(y, x, 3)`` slide, y and x.
    pipeline
        Applied to every spectrum that is read, if any.
    pixel_labels, weights
        ``(y, x)`` integers of each cube, where they were asked for; weights are whole numbers.
    classes
        Names of the labels, sorted; label ``i`` is ``classes[i]``. Taken from the whole study, so that streams over
        different slides agree.
    labels : (n_slides,) int64
        The label of each slide, -1 where labels were not asked for.
    """

    slides: tuple[str, ...]
    cubes: tuple[CubeArray, ...]
    masks: tuple[PackedMask, ...]
    pipeline: Fitted | None
    classes: tuple[str, ...]
    labels: Integers
    origin: CubeArray | None = None
    pixel_labels: tuple[NDArray[Any], ...] | None = None
    weights: tuple[Integers, ...] | None = None

    @cached_property
    def first_cells(self) -> Integers:
        """The number of each slide's first cell, and the number of all cells, ``(n_slides + 1,)``."""
        sizes = [rows * columns for rows, columns in map(_grid, self.cubes)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @cached_property
    def counts(self) -> Integers:
        """Selected pixels in each cell, ``(n_cells,)``."""
        return np.concatenate(
            [_sum_cells(mask.read, cube) for mask, cube in zip(self.masks, self.cubes, strict=True)]
        )

    @cached_property
    def digest(self) -> str:
        """A hash of all that decides which sample is which: slides, pixels, cells, labels and pipeline."""
        known = {
            "slides": [
                (name, cube.variable, cube.shape, cube.cell, str(cube.dtype), int(label))
                for name, cube, label in zip(
                    self.slides,
                    cycle(self.cubes) if self.origin else self.cubes,
                    self.labels,
                    strict=not self.origin,
                )
            ],
            "classes": self.classes,
            "pipeline": None if self.pipeline is None else self.pipeline.fingerprint(),
        }
        digest = hashlib.blake2b(json.dumps(known).encode(), digest_size=16)
        for mask in self.masks:
            digest.update(mask.bits.tobytes())
        for values in (*(self.pixel_labels or ()), *(self.weights or ())):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """The pipeline's map of each slide; empty without a pipeline."""
        if self.pipeline is None:
            return ()
        chain = self.pipeline.chain
        return tuple(chain.for_slide(slide) for slide in self.slides)

    @property
    def n_channels(self) -> int:
        """Values of one sample, after the pipeline."""
        return self.chains[0].n_out if self.chains else self.cubes[0].shape[2]

    @property
    def stored_cell_bytes(self) -> int:
        """Bytes of the largest cell as stored, uncompressed."""
        return max(_area(cube) * cube.shape[2] * cube.dtype.itemsize for cube in self.cubes)

    def slide_of(self, cell: int) -> int:
        """Return which cube a cell belongs to: that of a slide, or of a pool the only one."""
        return int(np.searchsorted(self.first_cells, cell, side="right")) - 1

    def window(self, cell: int) -> Window:
        """Return the pixels of a cell, clipped to its slide."""
        slide = self.slide_of(cell)
        cube = self.cubes[slide]
        row, column = divmod(cell - int(self.first_cells[slide]), _grid(cube)[1])
        y, x = row * cube.cell[0], column * cube.cell[1]
        return Window(y, min(y + cube.cell[0], cube.shape[0]), x, min(x + cube.cell[1], cube.shape[1]))

    def weights_of(self, cell: Cell) -> Integers | None:
        """Return the weights of a cell's selected pixels, or None where all count alike."""
        if self.weights is None:
            return None
        return self.weights[cell.place][cell.window.slices].ravel()[cell.pixels]

    def sum_in_cells(self, images: Sequence[Integers]) -> Integers:
        """Return the sums of ``(y, x)`` images over the selected pixels of each cell, ``(n_cells,)``."""
        sums = [
            _sum_cells(lambda window, mask=mask, image=image: mask.read(window) * image[window.slices], cube)  # type: ignore[misc]
            for mask, cube, image in zip(self.masks, self.cubes, images, strict=True)
        ]
        return np.concatenate(sums)

    def cell(self, number: int) -> Cell:
        """Return what is known of a cell, looked up once."""
        place = self.slide_of(number)
        window = self.window(number)
        return Cell(number, place, self.cubes[place], window, np.flatnonzero(self.masks[place].read(window)))

    def cells_of(self, slide: int, window: Window) -> list[int]:
        """Return the cells that a window of a slide touches."""
        (ny, nx), columns = self.cubes[slide].cell, _grid(self.cubes[slide])[1]
        first = int(self.first_cells[slide])
        return [
            first + row * columns + column
            for row in range(window.y0 // ny, -(-window.y1 // ny))
            for column in range(window.x0 // nx, -(-window.x1 // nx))
        ]

    def pixels(self, cell: int) -> NDArray[np.intp]:
        """Return the selected pixels of a cell, as flat positions in its window."""
        return np.flatnonzero(self.masks[self.slide_of(cell)].read(self.window(cell)))

    def per_cell(self, per_slide: Integers) -> Integers:
        """Return each slide's value for each of its cells."""
        return np.repeat(per_slide, np.diff(self.first_cells))


def _grid(cube: CubeArray) -> tuple[int, int]:
    return -(-cube.shape[0] // cube.cell[0]), -(-cube.shape[1] // cube.cell[1])


def _area(cube: CubeArray) -> int:
    return min(cube.cell[0], cube.shape[0]) * min(cube.cell[1], cube.shape[1])


def _sum_cells(read: Callable[[Window], NDArray[Any]], cube: CubeArray) -> Integers:
    """Return the sum of an image over each cell, given what reads a window of it."""
    rows = [
        read(Window(y, min(y + cube.cell[0], cube.shape[0]), 0, cube.shape[1])).sum(axis=0, dtype=np.int64)
        for y in range(0, cube.shape[0], cube.cell[0])
    ]
    return np.add.reduceat(np.stack(rows), np.arange(0, cube.shape[1], cube.cell[1]), axis=1).ravel()
