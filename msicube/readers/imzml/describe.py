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
from msicube.readers.imzml.faults import FaultLog
from msicube.readers.imzml.index import SpectrumIndex
from msicube.readers.imzml.params import Param
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.tiles import IbdFile

#: A grid may have this many positions for each spectrum, and MAX_SMALL_GRID in any case.
MAX_SPARSITY = 64
MAX_SMALL_GRID = 1_000_000


def describe(
    path: Path, ibd: Path, header: Header, index: SpectrumIndex, *, masked: int, remarks: list[str]
) -> list[CubeInfo]:
    """Return what is known of each plane without touching the intensities, in the order of z.

    Parameters
    ----------
    path, ibd
        The pair.
    header, index
        What the XML says; positions have been checked.
    masked
        Number of spectra that are wrong.
    remarks
        What has been noted so far.

    Raises
    ------
    CorruptSource
        The m/z axis of a continuous file is not ascending.
    """
    remarks = [*remarks, *_contradictions(header, index)]
    continuous = _is_continuous(header, index, remarks)
    axis = _read_axis(ibd, index) if continuous else None
    size = _pixel_size(header, remarks)
    mode = "continuous" if continuous else "processed"
    z = index.z[index.valid]
    planes = [int(z[0])] if (z == z[0]).all() else np.unique(z).tolist()
    infos = []
    for plane in planes:
        grid, origin = pixel_grid(index, plane)
        source = _source(path, ibd, header, index, mode)
        infos.append(
            CubeInfo(
                name=path.stem if len(planes) == 1 else f"{path.stem}_z{plane}",
                modality="msi",
                axis=axis,
                dtype=index.intensity.take(index.valid).dtype,
                acquired=grid >= 0,
                spectrum_index=grid,
                pixel_size=size,
                source={
                    **source,
                    "origin": {"z": plane, "y": origin[0], "x": origin[1]},
                    "planes": len(planes),
                },
                axis_law=OBSERVED if continuous else None,
                remarks=(*remarks, *_counts_remarks(header, grid.shape, len(planes))),
                masked=masked,
            )
        )
    return infos


def check_positions(index: SpectrumIndex, faults: FaultLog) -> None:
    """Find positions that are impossibly far apart, and spectra that share one."""
    for name, values in (("x", index.x), ("y", index.y)):
        rows = np.flatnonzero(faults.valid)
        if len(rows):
            away = np.abs(values[rows] - int(np.median(values[rows]))) > 1000 + 10 * len(rows)
            faults.fault(f"its position {name} is impossibly far from the others: damaged", rows[away])
    rows = np.flatnonzero(faults.valid)
    places = np.stack([index.z[rows], index.y[rows], index.x[rows]])
    order = np.lexsort(places)
    same = (np.diff(places[:, order], axis=1) == 0).all(axis=0)
    shared = np.unique(np.concatenate([order[1:][same], order[:-1][same]]))
    faults.fault(
        "its position holds more than one spectrum: which one is meant cannot be known", rows[shared]
    )


def pixel_grid(index: SpectrumIndex, plane: int) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Place the spectra of one plane on a grid that starts at the first row and column that hold a spectrum.

    All planes of a stack get the same rows and columns.

    Returns
    -------
    grid : (y, x) int64
        Number of the spectrum, -1 where none.
    origin : tuple of int
        ``(y, x)`` in the file of the grid's first row and column.

    Raises
    ------
    CorruptSource
        Positions are impossibly far apart.
    """
    y, x = index.y[index.valid], index.x[index.valid]
    y0, x0 = int(y.min()), int(x.min())
    ny, nx = int(y.max()) - y0 + 1, int(x.max()) - x0 + 1
    if ny * nx > max(MAX_SMALL_GRID, MAX_SPARSITY * len(y)):
        raise CorruptSource(
            f"{len(y)} spectra lie on a grid of {ny} x {nx} positions: at least one position is damaged"
        )
    grid = np.full((ny, nx), -1, np.int64)
    rows = np.flatnonzero(index.valid & (index.z == plane))
    grid[index.y[rows] - y0, index.x[rows] - x0] = rows
    return grid, (y0, x0)


def _contradictions(header: Header, index: SpectrumIndex) -> list[str]:
    """Return what the XML contradicts or what is not looked at."""
    found = [f"the term {term}: the accession decides" for term in sorted(header.contradictions)]
    if header.declared not in (-1, len(index)):
        found.append(
            f"the list announces {header.declared} spectra and holds {len(index)}: all of them are read"
        )
    return found + [
        f"spectra have a {kind} too: pixels lie at position x and y (IMS:1000050, IMS:1000051)"
        for kind in sorted(header.positions)
    ]


def _counts_remarks(header: Header, shape: tuple[int, int], planes: int) -> list[str]:
    """Return where the largest counts that the settings announce are not the extent of the grid."""
    found = []
    for axis, accession, extent in (("y", cv.MAX_COUNT_Y, shape[0]), ("x", cv.MAX_COUNT_X, shape[1])):
        declared = {p.value.strip() for p in header.sections["scanSettings"] if p.accession == accession}
        if declared and str(extent) not in declared:
            found.append(
                f"max count of pixels {axis} is {' and '.join(sorted(declared))}, positions extend over {extent}: "
                f"positions decide"
            )
    return found


def _is_continuous(header: Header, index: SpectrumIndex, remarks: list[str]) -> bool:
    """Decide the mode by the offsets; what the file declares decides only where both are possible."""
    declared = {
        mode
        for mode, accession in (("continuous", cv.CONTINUOUS), ("processed", cv.PROCESSED))
        if header.has("fileContent", accession)
    }
    mz = index.mz.take(index.valid)
    shared = mz.length[0] > 0 and all((c == c[0]).all() for c in (mz.offset, mz.length, mz.kind))
    if len(mz.offset) == 1 and declared == {"processed"}:
        return False
    mode = "continuous" if shared else "processed"
    if declared != {mode}:
        found = " and ".join(sorted(declared)) or "no mode"
        remarks.append(f"declares {found}, the offsets of the m/z arrays are {mode}: read as {mode}")
    return bool(shared)


def _read_axis(ibd: Path, index: SpectrumIndex) -> NDArray[np.float64]:
    with IbdFile(ibd) as file:
        axis = file.array(index.mz, int(np.flatnonzero(index.valid)[0])).astype(np.float64)
    if not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        raise CorruptSource(
            f"{ibd.name}: the m/z axis of {len(axis)} values is not strictly ascending and finite, and all spectra of "
            f"a continuous file lie on it"
        )
    return axis


def _pixel_size(header: Header, remarks: list[str]) -> PixelSize | None:
    """Return the pixel size of the scanSettings that an instrument refers to, else of the first that has one."""
    chosen = [params for name, params in header.settings if name == header.settings_ref]
    others = [params for name, params in header.settings if name != header.settings_ref]
    sizes = [found for params in chosen + others if (found := _size_of(params, remarks)) is not None]
    if not sizes:
        remarks.append("no pixel size: y and x are pixel numbers")
        return None
    if len({(size.y, size.x) for size in sizes}) > 1:
        listed = ", ".join(f"{size.x:g} x {size.y:g}" for size in sizes)
        remarks.append(
            f"several scanSettings give different pixel sizes ({listed} um, x by y): the first is taken"
        )
    return sizes[0]


def _size_of(params: list[Param], remarks: list[str]) -> PixelSize | None:
    """Return the pixel size of one scanSettings; y is as wide as x where only x is given."""
    found: dict[str, tuple[float, str]] = {}
    for param in params:
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


def _source(path: Path, ibd: Path, header: Header, index: SpectrumIndex, mode: str) -> dict[str, Any]:
    """Return what the format tells beyond the protocol, as JSON."""
    representation = header.representation or {
        p.accession for p in header.sections["fileContent"] if p.accession in (cv.CENTROID, cv.PROFILE)
    }
    mz, intensity = index.mz.take(index.valid), index.intensity.take(index.valid)
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
        "mz_dtype": mz.dtype.name,
        "intensity_dtype": intensity.dtype.name,
        "compression": " and ".join(sorted({packed for _, packed in intensity.kinds})),
        "spectra": len(index),
    }
