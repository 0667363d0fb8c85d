"""Where the patches are, and their scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.order import Integers
from msicube.stream.selection import Selection
from msicube.tiling import Window

Scale = Literal["patch", "channel"]


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
        """Return the pixels of a patch."""
        y, x = int(self.y[patch]), int(self.x[patch])
        return Window(y, y + self.size, x, x + self.size)


def find_patches(selection: Selection, *, size: int, stride: int, min_coverage: float) -> PatchTable:
    """Lay a grid over each slide and keep the patches that lie inside it and are covered well enough."""
    found = []
    for slide, (cube, mask) in enumerate(zip(selection.cubes, selection.masks, strict=True)):
        ys, xs = (np.arange(0, length - size + 1, stride) for length in cube.shape[:2])
        for y in ys.tolist() if len(xs) else []:
            band = mask.read(Window(y, y + size, 0, cube.shape[1])).sum(axis=0)
            sums = np.concatenate([[0], np.cumsum(band)])
            coverage = (sums[xs + size] - sums[xs]) / size**2
            kept = coverage >= min_coverage
            n_kept = int(kept.sum())
            found.append((np.full(n_kept, slide), np.full(n_kept, y), xs[kept], coverage[kept]))
    columns = (
        [np.concatenate(parts) for parts in zip(*found, strict=True)]
        if found
        else [np.empty(0, np.int64)] * 4
    )
    return PatchTable(size, columns[0], columns[1], columns[2], columns[3].astype(np.float64))


def check_scale(scale: str | None) -> None:
    """Refuse an unknown scale.

    Raises
    ------
    UsageError
        Not one of the two, nor None.
    """
    if scale is not None and scale not in get_args(Scale):
        raise UsageError(f"scale={scale!r} is not known: choose one of {', '.join(get_args(Scale))}, or None")


def scale_patches(patches: NDArray[np.float32], acquired: NDArray[np.bool_], scale: Scale | None) -> None:
    """Scale patches to [0, 1], in place, by what their acquired pixels hold.

    Parameters
    ----------
    patches : (n, size, size, channels)
        Overwritten. Pixels that are not acquired become 0; so does what is constant.
    acquired : (n, size, size)
        Which pixels count.
    scale
        ``"patch"``: one range over all channels of a patch. ``"channel"``: each channel of each patch by itself.
        None: as it is.
    """
    if scale is None:
        return
    for patch, inside in zip(patches, acquired, strict=True):
        if not inside.all():
            # With a value that counts anyway, so that the extremes need no mask.
            patch[~inside] = patch[np.unravel_index(inside.argmax(), inside.shape)]
    axes = (1, 2, 3) if scale == "patch" else (1, 2)
    low, high = patches.min(axis=axes, keepdims=True), patches.max(axis=axes, keepdims=True)
    # `high <= low` and not its opposite: a NaN in a patch must stay visible.
    constant = high <= low
    patches -= low
    np.divide(patches, high - low, out=patches, where=~constant)
    np.copyto(patches, 0, where=constant)
    patches[~acquired] = 0
