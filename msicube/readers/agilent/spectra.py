"""Reading spectra: from tiles of bands, stored bottom row first, into windows with the top row first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.agilent.headers import HEADER_BYTES
from msicube.tiling import Window

#: Bytes of bands that are in memory besides the window.
READ_BYTES = 2 * 2**20
#: Buffers that one system call fills.
MAX_BUFFERS = 512
#: Values that set the bands in memory apart: bands of a power of two would push each other out of the cache.
PADDING = 16
#: Values of a row above which a narrow window is read row by row, rather than with all that lies between its rows.
WIDE = 1024


@dataclass(frozen=True)
class AgilentSpectra:
    """The tiles of a mosaic, or the one of a single image; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    folder
        Where the files are.
    names
        Of the files, by row and column of the tile, the top row first; None for a tile that is not there.
    shape
        Rows and columns of a tile.
    n_points
        Channels of a file.
    """

    folder: Path
    names: tuple[tuple[str | None, ...], ...]
    shape: tuple[int, int]
    n_points: int

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube; of each file, just the byte range of the channels."""
        out = np.empty((*window.shape, channels.stop - channels.start), "<f4")
        for path, inside, target in self._parts(window):
            with _File(path) as file:
                self._read_part(file, inside, channels, out[target.slices])
        return out

    def _parts(self, window: Window) -> Iterator[tuple[Path, Window, Window]]:
        """Yield each file that a window touches: path, and what they share, in the tile and in the window."""
        ny, nx = self.shape
        for row in range(window.y0 // ny, -(-window.y1 // ny)):
            for column in range(window.x0 // nx, -(-window.x1 // nx)):
                name = self.names[row][column]
                y0, x0 = row * ny, column * nx
                part = window.intersect(Window(y0, y0 + ny, x0, x0 + nx))
                if name is None or part is None:
                    continue
                yield self.folder / name, part.shifted(-y0, -x0), part.shifted(-window.y0, -window.x0)

    def _read_part(self, file: _File, inside: Window, channels: slice, out: NDArray[Any]) -> None:
        """Fill ``(y, x, channel)`` from the bands of one file, some bands at a time."""
        ny, nx = self.shape
        height, width = inside.shape
        by_rows = nx > WIDE and 4 * width < nx
        stride = width if by_rows else nx
        step = min(max(1, READ_BYTES // (4 * height * stride)), MAX_BUFFERS)
        bands = np.empty((min(step, channels.stop - channels.start), height * stride + PADDING), "<f4")
        for channel in range(channels.start, channels.stop, step):
            count = min(step, channels.stop - channel)
            # The top row of the window is the last of its rows in the file.
            offset = HEADER_BYTES + 4 * ((channel * ny + ny - inside.y1) * nx + inside.x0)
            if by_rows:
                for number, band in enumerate(bands[:count, : height * width]):
                    file.read_parts(band.reshape(height, width), offset + 4 * number * ny * nx, 4 * nx)
            else:  # of each band, from the first wanted value to the last
                file.read_parts(bands[:count, : (height - 1) * nx + width], offset, 4 * ny * nx)
            part = bands[:count, : height * stride].reshape(count, height, stride)[:, ::-1, :width]
            start = channel - channels.start
            out[..., start : start + count] = part.transpose(1, 2, 0)


class _File:
    """An open file of spectra; a context manager. Positional reads only, so nothing is shared between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise CorruptSource(
                f"cannot open {path}: {error.strerror}; it was there when the image was opened"
            ) from error

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def read_parts(self, parts: NDArray[Any], offset: int, step: int) -> None:
        """Fill the rows of an array from parts of the file that lie ``step`` bytes apart; one call where they join."""
        rows = [memoryview(row.data).cast("B") for row in parts]
        if step == parts.shape[1] * parts.itemsize:
            self._fill(rows, offset)
        else:
            for number, row in enumerate(rows):
                self._fill([row], offset + number * step)

    def _fill(self, rows: list[memoryview], offset: int) -> None:
        total = sum(len(row) for row in rows)
        done = os.preadv(self._handle, rows, offset)
        while done < total:  # a call interrupted, or the end of the file
            row, at = divmod(done, len(rows[0]))
            count = os.preadv(self._handle, [rows[row][at:], *rows[row + 1 :]], offset + done)
            if count == 0:
                raise CorruptSource(
                    f"{self.path.name} ends at byte {offset + done}: it was longer when the image was opened"
                )
            done += count
