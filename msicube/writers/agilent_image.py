"""What the headers of Agilent's FTIR files say, and the order of the numbers behind them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log2

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

HEADER_BYTES = 1020
_DETECTORS = (64, 128)
_DETECTOR_KELVIN = 78
_VERSION = b"3.4.0.0"


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
            raise UsageError(
                f"{low} to {high} cm^-1 in steps of {step}: expected two wavenumbers, the lower one first"
            )
        start, last = ceil(low / step), floor(high / step)
        if last < start:
            raise UsageError(f"no channel lies in {low} to {high} cm^-1: they are {step} cm^-1 apart")
        return cls(start, last - start + 1, step)

    @property
    def wavenumber(self) -> NDArray[np.float64]:
        """``(channel,)`` in cm^-1, ascending."""
        return self.step * np.arange(self.start, self.start + self.n_channels, dtype=np.float64)


@dataclass(frozen=True)
class AgilentImage:
    """What the headers say of a mosaic or a single tile.

    Attributes
    ----------
    tile_size
        Edge of a tile in pixels.
    tiles
        ``(y, x)``, their number.
    pixel_size
        In micrometre.
    identity
        Unique, as the files write it.
    """

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
        header = bytearray(HEADER_BYTES)
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
            **(
                {"MosaicExtentX": str(self.tiles[1]), "MosaicExtentY": str(self.tiles[0])}
                if self.mosaic
                else {}
            ),
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


def described(
    name: str,
    axis: WavenumberGrid,
    tile_size: int,
    tiles: tuple[int, int],
    pixel_size: float,
    time: datetime | None,
    *,
    mosaic: bool = True,
) -> AgilentImage:
    """Return the description of an image, checked.

    Raises
    ------
    UsageError
        A tile size that no detector has, or a pixel size or an axis that makes no sense.
    """
    if tile_size not in TILE_SIZES:
        raise UsageError(f"a tile of {tile_size} pixels: expected one of {', '.join(map(str, TILE_SIZES))}")
    if not 0 < pixel_size < float("inf"):
        raise UsageError(f"pixel_size={pixel_size}: expected micrometres, positive")
    if axis.n_channels < 1:
        raise UsageError(f"{axis}: expected at least one channel")
    # Two clock readings in real files; here what distinguishes the mosaic, so that the same one has the same
    # bytes.
    identity = f"{zlib.crc32(name.encode()):08X}-{zlib.crc32(repr((axis, tiles)).encode()):08X}"
    moment = time or datetime.now().replace(microsecond=0)
    return AgilentImage(axis, tile_size, tiles, float(pixel_size), identity, moment, mosaic)


def bands_of(values: ArrayLike, image: AgilentImage) -> NDArray[np.float32]:
    """Return a tile as the file holds it, ``(channel, y, x)`` with the bottom row first.

    Raises
    ------
    UsageError
        Values of another shape or type.
    """
    array = np.asarray(values)
    expected = (image.tile_size, image.tile_size, image.axis.n_channels)
    if array.shape != expected or array.dtype.kind not in "iuf":
        raise UsageError(
            f"a tile is numbers of the shape {expected}, found {array.dtype} of the shape {array.shape}"
        )
    return np.ascontiguousarray(array[::-1].transpose(2, 0, 1), dtype="<f4")
