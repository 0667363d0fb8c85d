"""Writing Agilent's FTIR images: mosaics (``.dmt`` and ``.dmd`` tiles) and single tiles (``.bsp``, ``.dat``).

A tile is 1,020 bytes of header and then little-endian float32, band by band, ``(channel, y, x)``. Row 0 of a
tile is its bottom; the tile YYYY = 0000 of ``<name>_XXXX_YYYY.dmd`` is in the top row of tiles. Everything
here takes and counts rows from the top, and turns them on the way to the disk.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.writers.agilent_image import HEADER_BYTES, WavenumberGrid, bands_of, described

_MOST_TILES = 10_000
_GRID_NAME = "IrMosaicInfo.cfg"


class AgilentMosaicWriter:
    """Write a mosaic, a tile at a time, into a folder of its own; use it in a ``with`` statement.

    The folder appears, complete, when the ``with`` block ends: ``<name>.dmt``, a ``<name>_XXXX_YYYY.dmd`` for
    each tile, ``IrMosaicInfo.cfg`` and, where asked for, ``<name>.dms``. When it ends by an exception,
    nothing remains. Nothing is held in memory but the tile at hand. Tiles may come in any order, from one
    thread.

    Parameters
    ----------
    folder
        Of the mosaic; its name is the mosaic's.
    tiles
        ``(y, x)`` number of tiles.
    tile_size
        Edge of a tile in pixels, a power of two from 2 to 128.
    axis
        Of the spectra.
    pixel_size
        In micrometre.
    time
        Of the measurement; None takes the present.
    whole
        Write ``<name>.dms`` too, the mosaic in one piece.
    overwrite
        Replace a mosaic that is in the folder already.

    Raises
    ------
    UsageError
        Options out of their range; on entering the ``with`` block, a folder that is not empty; at its end, a
        tile that was not written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        tiles: tuple[int, int],
        tile_size: int,
        axis: WavenumberGrid,
        pixel_size: float,
        time: datetime | None = None,
        whole: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        ny, nx = (int(extent) for extent in tiles)
        if not (1 <= ny <= _MOST_TILES and 1 <= nx <= _MOST_TILES):
            raise UsageError(f"tiles={tiles}: expected (y, x), both 1 to {_MOST_TILES}")
        self._image = described(self.name, axis, tile_size, (ny, nx), pixel_size, time)
        if whole and max(ny, nx) * tile_size >= 2**15:
            raise UsageError(
                f"{ny} x {nx} tiles of {tile_size} pixels: a .dms holds less than 32,768 rows and columns"
            )
        self._whole = whole
        self._overwrite = overwrite
        self._written: set[tuple[int, int]] = set()
        self._corner = np.zeros(axis.n_channels, np.float32)
        self._part: Path | None = None

    @property
    def path(self) -> Path:
        """The ``.dmt`` file, which stands for the mosaic."""
        return self.folder / f"{self.name}.dmt"

    def __enter__(self) -> Self:
        if not self.folder.parent.is_dir():
            raise UsageError(
                f"there is no folder {self.folder.parent} to write {self.name} into: create it first"
            )
        self._refuse_what_is_there()
        part = self.folder.with_name(f".{self.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        self._part = part
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        part, self._part = self._part, None
        assert part is not None
        try:
            if kind is None:
                self._finish(part)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def write_tile(self, row: int, column: int, values: ArrayLike) -> None:
        """Write one tile.

        Parameters
        ----------
        row, column
            Of the tile in the grid of tiles, from 0 at the top left.
        values
            ``(y, x, channel)`` absorbances, the top row first; stored as float32. NaN marks what is not
            known.

        Raises
        ------
        UsageError
            A tile outside the grid or twice, or values of another shape.
        """
        if self._part is None:
            raise UsageError("the writer is not open: use it as `with AgilentMosaicWriter(...) as writer:`")
        ny, nx = self._image.tiles
        if not (0 <= row < ny and 0 <= column < nx):
            raise UsageError(
                f"the tile (row, column) = ({row}, {column}) lies outside the grid of {ny} x {nx} tiles"
            )
        if (row, column) in self._written:
            raise UsageError(f"the tile (row, column) = ({row}, {column}) was written already")
        bands = bands_of(values, self._image)
        with (self._part / self._tile_name(row, column)).open("wb") as file:
            file.write(self._image.header())
            file.write(bands.data)
        if self._whole:
            self._write_into_whole(self._part, row, column, bands)
        if (row, column) == (ny - 1, 0):
            self._corner = bands[:, 0, 0].copy()
        self._written.add((row, column))

    def _tile_name(self, row: int, column: int) -> str:
        return f"{self.name}_{column:04d}_{row:04d}.dmd"

    def _write_into_whole(self, part: Path, row: int, column: int, bands: NDArray[np.float32]) -> None:
        """Write the rows of a tile where they lie in the whole, whose row 0 is the bottom of the mosaic."""
        (ny, nx), edge = self._image.tiles, self._image.tile_size
        width = nx * edge
        with (part / f"{self.name}.dms").open("r+b" if self._written else "w+b") as file:
            if not self._written:
                file.write(self._image.header(whole=True))
                file.truncate(HEADER_BYTES + 4 * len(bands) * ny * edge * width)
            for channel, plane in enumerate(bands):
                first = (channel * ny + (ny - 1 - row)) * edge * width + column * edge
                for y, line in enumerate(plane):
                    file.seek(HEADER_BYTES + 4 * (first + y * width))
                    file.write(line.data)

    def _finish(self, part: Path) -> None:
        ny, nx = self._image.tiles
        if len(self._written) < ny * nx:
            absent = next((y, x) for y in range(ny) for x in range(nx) if (y, x) not in self._written)
            raise UsageError(
                f"{self.name} would hold {len(self._written)} of its {ny * nx} tiles; the first that was not "
                f"written is (row, column) = {absent}"
            )
        (part / _GRID_NAME).write_text(self._image.grid_file(), encoding="ascii")
        (part / self.path.name).write_bytes(self._image.master(self._corner))
        if self.folder.exists():
            shutil.rmtree(self.folder)
        part.replace(self.folder)

    def _refuse_what_is_there(self) -> None:
        if not self.folder.exists():
            return
        found = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else [self.name]
        foreign = [name for name in found if not self._ours(name)]
        if found and not self._overwrite:
            raise UsageError(
                f"{self.folder} holds {found[0]} already: choose another name or allow overwriting"
            )
        if foreign:
            raise UsageError(
                f"{self.folder} holds {foreign[0]}, which is no part of the mosaic: it is not overwritten"
            )

    def _ours(self, name: str) -> bool:
        suffix = Path(name).suffix
        return name == _GRID_NAME or (name.startswith(self.name) and suffix in (".dmt", ".dmd", ".dms"))


def write_agilent_tile(
    path: str | Path,
    values: ArrayLike,
    *,
    axis: WavenumberGrid,
    pixel_size: float,
    time: datetime | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a single tile as the pair ``.bsp`` (axis and properties) and ``.dat`` (spectra).

    Parameters
    ----------
    path
        The ``.bsp`` file; the ``.dat`` comes beside it.
    values
        ``(y, x, channel)`` absorbances, the top row first; as many rows as columns, a power of two from 2 to
        128.
    axis, pixel_size, time, overwrite
        As for :class:`AgilentMosaicWriter`.

    Returns
    -------
    Path
        The ``.bsp`` file.

    Raises
    ------
    UsageError
        Values of another shape, or files that are there already.
    """
    master = Path(path)
    if master.suffix != ".bsp":
        raise UsageError(f"{master.name} is no name for a single tile: it must end in .bsp")
    data = master.with_suffix(".dat")
    taken = [place.name for place in (master, data) if place.exists()]
    if taken and not overwrite:
        raise UsageError(
            f"{master.parent} holds {' and '.join(taken)} already: choose another name or allow overwriting"
        )
    shape = np.shape(values)
    image = described(master.stem, axis, shape[0] if shape else 0, (1, 1), pixel_size, time, mosaic=False)
    bands = bands_of(values, image)
    contents = {data: image.header() + bands.tobytes(), master: image.master(bands[:, 0, 0])}
    parts = {place: place.with_name(f".{place.name}.part") for place in contents}
    try:
        for place, content in contents.items():
            parts[place].write_bytes(content)
        for place, part in parts.items():
            part.replace(place)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return master
