"""From what an imzML file says to a :class:`~msicube.readers.CubeInfo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.axis import OBSERVED
from msicube.errors import CorruptSource
from msicube.readers.base import CubeInfo, PixelSize
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.index import Header, SpectrumIndex
from msicube.readers.imzml.tiles import IbdFile

#: A grid with more than this many positions for each spectrum is taken for a damaged position.
MAX_SPARSITY = 10_000


def describe(path: Path, ibd: Path, header: Header, index: SpectrumIndex) -> CubeInfo:
    """Return what is known of the cube without touching the intensities.

    Raises
    ------
    CorruptSource
        Positions that clash, a continuous file whose arrays differ in length, or an m/z axis that is not ascending.
    """
    remarks: list[str] = []
    grid, origin = pixel_grid(index)
    continuous = _is_continuous(header, index, remarks)
    axis = _read_axis(ibd, index) if continuous else None
    if not continuous and not np.array_equal(index.mz.length, index.intensity.length):
        row = int(np.flatnonzero(index.mz.length != index.intensity.length)[0])
        raise CorruptSource(
            f"{path.name}: spectrum {row} has {index.mz.length[row]} m/z values and {index.intensity.length[row]} "
            f"intensities: expected as many of both"
        )
    return CubeInfo(
        name=path.stem,
        modality="msi",
        axis=axis,
        dtype=index.intensity.dtype,
        acquired=grid >= 0,
        spectrum_index=grid,
        pixel_size=_pixel_size(header, remarks),
        source=_source(path, ibd, header, index, origin, "continuous" if continuous else "processed"),
        axis_law=OBSERVED if continuous else None,
        remarks=tuple(remarks),
    )


def pixel_grid(index: SpectrumIndex) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Place the spectra on a grid that starts at the first row and column that hold one.

    Returns
    -------
    grid : (y, x) int64
        Number of the spectrum, -1 where none.
    origin : tuple of int
        ``(y, x)`` in the file of the grid's first row and column.

    Raises
    ------
    CorruptSource
        Two spectra at one position, spectra in several planes, or positions impossibly far apart.
    """
    planes = np.unique(index.z)
    if len(planes) > 1:
        raise CorruptSource(
            f"the file is a stack of {len(planes)} planes (z from {planes[0]} to {planes[-1]}), a slide is one: "
            f"split the file by plane first"
        )
    y0, x0 = int(index.y.min()), int(index.x.min())
    ny, nx = int(index.y.max()) - y0 + 1, int(index.x.max()) - x0 + 1
    if ny * nx > MAX_SPARSITY * len(index):
        raise CorruptSource(
            f"{len(index)} spectra lie on a grid of {ny} x {nx} positions: at least one position is damaged"
        )
    grid = np.full((ny, nx), -1, np.int64)
    grid[index.y - y0, index.x - x0] = np.arange(len(index))
    if int((grid >= 0).sum()) != len(index):
        places, counts = np.unique((index.y - y0) * nx + index.x - x0, return_counts=True)
        y, x = divmod(int(places[counts > 1][0]), nx)
        raise CorruptSource(
            f"{int((counts > 1).sum())} positions hold more than one spectrum (the first is x = {x + x0}, "
            f"y = {y + y0}): which one is meant cannot be known"
        )
    return grid, (y0, x0)


def _is_continuous(header: Header, index: SpectrumIndex, remarks: list[str]) -> bool:
    """Decide the mode by the offsets; what the file declares decides only where both are possible."""
    declared = {
        mode
        for mode, accession in (("continuous", cv.CONTINUOUS), ("processed", cv.PROCESSED))
        if header.has("fileContent", accession)
    }
    shared = bool((index.mz.offset == index.mz.offset[0]).all())
    if len(index) == 1 and declared == {"processed"}:
        return False
    mode = "continuous" if shared else "processed"
    if declared != {mode}:
        found = " and ".join(sorted(declared)) or "no mode"
        remarks.append(f"declares {found}, the offsets of the m/z arrays are {mode}: read as {mode}")
    return shared


def _read_axis(ibd: Path, index: SpectrumIndex) -> NDArray[np.float64]:
    lengths = np.unique(np.concatenate([index.mz.length, index.intensity.length]))
    if len(lengths) != 1:
        raise CorruptSource(
            f"{ibd.name}: a continuous file has one length for all arrays, found {len(lengths)} "
            f"({lengths[0]} to {lengths[-1]})"
        )
    with IbdFile(ibd) as file:
        axis = file.array(index.mz, 0).astype(np.float64)
    if not len(axis) or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        raise CorruptSource(
            f"{ibd.name}: the m/z axis of {len(axis)} values is not strictly ascending and finite"
        )
    return axis


def _pixel_size(header: Header, remarks: list[str]) -> PixelSize | None:
    """Return the pixel size of the first scanSettings that has one; y is as wide as x where only x is given."""
    found: dict[str, tuple[float, str]] = {}
    for param in header.sections["scanSettings"]:
        if param.accession in (cv.PIXEL_SIZE_X, cv.PIXEL_SIZE_Y) and param.accession not in found:
            size, note = _micrometre(param.value, param.unit)
            if size is None:
                remarks.append(
                    f"pixel size {param.accession} = {param.value!r} is no positive length: left out"
                )
                continue
            found[param.accession] = size, f"{param.accession}{note}"
    x = found.get(cv.PIXEL_SIZE_X) or found.get(cv.PIXEL_SIZE_Y)
    y = found.get(cv.PIXEL_SIZE_Y) or x
    if x is None or y is None:
        remarks.append("no pixel size: y and x are pixel numbers")
        return None
    provenance = x[1] if x[1] == y[1] else f"{x[1]}, {y[1]}"
    return PixelSize(y[0], x[0], f"scanSettings, {provenance}")


def _micrometre(value: str, unit: str) -> tuple[float | None, str]:
    """Return a length in micrometre and a note on its unit; imzML means micrometre where no unit is given."""
    try:
        size = float(value)
    except ValueError:
        return None, ""
    if not (np.isfinite(size) and size > 0) or (unit and unit not in cv.LENGTH_UNITS):
        return None, ""
    # A ratio of exact numbers: 5000 nm must be 5 micrometre, not 5.000000000000001.
    scale = cv.LENGTH_UNITS[unit] if unit else 1.0
    return (
        size * scale if scale >= 1 else size / round(1 / scale)
    ), "" if unit else " without a unit, micrometre by convention"


def _source(
    path: Path, ibd: Path, header: Header, index: SpectrumIndex, origin: tuple[int, int], mode: str
) -> dict[str, Any]:
    """Return what the format tells beyond the protocol, as JSON."""
    representation = header.representation or {
        p.accession for p in header.sections["fileContent"] if p.accession in (cv.CENTROID, cv.PROFILE)
    }
    names = {cv.CENTROID: "centroid", cv.PROFILE: "profile"}
    declared = {name: header.value("fileContent", accession) for accession, name in cv.CHECKSUMS.items()}
    return {
        "format": "imzML",
        "imzml": {"name": path.name, "bytes": path.stat().st_size},
        "ibd": {"name": ibd.name, "bytes": ibd.stat().st_size},
        "checksums": {name: value.lower() for name, value in declared.items() if value},
        "uuid": header.value("fileContent", cv.UUID),
        "mode": mode,
        "representation": " and ".join(sorted(names[a] for a in representation)) or None,
        "polarity": " and ".join(sorted(cv.POLARITY[a] for a in header.polarity)) or None,
        "instrument": [p.value or p.name for p in header.sections["instrumentConfiguration"]],
        "software": [p.value or p.name for p in header.sections["software"]],
        "mz_dtype": index.mz.dtype.name,
        "intensity_dtype": index.intensity.dtype.name,
        "compression": index.intensity.compression,
        "spectra": len(index),
        "origin": {"y": origin[0], "x": origin[1]},
    }
