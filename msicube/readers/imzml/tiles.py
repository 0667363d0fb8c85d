"""Reading the .ibd: arrays by position, and tiles of spectra that share the cube's axis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.base import Tile
from msicube.readers.imzml.compression import unpack
from msicube.readers.imzml.index import ArrayColumns


@dataclass(frozen=True)
class DenseTile:
    """A tile of spectra that all lie on the cube's axis: intensities are copied bit for bit.

    Attributes
    ----------
    path
        The .ibd.
    shape
        ``(y, x, channel)`` of the tile.
    dtype
        Of the tile.
    pixels
        ``(n,)`` flat positions in the tile, in the order of the spectra in the file.
    intensity
        Where the arrays lie.
    first
        Channel of the source with which the tile begins.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixels: NDArray[np.intp]
    intensity: ArrayColumns
    first: int = 0

    def read(self) -> Tile:
        """Read the tile; see :class:`msicube.readers.TileSource`."""
        values = np.zeros(self.shape, self.dtype)
        flat = values.reshape(-1, self.shape[2])
        with IbdFile(self.path) as ibd:
            if self.intensity.kinds == [(self.dtype, "none")]:
                skipped = self.first * self.dtype.itemsize
                for start, stop in self._runs():
                    pixel, offset = int(self.pixels[start]), int(self.intensity.offset[start])
                    ibd.read_into(flat[pixel : pixel + stop - start], offset + skipped)
            else:
                channels = slice(self.first, self.first + self.shape[2])
                for row, pixel in enumerate(self.pixels):
                    flat[pixel] = ibd.array(self.intensity, row)[channels]
        return Tile(values)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of spectra that are neighbours both in the file and in the tile: one read each."""
        if not len(self.pixels):
            return
        step = self.shape[2] * self.dtype.itemsize
        joined = (np.diff(self.intensity.offset) == step) & (np.diff(self.pixels) == 1)
        bounds = np.concatenate([[0], np.flatnonzero(~joined) + 1, [len(self.pixels)]])
        yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


class IbdFile:
    """An open .ibd; a context manager. Positional reads only, so nothing is shared between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise CorruptSource(f"cannot open {path}: {error.strerror}") from error

    def __enter__(self) -> IbdFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def read_into(self, out: NDArray[Any], offset: int) -> None:
        """Fill a C-contiguous array from the file.

        Raises
        ------
        CorruptSource
            The file ends before.
        """
        view = memoryview(out.data).cast("B")
        done = 0
        while done < len(view):
            count = os.preadv(self._handle, [view[done:]], offset + done)
            if count == 0:
                raise CorruptSource(
                    f"{self.path.name} ends at byte {offset + done}, {len(view) - done} bytes before the end of a "
                    f"spectrum: it is truncated, copy it again"
                )
            done += count

    def array(self, columns: ArrayColumns, row: int) -> NDArray[Any]:
        """Return one binary array.

        Raises
        ------
        CorruptSource
            The file ends before, or a compressed array does not unpack to the declared length.
        """
        packed = np.empty(int(columns.encoded[row]), np.uint8)
        self.read_into(packed, int(columns.offset[row]))
        return decode(packed.data, columns, row, self.path)


def decode(data: memoryview, columns: ArrayColumns, row: int, path: Path) -> NDArray[Any]:
    """Return the values of one binary array from its bytes in the file.

    Raises
    ------
    CorruptSource
        A compressed array does not unpack to the declared length.
    """
    dtype, compression = columns.form(row)
    if compression == "none":
        return np.frombuffer(data, dtype)
    try:
        plain = unpack(bytes(data), compression, int(columns.length[row]) * dtype.itemsize)
    except ValueError as error:
        raise CorruptSource(f"{path.name}: a {compression} array does not unpack: {error}") from error
    return np.frombuffer(plain, dtype)
