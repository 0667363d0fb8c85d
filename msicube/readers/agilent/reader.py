"""The Agilent reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msicube.axis import OBSERVED
from msicube.errors import CorruptSource
from msicube.readers.agilent.files import beside
from msicube.readers.agilent.headers import Master, TileHeader, read_tile_header
from msicube.readers.agilent.mosaic import Grid, mosaic_grid, single_grid
from msicube.readers.agilent.spectra import AgilentSpectra
from msicube.readers.base import CubeInfo, OnError
from msicube.readers.dense import DenseReader, geometry

FLIPS = ("rows: the files have the bottom row of each tile first, and the top row of tiles first",)


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open an image: the master and the header of every file of spectra are read, the spectra are not.

    Parameters
    ----------
    path
        The ``.dmt`` of a mosaic or the ``.bsp`` of a single tile.
    on_error
        Tiles that are missing or cut short are masked and named in either case; ``"report"`` also masks tiles that
        contradict their header, their master or the other tiles.
    index_cache
        Not used: there is no index that would be worth it.

    Returns
    -------
    list of DenseReader
        Just one.

    Raises
    ------
    CorruptSource
        There is no master, no whole tile, or the files contradict each other.
    """
    if path.suffix.lower() not in (".dmt", ".bsp"):
        raise CorruptSource(
            f"{path.name} has no .dmt beside it, which holds the wavenumbers: copy the whole folder of the mosaic"
        )
    master = Master.read(path)
    if path.suffix.lower() == ".dmt":
        kind, grid = "mosaic", mosaic_grid(master, on_error)
    else:
        kind, grid = "single tile", single_grid(master, _single_file(master))
    spectra = AgilentSpectra(path.parent, grid.names, grid.shape, master.n_points)
    return [DenseReader(_info(master, grid, kind), spectra)]


def _info(master: Master, grid: Grid, kind: str) -> CubeInfo:
    rows, columns = grid.present.shape
    first = next(name for row in grid.names for name in row if name is not None)
    return CubeInfo(
        name=master.path.stem,
        modality="ftir",
        axis=master.axis,
        dtype=np.dtype("f4"),
        acquired=grid.acquired(),
        spectrum_index=grid.spectrum_index(),
        pixel_size=master.pixel_size,
        source={
            "format": "Agilent",
            "kind": kind,
            "master": {"name": master.path.name, "bytes": master.n_bytes, "sha256": master.sha256},
            "spectra": {
                "name": first,
                "bytes": grid.n_bytes,
                "files": grid.n_files,
                "headers_sha256": grid.sha256,
            },
            "tiles": {
                "rows": rows,
                "columns": columns,
                "shape": list(grid.shape),
                "missing": list(grid.missing),
            },
            "geometry": geometry(flips=FLIPS),
        },
        axis_law=OBSERVED,
        remarks=(*master.remarks(), *grid.remarks),
        masked=int((~grid.acquired()).sum()),
    )


def _single_file(master: Master) -> Path:
    """Return the file that holds the spectra of a single tile: the .dat, or the .seq of older software.

    Today's .seq holds interferograms; it has another number of points than the master.

    Raises
    ------
    CorruptSource
        There is none.
    """
    stem = master.path.stem
    found = beside(master.path, stem, ".dat")
    if found is not None:
        return found
    found = beside(master.path, stem, ".seq")
    if found is not None and _holds_spectra(found, master):
        return found
    raise CorruptSource(
        f"{master.path.name} has no spectra beside it: expected {stem}.dat"
        + ("" if found is None else f"; {found.name} holds interferograms")
    )


def _holds_spectra(path: Path, master: Master) -> bool:
    try:
        header: TileHeader = read_tile_header(path, master.n_points)[0]
    except CorruptSource:
        return False
    return header.n_points == master.n_points
