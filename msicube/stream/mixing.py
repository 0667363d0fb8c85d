"""How alike the spectra of one cell are, which decides how many cells have to be mixed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from msicube.stream.selection import Selection


def between_cells(selection: Selection, read: Callable[[str], NDArray[np.float64]]) -> float:
    """Return the intraclass correlation of an image within cells: 0 where cells differ by chance alone, at most 1.

    By the analysis of variance of one factor, the cell (Fisher 1925); for cells of unequal size with the mean size of
    Snedecor and Cochran.

    Parameters
    ----------
    selection
        Which pixels.
    read
        Returns the ``(y, x)`` image of a slide.
    """
    totals: list[NDArray[np.float64]] = []
    squares: list[NDArray[np.float64]] = []
    for slide, mask in zip(selection.slides, selection.masks, strict=True):
        image = np.nan_to_num(np.where(mask.whole(), read(slide), 0), posinf=0, neginf=0)
        cell = selection.cubes[len(totals)].cell
        totals.append(_sums(image, cell))
        squares.append(_sums(image**2, cell))
    kept = selection.counts > 0
    n = selection.counts[kept].astype(np.float64)
    total, square = np.concatenate(totals)[kept], np.concatenate(squares)[kept]
    n_cells, n_all = len(n), n.sum()
    if n_cells < 2 or n_all <= n_cells:
        return 0.0
    between = max(0.0, float((total**2 / n).sum() - total.sum() ** 2 / n_all)) / (n_cells - 1)
    within = max(0.0, float((square - total**2 / n).sum())) / (n_all - n_cells)
    size = (n_all - (n**2).sum() / n_all) / (n_cells - 1)
    spread = between + (size - 1) * within
    return 0.0 if spread <= 0 else float(np.clip((between - within) / spread, 0, 1))


def _sums(image: NDArray[np.float64], cell: tuple[int, int]) -> NDArray[np.float64]:
    """Return the sum of each cell, row-major."""
    rows = np.add.reduceat(image, np.arange(0, image.shape[0], cell[0]), axis=0)
    return np.add.reduceat(rows, np.arange(0, image.shape[1], cell[1]), axis=1).ravel()
