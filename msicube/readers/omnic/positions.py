"""From positions on the stage to pixels of a cube.

What the file calls the map is not looked at: a list of points that fills a grid is a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UnknownFormat
from msicube.readers.base import PixelSize
from msicube.readers.omnic.blocks import library

PROVENANCE = "positions on the stage, micrometre in OMNIC"
UNEVEN = "positions on the stage are unevenly spaced"


@dataclass(frozen=True)
class Placed:
    """Where the spectra of a map are in its cube.

    Attributes
    ----------
    numbers
        ``(y, x)`` int64 of the spectra in the file, -1 where there is none; row 0 has the largest y.
    pixel_size
        None where positions are unevenly spaced, or there is one.
    flips
        In which way the file has it otherwise.
    remarks
        On how positions were taken.
    """

    numbers: NDArray[np.int64]
    pixel_size: PixelSize | None = None
    flips: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Ladder(NamedTuple):
    """Positions along one direction, evenly spaced.

    Attributes
    ----------
    rungs
        ``(spectrum,)`` int64 from 0.
    step
        From rung to rung, in micrometre; 0 where all are on one.
    """

    rungs: NDArray[np.int64]
    step: float


def place(x: NDArray[np.float64], y: NDArray[np.float64], name: str) -> Placed:
    """Lay spectra on a grid, or on one row where they lie on a line.

    Parameters
    ----------
    x, y
        ``(spectrum,)`` finite, in micrometre; y grows upwards.
    name
        Of the file.

    Raises
    ------
    UnknownFormat
        They lie neither on a grid that is at least half full nor on a line.
    """
    if len(x) == 1:
        return Placed(np.zeros((1, 1), np.int64))
    ways: tuple[Callable[[NDArray[np.float64], NDArray[np.float64]], Placed | None], ...]
    ways = (_line, _even_grid, _uneven_grid)
    for way in ways:
        placed = way(x, y)
        if placed is not None:
            return placed
    raise UnknownFormat(
        f"{name}: its {len(x)} spectra are scattered over {np.ptp(x):g} x {np.ptp(y):g} micrometre, expected a grid "
        f"that is at least half full, or a line: read them by ftir_map.read_omnic and save what belongs together as a "
        f"NumPy array with its axis"
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> Placed | None:
    """Place spectra in one row, from the left end of their line; from the upper one of a steep line."""
    if not library().is_collinear(x, y):
        return None
    start = int(np.argmin(x) if np.ptp(x) >= np.ptp(y) else np.argmax(y))
    distance = np.hypot(x - x[start], y - y[start])
    end = int(np.argmax(distance))
    remarks = [f"a line from {_point(x, y, start)} to {_point(x, y, end)} on the stage, taken as one row"]
    ladder = _ladder(distance)
    if ladder is not None and len(np.unique(ladder.rungs)) == len(x):
        size = PixelSize(ladder.step, ladder.step, PROVENANCE)
        column, count = ladder.rungs, int(ladder.rungs.max()) + 1
    elif (np.diff(np.sort(distance)) > library().POSITION_TOLERANCE_UM).all():
        size, column, count = None, np.argsort(np.argsort(distance)), len(x)
        remarks.append(UNEVEN)
    else:
        return None
    return _placed(np.zeros_like(column), column, (1, count), size, remarks)


def _even_grid(x: NDArray[np.float64], y: NDArray[np.float64]) -> Placed | None:
    """Place spectra in even rows and columns, at least half full, no cell twice."""
    down, right = _ladder(-y), _ladder(x)
    if down is None or right is None:
        return None
    shape = (int(down.rungs.max()) + 1, int(right.rungs.max()) + 1)
    cells = down.rungs * shape[1] + right.rungs
    missing = shape[0] * shape[1] - len(x)
    if 1 in shape or missing > len(x) or len(np.unique(cells)) < len(x):
        return None
    remarks = [f"{missing} points of the grid have no spectrum: not acquired"] if missing else []
    return _placed(down.rungs, right.rungs, shape, PixelSize(down.step, right.step, PROVENANCE), remarks)


def _uneven_grid(x: NDArray[np.float64], y: NDArray[np.float64]) -> Placed | None:
    """Place spectra that fill rows and columns of any distance, as ftir_map finds them; its rows count upwards."""
    found = library().grid_layout(x, y)
    if found is None:
        return None
    shape, (up, column) = found
    return _placed(shape[0] - 1 - up, column, shape, None, [UNEVEN])


def _ladder(values: NDArray[np.float64]) -> Ladder | None:
    """Return positions along one direction in whole steps; None where they are uneven, or most are missing."""
    tolerance = library().POSITION_TOLERANCE_UM
    order = np.argsort(values, kind="stable")
    rank = np.concatenate([[0], np.cumsum(np.diff(values[order]) > tolerance)])
    middles = np.bincount(rank, values[order]) / np.bincount(rank)
    gaps = np.diff(middles)
    if not len(gaps):
        return Ladder(np.zeros(len(values), np.int64), 0.0)
    total = middles[-1] - middles[0]
    # Most neighbours are one step apart; those that are further have a gap between them.
    count = round(float(total / gaps[gaps < 1.5 * np.median(gaps)].mean()))
    if count > 2 * len(values):
        return None
    step = float(total / count)
    rungs = np.rint((values - middles[0]) / step)
    if (np.abs(values - middles[0] - rungs * step) > min(tolerance, step / 4)).any():
        return None
    return Ladder(rungs.astype(np.int64), step)


def _placed(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    shape: tuple[int, int],
    size: PixelSize | None,
    remarks: list[str],
) -> Placed:
    numbers = np.full(shape, -1, np.int64)
    numbers[row, column] = np.arange(len(row))
    # Which way each axis runs in the file; one that turns round at every row of a meander runs neither way.
    time = np.arange(len(row)) - (len(row) - 1) / 2
    flips = []
    if row @ time < 0:
        flips.append("rows: the file begins at the lowest position on the stage, which grows upwards")
    if column @ time < 0:
        flips.append("columns: the file begins at the right")
    return Placed(numbers, size, tuple(flips), tuple(remarks))


def _point(x: NDArray[np.float64], y: NDArray[np.float64], at: int) -> str:
    return f"({x[at]:g}, {y[at]:g})"
