"""Looking through the m/z values of a processed file: range, spacing, and whether all spectra share one axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.axis import suggest_law
from msicube.readers.base import AxisSurvey
from msicube.readers.imzml.index import ArrayColumns
from msicube.readers.imzml.tiles import IbdFile

#: m/z above this are damaged values: no instrument reaches them, and one alone would stretch an axis without end.
MAX_MZ = 1e6
SPACING_SPECTRA = 64


def survey(ibd: Path, columns: ArrayColumns) -> AxisSurvey:
    """Read every m/z array once, one at a time.

    Parameters
    ----------
    ibd
        The binary file.
    columns
        Where its m/z arrays lie.
    """
    lowest, highest = np.inf, -np.inf
    spacing: list[NDArray[np.float64]] = []
    common: NDArray[Any] | None = None
    all_equal = len(np.unique(columns.length)) == 1
    sampled = set(np.linspace(0, len(columns.offset) - 1, SPACING_SPECTRA).astype(int).tolist())
    with IbdFile(ibd) as file:
        for row in np.argsort(columns.offset, kind="stable").tolist():
            mz = file.array(columns, row)
            if all_equal:
                common = mz if common is None else common
                all_equal = np.array_equal(mz, common)
            plausible = mz[(mz > 0) & (mz <= MAX_MZ)]
            if len(plausible):
                lowest = min(lowest, float(plausible.min()))
                highest = max(highest, float(plausible.max()))
            if row in sampled:
                spacing.append(np.sort(plausible).astype(np.float64))
    return AxisSurvey(
        lowest if np.isfinite(lowest) else np.nan,
        highest if np.isfinite(highest) else np.nan,
        suggest_law(np.concatenate([np.diff(s) for s in spacing]), np.concatenate([s[1:] for s in spacing])),
        _usable(common) if all_equal else None,
    )


def _usable(axis: NDArray[Any] | None) -> NDArray[np.float64] | None:
    """Return an axis that can serve as one: finite and strictly ascending."""
    if axis is None or not len(axis) or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        return None
    return axis.astype(np.float64)
