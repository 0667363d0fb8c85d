"""What the binary files say of themselves: the axis and the pixel size of a master, the size of a tile.

The layout is not published. What is used here holds for every file that is known to us, and each number is checked
against another one: numbers of points against each other, and sizes against the length of the file.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.base import PixelSize

#: A master is a compound document of Windows.
MASTER_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
TILE_MAGIC = b"\x00rG\x00"
HEADER_BYTES = 1020
#: Of a master: some hundred kilobytes at the most.
MAX_MASTER_BYTES = 16 * 2**20
#: Bounds of what can be an infrared axis, in cm^-1, and its length.
MIN_STEP, MAX_WAVENUMBER, MAX_POINTS = 1e-4, 50_000.0, 1_000_000
_STEP, _START, _POINTS = 2216, 2228, 2236


@dataclass(frozen=True)
class Master:
    """What a ``.dmt`` or ``.bsp`` says.

    Attributes
    ----------
    path
        The file.
    n_bytes, sha256
        Of the file.
    step, start, n_points
        The axis is ``step * (start + i)`` cm^-1.
    pixel_size
        None where it is not said.
    laser
        Wavenumber of the reference laser; None where it is not said.
    """

    path: Path
    n_bytes: int
    sha256: str
    step: float
    start: int
    n_points: int
    pixel_size: PixelSize | None
    laser: float | None

    @classmethod
    def read(cls, path: Path) -> Master:
        """Read a master.

        Raises
        ------
        CorruptSource
            It is none, is cut off, or holds no axis.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MASTER_BYTES)
        except OSError as error:
            raise CorruptSource(f"cannot read {path}: {error.strerror}") from error
        if not data.startswith(MASTER_MAGIC):
            raise CorruptSource(
                f"{path.name} begins with {data[:8].hex() or 'nothing'}, expected the compound document "
                f"{MASTER_MAGIC.hex()} of an Agilent image: it is damaged or another file, copy it again"
            )
        if len(data) < _POINTS + 4:
            raise CorruptSource(
                f"{path.name} has {len(data)} bytes, its axis lies at byte {_STEP} to {_POINTS + 4}: it is truncated"
            )
        (step,) = struct.unpack_from("<d", data, _STEP)
        (start,), (n_points,) = (struct.unpack_from("<i", data, at) for at in (_START, _POINTS))
        if not (
            0 < n_points <= MAX_POINTS
            and start >= 0
            and step >= MIN_STEP
            and step * (start + n_points) <= MAX_WAVENUMBER
        ):
            raise CorruptSource(
                f"{path.name} has an axis of {n_points} points, {step:g} cm^-1 apart from number {start}: that is no "
                f"infrared axis, the file is damaged"
            )
        sha256 = hashlib.sha256(data).hexdigest()
        return cls(path, len(data), sha256, step, start, n_points, _pixel_size(data, path), _laser(data))

    @property
    def axis(self) -> NDArray[np.float64]:
        """``(channel,)`` cm^-1, ascending."""
        return self.step * (self.start + np.arange(self.n_points)).astype(np.float64)

    def remarks(self) -> list[str]:
        """Return what is odd about it."""
        remarks = []
        if self.pixel_size is None:
            remarks.append(f"{self.path.name} does not tell the pixel size: y and x are pixel numbers")
        if self.laser is not None:
            ratio = self.laser / self.step
            if abs(ratio - round(ratio)) > 1e-3:
                remarks.append(
                    f"{self.path.name} has points {self.step:.6g} cm^-1 apart, no whole fraction of the laser at "
                    f"{self.laser:.6g} cm^-1: the axis may be damaged"
                )
        return remarks


@dataclass(frozen=True)
class TileHeader:
    """What a file of spectra says of itself.

    Attributes
    ----------
    n_points, ny, nx
        Channels, rows and columns.
    blank
        The header is all zero: the tile is taken as square, as every published reader does.
    """

    n_points: int
    ny: int
    nx: int
    blank: bool = False

    @property
    def n_bytes(self) -> int:
        """Length of the file that has such a header."""
        return HEADER_BYTES + 4 * self.n_points * self.ny * self.nx


class ShortTile(CorruptSource):
    """A file ends before its last spectrum: the acquisition or a copy was broken off."""


def read_tile_header(path: Path, n_points: int, *, square: bool = True) -> tuple[TileHeader, bytes]:
    """Read the header of a file of spectra and check it against the length of the file and against the master.

    Parameters
    ----------
    path
        The file.
    n_points
        As the master has it.
    square
        Whether it must hold as many rows as columns: every detector has, a whole mosaic need not.

    Returns
    -------
    header : TileHeader
    data : bytes
        Of the header.

    Raises
    ------
    ShortTile
        The file is shorter than its header says.
    CorruptSource
        It contradicts itself or the master.
    """
    try:
        with path.open("rb") as file:
            data, size = file.read(HEADER_BYTES), path.stat().st_size
    except OSError as error:
        raise CorruptSource(f"cannot read {path}: {error.strerror}") from error
    if len(data) < HEADER_BYTES:
        raise ShortTile(f"{path.name} has {size} bytes, less than a header of {HEADER_BYTES}")
    header = _blank(path, size, n_points) if not any(data) else _header(data, path)
    if header.n_points != n_points:
        raise CorruptSource(
            f"{path.name} has spectra of {header.n_points} points, its master says {n_points}: they do not belong "
            f"together, or one is damaged"
        )
    if square and header.ny != header.nx:
        raise CorruptSource(
            f"the header of {path.name} says {header.ny} x {header.nx} pixels, the detectors are square: it is damaged"
        )
    if size < header.n_bytes:
        raise ShortTile(f"{path.name} has {size} of {header.n_bytes} bytes")
    if size > header.n_bytes:
        raise CorruptSource(
            f"{path.name} has {size} bytes, its header of {header.ny} x {header.nx} pixels with {header.n_points} "
            f"points makes {header.n_bytes}: one of them is damaged"
        )
    return header, data


def _header(data: bytes, path: Path) -> TileHeader:
    if not data.startswith(TILE_MAGIC):
        raise CorruptSource(
            f"{path.name} begins with {data[:4].hex()}, expected {TILE_MAGIC.hex()}: it is damaged or another file"
        )
    (n_points,), (nx, ny) = struct.unpack_from("<i", data, 9), struct.unpack_from("<2h", data, 24)
    if min(n_points, nx, ny) < 1:
        raise CorruptSource(
            f"the header of {path.name} says {ny} x {nx} pixels with {n_points} points: it is damaged"
        )
    return TileHeader(n_points, ny, nx)


def _blank(path: Path, size: int, n_points: int) -> TileHeader:
    pixels, rest = divmod(size - HEADER_BYTES, 4 * n_points)
    edge = isqrt(pixels)
    if rest or edge * edge != pixels or not pixels:
        raise ShortTile(
            f"{path.name} has a blank header and {size} bytes: no square tile of spectra of {n_points} points is that "
            f"long"
        )
    return TileHeader(n_points, edge, edge, blank=True)


def _pixel_size(data: bytes, path: Path) -> PixelSize | None:
    """Return the size of a detector's pixel on the sample times the pixels that were summed into one."""
    detector, summed = _float_property(data, "FPA Pixel Size"), _text_property(data, "PixelAggregationSize")
    if detector is None or summed is None or summed != int(summed):
        return None
    size = detector * summed
    if not 0.01 <= size <= 10_000:
        return None
    told = (
        f"FPA Pixel Size {detector:g} micrometre x PixelAggregationSize {summed:g} in {path.suffix.lower()}"
    )
    return PixelSize(size, size, told)


def _laser(data: bytes) -> float | None:
    return _text_property(data, "Effective Laser Wavenumber")


def _float_property(data: bytes, name: str) -> float | None:
    """Return a property that is stored as a double, a little after its name and the text 1.00."""
    found = re.search(re.escape(name.encode()) + rb".{0,64}?1\.00.{12}(.{8})", data, re.DOTALL)
    if found is None:
        return None
    (value,) = struct.unpack("<d", found[1])
    return float(value) if np.isfinite(value) else None


def _text_property(data: bytes, name: str) -> float | None:
    """Return a number that is stored as text, after its name and some lengths."""
    found = re.search(re.escape(name.encode()) + rb"\x04[\x00-\x1f]{1,64}(\d{1,12}(?:\.\d{1,12})?)", data)
    return float(found[1]) if found else None
