"""Writing Agilent's FTIR images: mosaics (``.dmt`` with a ``.dmd`` for each tile) and single tiles (``.bsp``, ``.dat``).

A tile is 1,020 bytes of header and then little-endian float32, band by band, ``(channel, y, x)``. Row 0 of a tile is its
bottom; the tile YYYY = 0000 of ``<name>_XXXX_YYYY.dmd`` is in the top row of tiles. Everything here takes and counts rows
from the top, and turns them on the way to the disk.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log2
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.writers.agilent_properties import Properties, master_file

#: A helium-neon laser clocks the interferometer: its wavenumber as Agilent's software has it, in cm^-1.
LASER_WAVENUMBER = 15798.0039
#: Distance of channels at a resolution of 4 cm^-1, in cm^-1.
HENE_STEP = LASER_WAVENUMBER / 8192
#: Edges of a tile in pixels: of the detector, or of its elements taken together by two, four, ...
TILE_SIZES = (2, 4, 8, 16, 32, 64, 128)

_HEADER_BYTES = 1020
_DETECTORS = (64, 128)
_DETECTOR_KELVIN = 78
_VERSION = b"3.4.0.0"
_MOST_TILES = 10_000
_GRID_NAME = "IrMosaicInfo.cfg"


@dataclass(frozen=True)
class WavenumberGrid:
    """An axis as Agilent's files state it: ``step * (start + i)``.

    Attributes
    ----------
    start
        Number of the first channel, counted from wavenumber 0.
    n_channels
        Their number.
    step
        In cm^-1.
    """

    start: int
    n_channels: int
    step: float = HENE_STEP

    @classmethod
    def within(cls, low: float, high: float, *, step: float = HENE_STEP) -> WavenumberGrid:
        """Return the channels from ``low`` to ``high`` cm^-1, both included; 900 to 1800 holds 467.

        Raises
        ------
        UsageError
            The range holds no channel.
        """
        if not (0 <= low <= high < float("inf") and 0 < step < float("inf")):
            raise UsageError(f"{low} to {high} cm^-1 in steps of {step}: expected two wavenumbers, the lower one first")
        start, last = ceil(low / step), floor(high / step)
        if last < start:
            raise UsageError(f"no channel lies in {low} to {high} cm^-1: they are {step} cm^-1 apart")
        return cls(start, last - start + 1, step)

    @property
    def wavenumber(self) -> NDArray[np.float64]:
        """``(channel,)`` in cm^-1, ascending."""
        return self.step * np.arange(self.start, self.start + self.n_channels, dtype=np.float64)


@dataclass(frozen=True)
class _Image:
    """What the headers say; ``tiles`` is ``(y, x)``."""

    axis: WavenumberGrid
    tile_size: int
    tiles: tuple[int, int]
    pixel_size: float
    identity: str
    time: datetime
    mosaic: bool = True

    @property
    def detector(self) -> int:
        """Elements along an edge of the detector."""
        return self.tile_size if self.tile_size in _DETECTORS else max(_DETECTORS)

    @property
    def aggregation(self) -> int:
        """Elements along an edge of a pixel."""
        return self.detector // self.tile_size

    @property
    def extent(self) -> tuple[float, float]:
        """``(y, x)`` of all tiles in micrometre."""
        edge = self.tile_size * self.pixel_size
        return self.tiles[0] * edge, self.tiles[1] * edge

    def header(self, *, whole: bool = False) -> bytes:
        """Return the first 1,020 bytes of a tile, or of the file of the whole mosaic."""
        (ny, nx), edge = (self.tiles if whole else (1, 1)), self.tile_size
        header = bytearray(_HEADER_BYTES)
        struct.pack_into("<2s", header, 1, b"rG")
        struct.pack_into("<i", header, 9, self.axis.n_channels)
        struct.pack_into("<hh", header, 24, nx * edge, ny * edge)
        struct.pack_into("<8s", header, 129, _VERSION)
        if self.mosaic:
            struct.pack_into("<17s", header, 137, self.identity[:16].encode("ascii"))
        if whole:
            struct.pack_into("<?ii", header, 153, True, self.tiles[1], self.tiles[0])
        struct.pack_into("<iii", header, 162, self.tiles[1], self.tiles[0], self.aggregation)
        size = edge * self.pixel_size
        struct.pack_into("<fff", header, 174, nx * size, ny * size, _DETECTOR_KELVIN)
        return bytes(header)

    def master(self, spectrum: NDArray[np.float32]) -> bytes:
        """Return the ``.dmt`` or ``.bsp`` file."""
        return master_file(
            Properties(
                step=self.axis.step,
                start=self.axis.start,
                n_channels=self.axis.n_channels,
                spectrum=spectrum.astype(np.float64),
                extent=self.extent,
                pixel_size=self.pixel_size / self.aggregation,
                identity=self.identity,
                time=self.time,
                parameters=self._parameters(),
            )
        )

    def _parameters(self) -> dict[str, str]:
        axis, detector = self.axis.wavenumber, str(self.detector)
        resolution = 2 ** max(0, round(log2(2 * self.axis.step)))
        return {
            "User Stamp": "msicube",
            "Software Version": "msicube",
            "Aperture": "0",
            "Source Power": "MEDIUM",
            "Average Subtract": "YES",
            "Beam": "Left",
            "Detector": "FPA",
            "Effective Laser Wavenumber": f"{LASER_WAVENUMBER}",
            "Filter": "NONE",
            "In Scan CoAddition": "YES",
            "Resolution": str(resolution),
            "Sensitivity": "1",
            "Signal": "AUTO",
            "Source": "SRC1",
            "Speed": "2.5KHZ",
            "Symmetry": "ASYM",
            "Under Sampling Ratio": "4",
            "Scans": "64",
            "Background Scans": "128",
            "Utilized Range": "Save Range",
            "Range Start": f"{floor(axis[0])}",
            "Range End": f"{ceil(axis[-1])}",
            "MicroscopePresent": "Yes",
            "OpticsMode": "Transmission",
            "FPA Expanded FOV": "No",
            "ATR Mode": "No ATR",
            "FPA Camera Type": f"{detector} x {detector} MCT",
            "FPA Size X": detector,
            "FPA Size Y": detector,
            # Real mosaics say 1 here, whatever their number of tiles; the extent has the number.
            "Mosaic Tiles X": "1",
            "Mosaic Tiles Y": "1",
            "FPA Temperature": f"{_DETECTOR_KELVIN} K",
            "PixelAggregationSize": str(self.aggregation),
            "MosaicScan": "Yes" if self.mosaic else "No",
            **({"MosaicExtentX": str(self.tiles[1]), "MosaicExtentY": str(self.tiles[0])} if self.mosaic else {}),
        }

    def grid_file(self) -> str:
        """Return the text of ``IrMosaicInfo.cfg``."""
        height, width = self.extent
        edge = self.tile_size * self.pixel_size
        return (
            f"[CalibrationValues]\nIrStageHorizontalAlignmentSize={edge:g}\nIrStageVerticalAlignmentSize={edge:g}\n\n"
            f"[GridInfo]\nIrCollectFilesX={self.tiles[1]}\nIrCollectFilesY={self.tiles[0]}\n\n"
            f"[MicronMeasurements]\nIrCollectHeightMicrons={height:g}\nIrCollectStartLocationMicronsX=0\n"
            f"IrCollectStartLocationMicronsY=0\nIrCollectWidthMicrons={width:g}\n"
        )


class AgilentMosaicWriter:
    """Write a mosaic, a tile at a time, into a folder of its own; use it in a ``with`` statement.

    The folder appears, complete, when the ``with`` block ends: ``<name>.dmt``, a ``<name>_XXXX_YYYY.dmd`` for each tile,
    ``IrMosaicInfo.cfg`` and, where asked for, ``<name>.dms``. When it ends by an exception, nothing remains. Nothing is
    held in memory but the tile at hand. Tiles may come in any order, from one thread.

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
        Options out of their range; on entering the ``with`` block, a folder that is not empty; at its end, a tile that was
        not written.
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
        self._image = _image(self.name, axis, tile_size, (ny, nx), pixel_size, time)
        if whole and max(ny, nx) * tile_size >= 2**15:
            raise UsageError(f"{ny} x {nx} tiles of {tile_size} pixels: a .dms holds less than 32,768 rows and columns")
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
            raise UsageError(f"there is no folder {self.folder.parent} to write {self.name} into: create it first")
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
            ``(y, x, channel)`` absorbances, the top row first; stored as float32. NaN marks what is not known.

        Raises
        ------
        UsageError
            A tile outside the grid or twice, or values of another shape.
        """
        if self._part is None:
            raise UsageError("the writer is not open: use it as `with AgilentMosaicWriter(...) as writer:`")
        ny, nx = self._image.tiles
        if not (0 <= row < ny and 0 <= column < nx):
            raise UsageError(f"the tile (row, column) = ({row}, {column}) lies outside the grid of {ny} x {nx} tiles")
        if (row, column) in self._written:
            raise UsageError(f"the tile (row, column) = ({row}, {column}) was written already")
        bands = _bands(values, self._image)
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
                file.truncate(_HEADER_BYTES + 4 * len(bands) * ny * edge * width)
            for channel, plane in enumerate(bands):
                first = (channel * ny + (ny - 1 - row)) * edge * width + column * edge
                for y, line in enumerate(plane):
                    file.seek(_HEADER_BYTES + 4 * (first + y * width))
                    file.write(line.data)

    def _finish(self, part: Path) -> None:
        ny, nx = self._image.tiles
        if len(self._written) < ny * nx:
            absent = next((y, x) for y in range(ny) for x in range(nx) if (y, x) not in self._written)
            raise UsageError(
                f"{self.name} would hold {len(self._written)} of its {ny * nx} tiles; the first that was not written is "
                f"(row, column) = {absent}"
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
            raise UsageError(f"{self.folder} holds {found[0]} already: choose another name or allow overwriting")
        if foreign:
            raise UsageError(f"{self.folder} holds {foreign[0]}, which is no part of the mosaic: it is not overwritten")

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
        ``(y, x, channel)`` absorbances, the top row first; as many rows as columns, a power of two from 2 to 128.
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
        raise UsageError(f"{master.parent} holds {' and '.join(taken)} already: choose another name or allow overwriting")
    shape = np.shape(values)
    image = _image(master.stem, axis, shape[0] if shape else 0, (1, 1), pixel_size, time, mosaic=False)
    bands = _bands(values, image)
    contents = {data: [image.header(), bands.data], master: [image.master(bands[:, 0, 0])]}
    parts = {place: place.with_name(f".{place.name}.part") for place in contents}
    try:
        for place, pieces in contents.items():
            with parts[place].open("wb") as file:
                file.writelines(pieces)
        for place, part in parts.items():
            part.replace(place)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return master


def _image(
    name: str,
    axis: WavenumberGrid,
    tile_size: int,
    tiles: tuple[int, int],
    pixel_size: float,
    time: datetime | None,
    **options: Any,
) -> _Image:
    if tile_size not in TILE_SIZES:
        raise UsageError(f"a tile of {tile_size} pixels: expected one of {', '.join(map(str, TILE_SIZES))}")
    if not 0 < pixel_size < float("inf"):
        raise UsageError(f"pixel_size={pixel_size}: expected micrometres, positive")
    if axis.n_channels < 1:
        raise UsageError(f"{axis}: expected at least one channel")
    # Two clock readings in real files; here what distinguishes the mosaic, so that the same one has the same bytes.
    identity = f"{zlib.crc32(name.encode()):08X}-{zlib.crc32(repr((axis, tiles)).encode()):08X}"
    moment = time or datetime.now().replace(microsecond=0)
    return _Image(axis, tile_size, tiles, float(pixel_size), identity, moment, **options)


def _bands(values: ArrayLike, image: _Image) -> NDArray[np.float32]:
    """Return a tile as the file holds it, ``(channel, y, x)`` with the bottom row first."""
    array = np.asarray(values)
    expected = (image.tile_size, image.tile_size, image.axis.n_channels)
    if array.shape != expected or array.dtype.kind not in "iuf":
        raise UsageError(f"a tile is numbers of the shape {expected}, found {array.dtype} of the shape {array.shape}")
    return np.ascontiguousarray(array[::-1].transpose(2, 0, 1), dtype="<f4")
