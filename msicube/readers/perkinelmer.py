"""PerkinElmer Spotlight images (``.fsm``).

The file is ``PEPE``, a description of 40 bytes, and blocks: an unsigned 16-bit number, a 32-bit length, and content.
Block 5100 has the grid, 5104 text, and each 5105 one spectrum of 32-bit floats, column by column and row after row. All
is little-endian. The layout is that which specio and orange-spectroscopy have published by reading it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np

from msicube.errors import CorruptSource, UnknownFormat
from msicube.readers.base import OnError, PixelSize
from msicube.readers.dense import DenseReader
from msicube.readers.infrared import cube_info, file_entry, in_order, without_blanks
from msicube.readers.strided import Layout, StridedCube
from msicube.readers.wavenumbers import ascending, per_centimetre

MAGIC = b"PEPE"
FIRST_BLOCK = 44
GRID, SPECTRUM = 5100, 5105
_HEAD = struct.Struct("<Hi")
#: Steps in x, y and z; range of z; two numbers unknown; position of the first pixel; first z; points in x, y and z.
_GRID = struct.Struct("<10d3i")
MAX_GRID_BYTES = 2**16


@dataclass(frozen=True)
class Grid:
    """What block 5100 says.

    Attributes
    ----------
    step
        In x, y and z.
    z_range
        First and last z.
    origin
        Position of the first spectrum on the stage, x and y.
    points
        In x, y and z.
    labels
        Of two axes of the stage, of the spectral axis, and of the values.
    """

    step: tuple[float, float, float]
    z_range: tuple[float, float]
    origin: tuple[float, float]
    points: tuple[int, int, int]
    labels: tuple[str, ...]

    @classmethod
    def parse(cls, block: bytes, name: str) -> Grid:
        """Read the block.

        Raises
        ------
        CorruptSource
            It is shorter than what it holds.
        """
        try:
            at = 2 + struct.unpack_from("<h", block)[0]
            dx, dy, dz, z0, z1, _, _, x0, y0, _, nx, ny, nz = _GRID.unpack_from(block, at)
            at += _GRID.size
            labels = []
            for _ in range(4):
                (length,) = struct.unpack_from("<h", block, at)
                if length < 0 or at + 2 + length > len(block):
                    raise struct.error("a label leaves the block")
                labels.append(block[at + 2 : at + 2 + length].decode("latin-1").strip("\0 "))
                at += 2 + length
        except struct.error as error:
            raise CorruptSource(
                f"{name}: its grid block of {len(block)} bytes is damaged ({error}), copy it again"
            ) from error
        return cls((dx, dy, dz), (z0, z1), (x0, y0), (nx, ny, nz), tuple(labels))


def main_file(path: Path) -> Path | None:
    """Return the file itself: an image is one file."""
    return path


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open an image: its blocks are listed, its spectra are not read but for one channel.

    Parameters
    ----------
    path
        The .fsm.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        It does not begin as such a file does, or its spectra are on no axis of wavenumbers.
    CorruptSource
        Grid, axis and spectra do not agree.
    """
    grid, first, count = _blocks(path)
    nx, ny, nz = grid.points
    if min(grid.points) < 1 or nx * ny > path.stat().st_size:
        raise CorruptSource(
            f"{path.name}: its grid is {nx} x {ny} pixels of {nz} points, which no file of {path.stat().st_size} bytes "
            f"holds: copy it again"
        )
    axis, descending = _axis(grid, path.name)
    _check_count(path.name, count, nx * ny)
    size = _HEAD.size + 4 * nz
    layout = Layout(np.dtype("<f4"), (ny, nx, nz), first + _HEAD.size, (nx * size, size, 4))
    numbers = in_order(ny, nx)
    flips = []
    if grid.step[1] > 0:
        layout, numbers = layout.flipped(0), numbers[::-1]
        flips.append("rows: the position on the stage grows from row to row, and upwards")
    if grid.step[0] < 0:
        layout, numbers = layout.flipped(1), numbers[:, ::-1]
        flips.append("columns: the position on the stage falls from column to column")
    if descending:
        layout = layout.flipped(2)
        flips.append("channels: the file descends")
    info = cube_info(
        path,
        axis=axis,
        dtype=np.dtype(np.float32),
        numbers=np.ascontiguousarray(numbers),
        source=_source(path, grid, count),
        pixel_size=_pixel_size(grid),
        flips=flips,
    )
    return [without_blanks(DenseReader(info, StridedCube(path, layout)))]


def _blocks(path: Path) -> tuple[Grid, int, int]:
    """Walk through the blocks: the grid, where the first spectrum starts, and how many there are."""
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(FIRST_BLOCK)
            if head[:4] != MAGIC:
                raise UnknownFormat(
                    f"{path.name} begins with {head[:4]!r}, a PerkinElmer image with {MAGIC!r}: it is another format"
                )
            return _walk(file, path.name, path.stat().st_size)
    except OSError as error:
        raise CorruptSource(f"cannot read {path}: {error.strerror}") from error


def _walk(file: RawIOBase, name: str, size: int) -> tuple[Grid, int, int]:
    grid: Grid | None = None
    first, count = 0, 0
    at = FIRST_BLOCK
    while at + _HEAD.size <= size:
        file.seek(at)
        number, length = _HEAD.unpack(file.read(_HEAD.size))
        if length < 0:
            raise CorruptSource(
                f"{name}: the block at byte {at} has the length {length}: copy the file again"
            )
        if number == GRID and length <= MAX_GRID_BYTES:
            grid = Grid.parse(file.read(length), name)
        if number == SPECTRUM:
            if grid is None:
                raise CorruptSource(f"{name}: its first spectrum comes before its grid: copy the file again")
            first = first or at
            _check_block(grid, name, length, count, follows=at == first + count * (_HEAD.size + length))
            count += at + _HEAD.size + length <= size
        at += _HEAD.size + length
    if grid is None or not count:
        raise CorruptSource(
            f"{name} has {count} whole spectra and {'a' if grid else 'no'} grid: it is truncated, copy it again"
        )
    return grid, first, count


def _check_block(grid: Grid, name: str, length: int, number: int, *, follows: bool) -> None:
    """Refuse spectra of another length than the grid says, and any that do not follow each other."""
    expected = 4 * grid.points[2]
    if length != expected:
        raise CorruptSource(
            f"{name}: spectrum {number} (from 0) has {length} bytes, {grid.points[2]} points need {expected}: "
            f"the file is damaged, copy it again"
        )
    if not follows:
        raise CorruptSource(
            f"{name}: another block stands before spectrum {number} (from 0): spectra must follow each other; "
            f"copy or save the file again"
        )


def _check_count(name: str, found: int, expected: int) -> None:
    if found == expected:
        return
    reason = (
        "which of them are the image cannot be known"
        if found > expected
        else "it is truncated or the scan was stopped, copy it again or save the finished rows as an image of their own"
    )
    raise CorruptSource(f"{name} has {found} whole spectra, its grid has {expected} pixels: {reason}")


def _axis(grid: Grid, name: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], bool]:
    """Return the wavenumbers, and whether the file has them the other way round."""
    first, last = grid.z_range
    step, count = grid.step[2], grid.points[2]
    with np.errstate(over="ignore", invalid="ignore"):
        values = first + step * np.arange(count, dtype=np.float64)
        agrees = abs(values[-1] - last) <= abs(step) / 2 if count > 1 else bool(np.isfinite(first))
    if not agrees:
        raise CorruptSource(
            f"{name}: {count} points from {first:g} in steps of {step:g} end at {values[-1]:g}, its grid says {last:g}"
            f": the file contradicts itself, save it again"
        )
    converted = per_centimetre(values, grid.labels[2])
    if converted is None:
        raise UnknownFormat(
            f"{name}: its spectral axis is in {grid.labels[2]!r}: expected cm-1, nm or micrometers. Save the image "
            f"as spectra over wavenumbers"
        )
    return ascending(converted, name)


def _pixel_size(grid: Grid) -> PixelSize | None:
    x, y = abs(grid.step[0]), abs(grid.step[1])
    metric = all("micromet" in label.lower() for label in grid.labels[:2])
    if not (metric and np.isfinite([x, y]).all() and min(x, y) > 0):
        return None
    return PixelSize(y, x, "steps of the stage in block 5100")


def _source(path: Path, grid: Grid, count: int) -> dict[str, Any]:
    finite = {"x": grid.origin[0], "y": grid.origin[1]} if np.isfinite(grid.origin).all() else None
    return {
        "format": "PerkinElmer fsm",
        "fsm": file_entry(path),
        "labels": list(grid.labels),
        "quantity": grid.labels[3],
        "stage_origin": finite,
        "spectra": count,
    }
