"""The grid of an image: which tiles there are, which are whole, and what is wrong with the others."""

from __future__ import annotations

import configparser
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.agilent.files import beside, masters_in, tiles_of
from msicube.readers.agilent.headers import Master, ShortTile, TileHeader, read_tile_header
from msicube.readers.base import OnError

GRID_FILE = "IrMosaicInfo"
#: A grid may have this many places for each whole tile: more is a damaged name or a damaged grid file.
MAX_SPARSITY = 16
#: Tiles that a remark names one by one.
MAX_NAMED = 5


@dataclass(frozen=True)
class Grid:
    """Where the files of an image lie.

    Attributes
    ----------
    names
        Of the whole tiles, by row and column of the tile; None where there is none.
    shape
        Rows and columns of a tile.
    n_bytes, n_files
        Of all files of spectra.
    sha256
        Of their headers.
    missing
        Names of tiles, or places, that hold no whole tile.
    remarks
        What is odd.
    """

    names: tuple[tuple[str | None, ...], ...]
    shape: tuple[int, int]
    n_bytes: int
    n_files: int
    sha256: str
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """``(row, column)`` of the tiles."""
        return np.array([[name is not None for name in row] for row in self.names])

    def acquired(self) -> NDArray[np.bool_]:
        """``(y, x)`` of the pixels."""
        return np.kron(self.present, np.ones(self.shape, bool))

    def spectrum_index(self) -> NDArray[np.int64]:
        """``(y, x)``: tiles count row by row from the top left, spectra in a tile as its file has them."""
        ny, nx = self.shape
        rows, columns = self.present.shape
        tile = np.arange(rows * columns).reshape(rows, 1, columns, 1)
        inside = np.arange(ny * nx).reshape(ny, 1, nx)[::-1]
        index = (tile * (ny * nx) + inside).reshape(rows * ny, columns * nx)
        index[~self.acquired()] = -1
        return index


@dataclass
class _Tiles:
    """The files of spectra of one image, looked at one by one."""

    good: dict[tuple[int, int], TileHeader] = field(default_factory=dict)
    short: dict[tuple[int, int], str] = field(default_factory=dict)
    wrong: dict[tuple[int, int], str] = field(default_factory=dict)

    def settle_shape(self, names: dict[tuple[int, int], Path]) -> tuple[int, int]:
        """Return the shape that most tiles have; the others are wrong."""
        if not self.good:
            reasons = [*self.wrong.values(), *self.short.values()]
            raise CorruptSource(f"there is no whole tile: {'; '.join(reasons[:MAX_NAMED])}")
        shapes = Counter((header.ny, header.nx) for header in self.good.values())
        shape = shapes.most_common(1)[0][0]
        for place, header in list(self.good.items()):
            if (header.ny, header.nx) != shape:
                self.wrong[place] = (
                    f"{names[place].name} has {header.ny} x {header.nx} pixels, the other tiles have "
                    f"{shape[0]} x {shape[1]}"
                )
                del self.good[place]
        return shape


def mosaic_grid(master: Master, on_error: OnError) -> Grid:
    """Return the grid of a mosaic, from its tiles, or from the file of the whole where there are none.

    Raises
    ------
    CorruptSource
        No whole tile; or, unless wrong tiles are to be reported, one that contradicts itself or the others.
    """
    names = tiles_of(master.path)
    if not names:
        whole = beside(master.path, master.path.stem, ".dms")
        if whole is None:
            raise CorruptSource(
                f"{master.path.name} has neither tiles ({master.path.stem}_0000_0000.dmd, ...) nor a .dms beside it"
            )
        return _whole_grid(master, whole)
    tiles, digest = _look_at(names, master.n_points)
    shape = tiles.settle_shape(names)
    if tiles.wrong and on_error == "stop":
        raise CorruptSource(
            f"{next(iter(tiles.wrong.values()))}: leave the tile out, or let it be masked with --on-error report"
        )
    rows, columns, remarks = _grid_shape(master, names, len(tiles.good), on_error)
    grid = [
        [None if (r, c) not in tiles.good else names[r, c].name for c in range(columns)] for r in range(rows)
    ]
    lost = {(r, c): f"{master.path.stem}_{c:04d}_{r:04d}.dmd" for r in range(rows) for c in range(columns)}
    lost = {place: name for place, name in lost.items() if place not in tiles.good}
    absent = [name for place, name in lost.items() if place not in names]
    if absent:
        remarks.append(f"missing tiles, masked: {_named(absent)}")
    faulty = [*tiles.short.values(), *tiles.wrong.values()]
    if faulty:
        remarks.append(f"tiles that are cut short or wrong, masked: {_named(faulty)}")
    if any(header.blank for header in tiles.good.values()):
        remarks.append(f"tiles with a blank header: taken as square, {shape[0]} x {shape[1]} pixels")
    return Grid(
        names=tuple(tuple(row) for row in grid),
        shape=shape,
        n_bytes=sum(path.stat().st_size for path in names.values()),
        n_files=len(names),
        sha256=digest,
        missing=tuple(lost.values()),
        remarks=(*remarks, *_envi_remarks(master, rows * shape[0], columns * shape[1])),
    )


def _whole_grid(master: Master, path: Path) -> Grid:
    """Return the grid of a mosaic in one file, which must be one of square tiles."""
    grid = single_grid(master, path, square=False)
    remarks: list[str] = []
    stated = _stated_grid(master.path, remarks)
    if stated is not None and grid.shape[0] * stated[1] != grid.shape[1] * stated[0]:
        raise CorruptSource(
            f"{path.name} has {grid.shape[0]} x {grid.shape[1]} pixels, {GRID_FILE}.cfg says {stated[1]} x {stated[0]} "
            f"tiles (x by y), which are square: one of them is damaged"
        )
    return replace(grid, remarks=(*grid.remarks, *remarks))


def single_grid(master: Master, path: Path, *, square: bool = True) -> Grid:
    """Return the grid of an image in one file.

    Raises
    ------
    CorruptSource
        The file is cut short or contradicts itself.
    """
    header, data = read_tile_header(path, master.n_points, square=square)
    remarks = _envi_remarks(master, header.ny, header.nx)
    if header.blank:
        remarks.append(f"{path.name} has a blank header: taken as square, {header.ny} x {header.nx} pixels")
    digest = hashlib.sha256(data).hexdigest()
    return Grid(
        ((path.name,),), (header.ny, header.nx), path.stat().st_size, 1, digest, remarks=tuple(remarks)
    )


def _look_at(names: dict[tuple[int, int], Path], n_points: int) -> tuple[_Tiles, str]:
    """Read the header of each tile; return what is found and a hash of all headers."""
    tiles, digest = _Tiles(), hashlib.sha256()
    for place, path in sorted(names.items()):
        digest.update(repr(place).encode())
        try:
            tiles.good[place], data = read_tile_header(path, n_points)
            digest.update(data)
        except ShortTile as error:
            tiles.short[place] = str(error)
        except CorruptSource as error:
            tiles.wrong[place] = str(error)
    return tiles, digest.hexdigest()


def _grid_shape(
    master: Master, names: dict[tuple[int, int], Path], n_good: int, on_error: OnError
) -> tuple[int, int, list[str]]:
    """Return rows and columns of tiles, and remarks: names of files decide, and the grid file may add to them.

    The property "Mosaic Tiles" of the master is not looked at: it is wrong in real files.
    """
    rows, columns = (max(place[axis] for place in names) + 1 for axis in (0, 1))
    remarks: list[str] = []
    stated = _stated_grid(master.path, remarks)
    if stated is not None and (stated[0] < rows or stated[1] < columns):
        message = (
            f"{GRID_FILE}.cfg says {stated[1]} x {stated[0]} tiles (x by y), the files of {master.path.name} go up to "
            f"{columns} x {rows}"
        )
        if on_error == "stop":
            raise CorruptSource(f"{message}: one of them belongs to another mosaic, move it away")
        remarks.append(f"{message}: the files decide")
    elif stated is not None:
        rows, columns = stated
    if rows * columns > MAX_SPARSITY * n_good:
        raise CorruptSource(
            f"{master.path.name} has {n_good} whole tiles in a grid of {columns} x {rows} (x by y): the name of a tile "
            f"or {GRID_FILE}.cfg is damaged, or most tiles are missing"
        )
    return rows, columns, remarks


def _stated_grid(master: Path, remarks: list[str]) -> tuple[int, int] | None:
    """Return rows and columns of ``[GridInfo]``; None where there is none that can be this mosaic's."""
    path = beside(master, GRID_FILE, ".cfg")
    if path is None:
        return None
    if len(masters_in(master.parent)) > 1:
        remarks.append(f"{path.name} lies beside several mosaics: whose it is cannot be known, left aside")
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_bytes()[: 2**20].decode("latin-1"))
        stated = parser.getint("GridInfo", "IrCollectFilesY"), parser.getint("GridInfo", "IrCollectFilesX")
    except (configparser.Error, ValueError) as error:
        remarks.append(f"{path.name} has no grid that can be read ({type(error).__name__}): left aside")
        return None
    if min(stated) < 1:
        remarks.append(f"{path.name} has a grid of {stated[1]} x {stated[0]} tiles: left aside")
        return None
    return stated


def _envi_remarks(master: Master, ny: int, nx: int) -> list[str]:
    """Return where the ENVI header that the instrument writes beside an image says otherwise."""
    path = beside(master.path, master.path.stem, ".hdr")
    if path is None:
        return []
    text = path.read_bytes()[: 2**24].decode("latin-1")
    said: dict[str, Any] = {}
    for key in ("samples", "lines", "bands"):
        found = re.search(rf"^\s*{key}\s*=\s*(\d{{1,9}})\s*$", text, re.MULTILINE | re.IGNORECASE)
        said[key] = int(found[1]) if found else None
    listed = re.search(r"wavelength\s*=\s*\{([^}]*)\}", text, re.IGNORECASE)
    try:
        axis = np.array([float(value) for value in listed[1].split(",")]) if listed else master.axis
    except ValueError:
        axis = np.empty(0)
    expected = {"samples": nx, "lines": ny, "bands": master.n_points}
    differs = [
        f"{key} {said[key]} instead of {n}" for key, n in expected.items() if said[key] not in (None, n)
    ]
    if len(axis) != master.n_points or not np.allclose(axis, master.axis, rtol=0, atol=1e-3):
        differs.append("other wavelengths")
    return [f"{path.name} says otherwise, left aside: {', '.join(differs)}"] if differs else []


def _named(items: list[str]) -> str:
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return f"{len(items)} ({'; '.join(items[:MAX_NAMED])}{more})"
