"""Where the patches are: on a grid, or at random positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.store.packed import PackedMask
from msicube.stream.order import Draw, Integers, generator
from msicube.stream.selection import Selection
from msicube.tiling import Window

Phase = Literal["fixed", "random"]
Edges = Literal["drop", "shift", "pad"]


@dataclass(frozen=True, eq=False)
class PatchTable:
    """Where the patches are.

    Attributes
    ----------
    size
        Rows and columns of a patch.
    slide, y, x : (n_patches,) int64
        Slide and first pixel of each.
    coverage : (n_patches,) float64
        Fraction of selected pixels.
    """

    size: int
    slide: Integers
    y: Integers
    x: Integers
    coverage: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.slide)

    def window(self, patch: int) -> Window:
        """Return the pixels of a patch, some of which may lie outside of its slide."""
        y, x = int(self.y[patch]), int(self.x[patch])
        return Window(y, y + self.size, x, x + self.size)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How patches lie on a slide.

    Attributes
    ----------
    size, stride
        Pixels of a patch's edge, and between one patch and the next.
    min_coverage
        Fraction of selected pixels that a patch must have at the least.
    phase
        Whether the grid starts at the first pixel, or anywhere within a stride, anew for each epoch and slide.
    edges
        What becomes of patches that would leave the slide.
    crops
        Patches of a slide at random positions instead of a grid.

    Raises
    ------
    UsageError
        A number out of its range, or an unknown word.
    """

    size: int
    stride: int
    min_coverage: float
    phase: Phase = "fixed"
    edges: Edges = "drop"
    crops: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1 or not 0 <= self.min_coverage <= 1:
            raise UsageError(
                f"size={self.size}, stride={self.stride}, min_coverage={self.min_coverage}: size and stride are at "
                f"least 1, the coverage is a fraction from 0 to 1"
            )
        for name, value, known in (("phase", self.phase, Phase), ("edges", self.edges, Edges)):
            if value not in get_args(known):
                raise UsageError(f"{name}={value!r} is not known: choose one of {', '.join(get_args(known))}")
        if self.crops is not None and (self.crops < 1 or self.phase != "fixed" or self.edges != "drop"):
            raise UsageError(
                f"crops={self.crops}: at least 1, and without phase= and edges=, which are those of a grid"
            )

    @property
    def changes(self) -> bool:
        """Whether every epoch has patches of its own."""
        return self.crops is not None or self.phase == "random"

    def starts(self, length: int, phase: int) -> Integers:
        """Return where the patches begin along an axis of so many pixels."""
        if self.edges == "pad":
            return np.arange(phase - self.stride if phase else 0, length, self.stride)
        last = length - self.size
        inside = np.arange(phase, last + 1, self.stride)
        if self.edges == "shift" and last >= 0:
            inside = np.unique(np.concatenate([[0], inside, [last]]))
        return inside


def find_patches(selection: Selection, layout: Layout, *, seed: int = 0, epoch: int = 0) -> PatchTable:
    """Lay out the patches of an epoch and keep those that are covered well enough.

    Parameters
    ----------
    selection, layout
        On what, and how.
    seed, epoch
        Of a random phase and of random crops.
    """
    found = []
    for slide, mask in enumerate(selection.masks):
        if layout.crops is not None:
            rng = generator(seed, Draw.CROPS, epoch, slide)
            parts: Iterator[tuple[int, Integers, NDArray[np.float64]]] = _crops(mask, layout, rng)
        else:
            phases = (0, 0)
            if layout.phase == "random":
                phases = tuple(
                    generator(seed, Draw.PHASE, epoch, slide).integers(layout.stride, size=2).tolist()
                )
            parts = _grid(mask, layout, *phases)
        found += [(np.full(len(xs), slide), np.full(len(xs), y), xs, coverage) for y, xs, coverage in parts]
    columns = (
        [np.concatenate(part) for part in zip(*found, strict=True)] if found else [np.empty(0, np.int64)] * 4
    )
    return PatchTable(layout.size, columns[0], columns[1], columns[2], columns[3].astype(np.float64))


def _grid(
    mask: PackedMask, layout: Layout, phase_y: int, phase_x: int
) -> Iterator[tuple[int, Integers, NDArray[np.float64]]]:
    """Yield, row of the grid by row, where the patches are that are covered well enough, and their coverage."""
    ys, xs = layout.starts(mask.shape[0], phase_y), layout.starts(mask.shape[1], phase_x)
    for y in ys.tolist() if len(xs) else []:
        coverage = _coverage(mask, y, layout.size, xs)
        kept = coverage >= layout.min_coverage
        yield y, xs[kept], coverage[kept]


def _crops(
    mask: PackedMask, layout: Layout, rng: np.random.Generator
) -> Iterator[tuple[int, Integers, NDArray[np.float64]]]:
    """Yield random positions among all that are covered well enough, none twice while there are enough."""
    assert layout.crops is not None
    xs = np.arange(mask.shape[1] - layout.size + 1)
    ys = range(max(0, mask.shape[0] - layout.size + 1)) if len(xs) else range(0)
    good = [int((_coverage(mask, y, layout.size, xs) >= layout.min_coverage).sum()) for y in ys]
    ends = np.cumsum(good)
    if not len(ends) or not ends[-1]:
        return
    drawn = np.sort(rng.choice(ends[-1], layout.crops, replace=layout.crops > ends[-1]))
    for y in np.unique(np.searchsorted(ends, drawn, side="right")).tolist():
        coverage = _coverage(mask, y, layout.size, xs)
        here = drawn[(drawn >= ends[y] - good[y]) & (drawn < ends[y])] - (ends[y] - good[y])
        chosen = np.flatnonzero(coverage >= layout.min_coverage)[here]
        yield y, chosen, coverage[chosen]


def _coverage(mask: PackedMask, y: int, size: int, xs: Integers) -> NDArray[np.float64]:
    """Return the fraction of selected pixels of patches in one row; what lies outside of the slide is not selected."""
    ny, nx = mask.shape
    band = mask.read(Window(max(0, y), max(0, min(y + size, ny)), 0, nx)).sum(axis=0)
    sums = np.concatenate([[0], np.cumsum(band)])
    covered: NDArray[np.float64] = (sums[np.clip(xs + size, 0, nx)] - sums[np.clip(xs, 0, nx)]) / size**2
    return covered


def window_sums(image: Integers, y: Integers, x: Integers, size: int) -> Integers:
    """Return the sums of an image over square windows, as far as they lie inside it."""
    sums = np.zeros((image.shape[0] + 1, image.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(image, axis=0), axis=1, out=sums[1:, 1:])
    y0, y1 = np.clip(y, 0, image.shape[0]), np.clip(y + size, 0, image.shape[0])
    x0, x1 = np.clip(x, 0, image.shape[1]), np.clip(x + size, 0, image.shape[1])
    found: Integers = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return found
