"""What a stream draws from: the selected pixels of some slides, cell by cell, and what is known of each slide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, UnknownSlide, UsageError
from msicube.stream.order import Integers
from msicube.tiling import Window

if TYPE_CHECKING:
    from msicube.store import CubeArray, Study

UNLABELLED = -1


class BlockTransform(Protocol):
    """A fitted pipeline, as far as a stream needs it."""

    @property
    def n_features_out_(self) -> int:
        """Columns of a transformed block."""

    def transform_block(self, block: NDArray[Any], *, slide: str) -> NDArray[Any]:
        """Transform ``(n, channels)`` of a slide into ``(n, features)``; thread-safe."""

    def fingerprint(self) -> str:
        """Return a hash of the fitted numbers and the parameters."""


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A ``(y, x)`` mask at one bit a pixel, so that it stays small beside the spectra."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> PackedMask:
        """Pack a mask."""
        return cls(np.packbits(mask, axis=1), (mask.shape[0], mask.shape[1]))

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return the mask of a window."""
        first = window.x0 // 8
        bits = self.bits[window.y0 : window.y1, first : -(-window.x1 // 8)]
        return np.unpackbits(bits, axis=1)[:, window.x0 - 8 * first : window.x1 - 8 * first].astype(bool)


@dataclass(frozen=True, eq=False)
class Selection:
    """The selected pixels of some slides.

    Cells are numbered through, slide after slide and row-major in each; memory is a bit a pixel and a few integers a
    cell.

    Attributes
    ----------
    slides, cubes, masks
        Names, stored variable and selected pixels of each slide.
    pipeline
        Applied to every spectrum that is read, if any.
    classes
        Names of the labels, sorted; label ``i`` is ``classes[i]``. Taken from the whole study, so that streams over
        different slides agree.
    labels : (n_slides,) int64
        The label of each slide, -1 where labels were not asked for.
    """

    slides: tuple[str, ...]
    cubes: tuple[CubeArray, ...]
    masks: tuple[PackedMask, ...]
    pipeline: BlockTransform | None
    classes: tuple[str, ...]
    labels: Integers

    @cached_property
    def first_cells(self) -> Integers:
        """The number of each slide's first cell, and the number of all cells, ``(n_slides + 1,)``."""
        sizes = [rows * columns for rows, columns in map(_grid, self.cubes)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @cached_property
    def counts(self) -> Integers:
        """Selected pixels in each cell, ``(n_cells,)``."""
        return np.concatenate([_count(mask, cube) for mask, cube in zip(self.masks, self.cubes, strict=True)])

    @cached_property
    def digest(self) -> str:
        """A hash of all that decides which sample is which: slides, pixels, cells, labels and pipeline."""
        known = {
            "slides": [
                (name, cube.variable, cube.shape, cube.cell, str(cube.dtype), int(label))
                for name, cube, label in zip(self.slides, self.cubes, self.labels, strict=True)
            ],
            "classes": self.classes,
            "pipeline": None if self.pipeline is None else self.pipeline.fingerprint(),
        }
        digest = hashlib.blake2b(json.dumps(known).encode(), digest_size=16)
        for mask in self.masks:
            digest.update(mask.bits.tobytes())
        return digest.hexdigest()

    @property
    def n_channels(self) -> int:
        """Values of one sample, after the pipeline."""
        return self.cubes[0].shape[2] if self.pipeline is None else int(self.pipeline.n_features_out_)

    @property
    def stored_cell_bytes(self) -> int:
        """Bytes of the largest cell as stored, uncompressed."""
        return max(_area(cube) * cube.shape[2] * cube.dtype.itemsize for cube in self.cubes)

    def slide_of(self, cell: int) -> int:
        """Return which slide a cell belongs to."""
        return int(np.searchsorted(self.first_cells, cell, side="right")) - 1

    def window(self, cell: int) -> Window:
        """Return the pixels of a cell, clipped to its slide."""
        slide = self.slide_of(cell)
        cube = self.cubes[slide]
        row, column = divmod(cell - int(self.first_cells[slide]), _grid(cube)[1])
        y, x = row * cube.cell[0], column * cube.cell[1]
        return Window(y, min(y + cube.cell[0], cube.shape[0]), x, min(x + cube.cell[1], cube.shape[1]))

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


def select(
    study: Study,
    *,
    slides: Sequence[str] | None,
    variable: str,
    where: str,
    pipeline: BlockTransform | None,
    labels: str | None,
) -> Selection:
    """Look up what a stream draws from; reads masks, axes and metadata, no spectra.

    Parameters
    ----------
    study, slides
        A study, and names of slides in it; all by default.
    variable
        A ``(y, x, channel)`` variable, the same in all slides.
    where
        ``"acquired"``, or a ``(y, x)`` variable that selects among the acquired pixels.
    pipeline
        Applied to the spectra, if any.
    labels
        A column of the samples table, or None.

    Raises
    ------
    UnknownSlide
        A name that the study does not have.
    AxisMismatch
        Slides with different spectral axes.
    UsageError
        A slide twice or without a label, or no such column.
    """
    names = tuple(study.slides if slides is None else slides)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"slides={list(names)}: name at least one slide, and each only once")
    if unknown := [name for name in names if name not in study.slides]:
        raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {', '.join(study.slides[:8])}")
    cubes = tuple(study.cube(name, variable) for name in names)
    _check_axes(study, names, cubes)
    classes, codes = slide_codes(study, names, labels)
    masks = tuple(PackedMask.of(_mask(study, name, where)) for name in names)
    return Selection(names, cubes, masks, pipeline, classes, codes)


def slide_codes(study: Study, slides: Sequence[str], column: str | None) -> tuple[tuple[str, ...], Integers]:
    """Return the sorted names in a column of the samples table, and the number of each slide's name.

    Raises
    ------
    UsageError
        There is no such column, or it is empty for one of the slides.
    """
    if column is None:
        return (), np.full(len(slides), UNLABELLED, np.int64)
    samples = study.samples
    if column not in samples.columns:
        raise UsageError(
            f"the samples of {study.path} have no column {column!r}, only "
            f"{', '.join(map(str, samples.columns)) or 'none'}: choose one of them, or None"
        )
    known = samples[column].dropna()
    if missing := [slide for slide in slides if slide not in known.index]:
        raise UsageError(
            f"{len(missing)} slides have no {column!r} in {study.path}, the first is {missing[0]!r}: leave them out "
            f"with slides=, or pass None for the column"
        )
    names = sorted(set(known))
    code = {name: number for number, name in enumerate(names)}
    return tuple(map(str, names)), np.array([code[known[slide]] for slide in slides], np.int64)


def slide_groups(study: Study, slides: Sequence[str], column: str | None) -> Integers:
    """Return the group of each slide by a column of the samples table; without a column all are of one group.

    Raises
    ------
    UsageError
        As for :func:`slide_codes`.
    """
    return slide_codes(study, slides, column)[1] if column else np.zeros(len(slides), np.int64)


def _check_axes(study: Study, slides: Sequence[str], cubes: Sequence[CubeArray]) -> None:
    first = cubes[0]
    for slide, cube in zip(slides, cubes, strict=True):
        if cube.shape[2] != first.shape[2]:
            raise AxisMismatch(
                f"slide {slide} has {cube.shape[2]} channels and {slides[0]} has {first.shape[2]}: stream slides of "
                f"one axis, or convert them again with a shared one"
            )
    if first.variable != "intensity":
        return
    axis = study.axis(slides[0])
    for slide in slides[1:]:
        if not np.array_equal(study.axis(slide), axis):
            raise AxisMismatch(
                f"slides {slides[0]} and {slide} lie on different spectral axes of {len(axis)} channels: stream slides "
                f"of one axis, or convert them again with a shared one"
            )


def _mask(study: Study, slide: str, where: str) -> NDArray[np.bool_]:
    acquired = study.acquired(slide)
    if where == "acquired":
        return acquired
    dataset = study[slide]
    if where not in dataset or dataset[where].dims != ("y", "x"):
        raise UsageError(
            f"slide {slide} has no (y, x) variable {where!r}: where= takes 'acquired' or such a variable"
        )
    return acquired & dataset[where].to_numpy().astype(bool)


def _grid(cube: CubeArray) -> tuple[int, int]:
    return -(-cube.shape[0] // cube.cell[0]), -(-cube.shape[1] // cube.cell[1])


def _area(cube: CubeArray) -> int:
    return min(cube.cell[0], cube.shape[0]) * min(cube.cell[1], cube.shape[1])


def _count(mask: PackedMask, cube: CubeArray) -> Integers:
    rows = [
        mask.read(Window(y, min(y + cube.cell[0], cube.shape[0]), 0, cube.shape[1])).sum(axis=0)
        for y in range(0, cube.shape[0], cube.cell[0])
    ]
    return (
        np.add.reduceat(np.stack(rows), np.arange(0, cube.shape[1], cube.cell[1]), axis=1)
        .ravel()
        .astype(np.int64)
    )
