"""From an OPUS file to a cube."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.readers.base import OnError
from msicube.readers.dense import DenseReader
from msicube.readers.infrared import cube_info, file_entry, head, in_order, without_blanks
from msicube.readers.opus import images
from msicube.readers.opus.blocks import MAGIC, OpusFile
from msicube.readers.strided import native_dtype
from msicube.readers.wavenumbers import ascending
from msicube.tiling import Window


@dataclass(frozen=True)
class HeldSpectrum:
    """One spectrum, small enough to go with its tile; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    values
        ``(channel,)`` on the ascending axis.
    """

    values: NDArray[Any]

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of it."""
        return self.values[np.newaxis, np.newaxis, channels].copy()


def main_file(path: Path) -> Path | None:
    """Return the file itself; None for another kind of file that ends in a digit."""
    return path if head(path, 4) == MAGIC else None


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open a file: a spectrum is a cube of one pixel, an image is loaded by opusFC.

    Parameters
    ----------
    path
        The OPUS file.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        No spectrum, or series of spectra that lie on no grid.
    CorruptSource
        The file is damaged.
    MissingDependency
        brukeropus or opusFC is not installed.
    """
    file = OpusFile(path)
    return [without_blanks(_image(path) if file.has_images else _point(path, file))]


def _point(path: Path, file: OpusFile) -> DenseReader:
    spectrum = file.spectrum()
    axis, turned = ascending(spectrum.wavenumbers, path.name)
    values = spectrum.values[::-1] if turned else spectrum.values
    info = cube_info(
        path,
        name=path.name.replace(".", "_"),
        axis=axis,
        dtype=values.dtype,
        numbers=in_order(1, 1),
        source=_source(path, spectrum.quantity),
        flips=["channels: the file descends"] if turned else [],
    )
    return DenseReader(info, HeldSpectrum(np.ascontiguousarray(values)))


def _image(path: Path) -> DenseReader:
    content = images.find(path)
    image = images.describe(path, content)
    axis, turned = ascending(image.x, path.name)
    rows, columns = bool(image.mapY[0] < image.mapY[-1]), bool(image.mapX[0] > image.mapX[-1])
    numbers = in_order(*image.spectra.shape[:2])
    numbers = numbers[:: -1 if rows else 1, :: -1 if columns else 1]
    flips = []
    if rows:
        flips.append("rows: the position on the stage grows from row to row, and upwards")
    if columns:
        flips.append("columns: the position on the stage falls from column to column")
    if turned:
        flips.append("channels: the file descends")
    info = cube_info(
        path,
        name=path.name.replace(".", "_"),
        axis=axis,
        dtype=native_dtype(image.spectra.dtype, path.name),
        numbers=np.ascontiguousarray(numbers),
        source=_source(path, content[0]),
        pixel_size=images.pixel_size(image),
        flips=flips,
    )
    return DenseReader(info, images.OpusImage(path, content, (rows, columns, turned)))


def _source(path: Path, quantity: str) -> dict[str, Any]:
    return {"format": "OPUS", "file": file_entry(path), "quantity": quantity}
