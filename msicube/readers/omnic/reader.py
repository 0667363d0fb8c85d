"""From an OMNIC map to a cube."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.base import OnError
from msicube.readers.dense import DenseReader
from msicube.readers.infrared import cube_info, file_entry, head, without_blanks
from msicube.readers.omnic.blocks import MAGICS, parse
from msicube.readers.omnic.positions import place
from msicube.readers.strided import check_size
from msicube.readers.wavenumbers import ascending
from msicube.tiling import Window

DTYPE = np.dtype("<f4")


@dataclass(frozen=True)
class ScatteredSpectra:
    """Spectra anywhere in a plain file, mapped for the time of a read; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    path
        The file.
    places
        ``(y, x)`` int64: the byte at which each spectrum begins, -1 where there is none. The format counts spectra that
        have positions in 16 bits, which bounds it.
    n_channels
        Of every spectrum.
    turned
        The channels descend in the file.
    """

    path: Path
    places: NDArray[np.int64]
    n_channels: int
    turned: bool

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube."""
        places = self.places[window.slices]
        try:
            with self.path.open("rb") as file:
                needed = int(places.max()) + self.n_channels * DTYPE.itemsize
                check_size(self.path, needed, file.seek(0, 2))
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    return self._copied(mapped, places, channels)
        except OSError as error:
            raise CorruptSource(f"cannot read {self.path}: {error.strerror}") from error

    def _copied(self, mapped: mmap.mmap, places: NDArray[np.int64], channels: slice) -> NDArray[Any]:
        # A function of its own: no view may be left when the map is closed.
        count = channels.stop - channels.start
        first = self.n_channels - channels.stop if self.turned else channels.start
        out = np.zeros((*places.shape, count), DTYPE.newbyteorder("="))
        for y, x in np.argwhere(places >= 0):
            values = np.frombuffer(mapped, DTYPE, count, int(places[y, x]) + first * DTYPE.itemsize)
            out[y, x] = values[::-1] if self.turned else values
        return out


def main_file(path: Path) -> Path | None:
    """Return the file itself where it is a map of OMNIC; None for the other files that end in ``.map``."""
    return path if head(path, 18) in MAGICS else None


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open a map: a grid is a cube, a line a cube of one row; its spectra are not read but for one channel.

    Parameters
    ----------
    path
        The .map.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        No spectra over wavenumbers, or scattered ones.
    CorruptSource
        The file is damaged.
    MissingDependency
        ftir-omnic-map-reader is not installed.
    """
    spectra = parse(path)
    axis, turned = ascending(spectra.wavenumbers, path.name)
    placed = place(spectra.x, spectra.y, path.name)
    remarks = [*placed.remarks]
    if spectra.n_series > 1:
        remarks.append(
            f"the file has {spectra.n_series} blocks of spectra: the first is read, as ftir_map does"
        )
    info = cube_info(
        path,
        axis=axis,
        dtype=DTYPE.newbyteorder("="),
        numbers=placed.numbers,
        source={
            "format": "OMNIC map",
            "file": file_entry(path),
            "quantity": spectra.quantity,
            "layout": spectra.layout,
            "stage_origin": {"x": float(spectra.x[0]), "y": float(spectra.y[0])},
        },
        pixel_size=placed.pixel_size,
        flips=[*placed.flips, *(["channels: the file descends"] if turned else [])],
        remarks=remarks,
    )
    places = np.where(placed.numbers >= 0, spectra.places[placed.numbers], -1)
    return [without_blanks(DenseReader(info, ScatteredSpectra(path, places, len(axis), turned)))]
