"""A mask tidied: what is lonely taken out, holes filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from msicube.errors import UsageError

Bools = NDArray[np.bool_]


class CoverageMask(BaseEstimator):
    """Pixels around which enough of another mask lies, small islands dropped and small holes filled.

    It looks at pixels and not at spectra, and learns nothing. The three operations follow one another in the order of
    the parameters; the result lies within what was acquired.

    Parameters
    ----------
    of
        The mask to tidy, or an expression of masks such as ``"tissue & ~dead"``.
    radius
        The neighbourhood of a pixel is the square of ``2 * radius + 1`` pixels around it, as far as it lies on the
        grid.
    min_fraction
        A pixel of the mask stays where at least this fraction of its neighbourhood belongs to the mask; 0 keeps all.
    min_area
        Islands of fewer pixels are dropped; pixels that touch at an edge belong together.
    max_hole
        Holes of at most so many pixels are filled: what is not in the mask, enclosed by it, and does not reach the
        border of the grid. Pixels that touch at an edge or a corner belong to one hole.
    """

    def __init__(
        self,
        *,
        of: str = "acquired",
        radius: int = 1,
        min_fraction: float = 0.0,
        min_area: int = 0,
        max_hole: int = 0,
    ) -> None:
        self.of = of
        self.radius = radius
        self.min_fraction = min_fraction
        self.min_area = min_area
        self.max_hole = max_hole

    def predict(self, mask: Bools, acquired: Bools | None = None) -> Bools:
        """Tidy a mask.

        Parameters
        ----------
        mask
            ``(y, x)`` bool; not changed.
        acquired
            ``(y, x)`` bool: where the result may be True; everywhere by default.

        Returns
        -------
        ndarray
            ``(y, x)`` bool.
        """
        self._check(mask)
        tidied = mask.copy()
        if self.min_fraction > 0:
            tidied &= coverage(mask, self.radius) >= self.min_fraction
        if self.min_area > 1:
            tidied = _without_small(tidied, self.min_area, corners=False)
        if self.max_hole > 0:
            tidied |= _small_holes(tidied, self.max_hole)
        return tidied if acquired is None else tidied & acquired

    def _check(self, mask: Bools) -> None:
        if mask.ndim != 2 or mask.dtype != bool:
            raise UsageError(
                f"a mask of shape {mask.shape} and type {mask.dtype} came in, expected (y, x) bool"
            )
        if self.radius < 0 or not 0 <= self.min_fraction <= 1 or self.min_area < 0 or self.max_hole < 0:
            raise UsageError(f"{self}: expected numbers that are not negative, and a fraction of at most 1")


def coverage(mask: Bools, radius: int) -> NDArray[np.float64]:
    """Return the fraction of each pixel's neighbourhood, as far as it lies on the grid, that belongs to a mask."""
    from scipy.ndimage import correlate1d

    ones = np.ones(2 * radius + 1, np.int64)
    counts = [np.asarray(mask, np.int64), np.ones(mask.shape, np.int64)]
    for axis in (0, 1):
        counts = [correlate1d(count, ones, axis=axis, mode="constant") for count in counts]
    fraction: NDArray[np.float64] = counts[0] / counts[1]
    return fraction


def _without_small(mask: Bools, area: int, *, corners: bool) -> Bools:
    """Return a mask without its islands of fewer pixels than ``area``."""
    from scipy.ndimage import label

    numbers, _ = label(mask, np.ones((3, 3)) if corners else None)
    large = np.bincount(numbers.ravel()) >= area
    large[0] = False
    kept: Bools = large[numbers]
    return kept


def _small_holes(mask: Bools, area: int) -> Bools:
    """Return the holes of at most ``area`` pixels."""
    from scipy.ndimage import label

    numbers, _ = label(~mask, np.ones((3, 3)))
    small = np.bincount(numbers.ravel()) <= area
    outside = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    small[outside] = small[0] = False
    holes: Bools = small[numbers]
    return holes
