"""What readers of infrared images share: the description of a cube, and pixels that hold no measurement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from msicube.axis import OBSERVED
from msicube.errors import CorruptSource
from msicube.readers.base import CubeInfo, PixelSize
from msicube.readers.dense import DenseReader, geometry
from msicube.readers.naming import name_spectra
from msicube.tiling import Window, windows

Reader = TypeVar("Reader", bound=DenseReader)

#: Values that are held at a time in the search for blank pixels.
STRIP_VALUES = 2**22


def cube_info(
    path: Path,
    *,
    axis: NDArray[np.float64],
    dtype: np.dtype[Any],
    numbers: NDArray[np.int64],
    source: dict[str, Any],
    name: str | None = None,
    pixel_size: PixelSize | None = None,
    flips: Iterable[str] = (),
    remarks: Iterable[str] = (),
) -> CubeInfo:
    """Describe an infrared cube that states its axis.

    Parameters
    ----------
    path
        The file that stands for the source.
    axis
        ``(channel,)`` ascending wavenumbers in cm^-1.
    dtype
        Of the values.
    numbers
        ``(y, x)`` of the spectra in the file, -1 where there is none.
    source
        What else the format tells.
    name
        Of the slide; the file's without its ending by default.
    pixel_size
        None where the source does not say.
    flips
        In which way the file has it otherwise; see :func:`msicube.readers.dense.geometry`.
    remarks
        For the conversion report.
    """
    if pixel_size is None:
        remarks = [*remarks, "no pixel size: y and x are pixel numbers"]
    return CubeInfo(
        name=name or path.stem,
        modality="ftir",
        axis=axis,
        dtype=dtype,
        acquired=numbers >= 0,
        spectrum_index=numbers,
        pixel_size=pixel_size,
        source={**source, "geometry": geometry(flips=flips)},
        axis_law=OBSERVED,
        remarks=tuple(remarks),
        masked=0,
    )


def in_order(ny: int, nx: int) -> NDArray[np.int64]:
    """Return the numbers of spectra that follow each other row by row."""
    return np.arange(ny * nx, dtype=np.int64).reshape(ny, nx)


def file_entry(path: Path) -> dict[str, Any]:
    """Return what is written down of a file."""
    return {"name": path.name, "bytes": path.stat().st_size}


def head(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, by which formats are told apart.

    Raises
    ------
    CorruptSource
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise CorruptSource(f"cannot read {path}: {error.strerror}") from error


def without_blanks(reader: Reader, *, blank: float = np.nan, may_be_empty: bool = False) -> Reader:
    """Mask the pixels whose spectra are NaN, or another value that stands for nothing, in every channel.

    A pixel that was not measured is blank in every channel, so only those that are blank in the first are read whole:
    where the format can cut out a channel, this costs one of them. Spectra that are NaN in some channels are kept as
    they are; those that are in the first are counted.

    Parameters
    ----------
    reader
        Of the whole cube.
    blank
        What stands where nothing was measured.
    may_be_empty
        That no spectrum is left is no error.

    Raises
    ------
    CorruptSource
        No spectrum is left.
    """
    info = reader.info
    assert info.axis is not None
    if info.dtype.kind != "f" and np.isnan(blank):
        return reader
    doubtful = np.zeros(info.shape, bool)
    for window in _strips(info.shape, 1):
        first = reader.spectra.read(window, slice(0, 1))[..., 0]
        doubtful[window.slices] = _is_blank(first, blank) & info.acquired[window.slices]
    empty = np.zeros_like(doubtful)
    for window in _strips(info.shape, len(info.axis)) if doubtful.any() else ():
        if doubtful[window.slices].any():
            values = reader.spectra.read(window, slice(0, len(info.axis)))
            empty[window.slices] = doubtful[window.slices] & _is_blank(values, blank).all(axis=2)
    partly = int(doubtful.sum() - empty.sum())
    remarks = [*info.remarks]
    word = "NaN" if np.isnan(blank) else f"the ignored value {blank:g}"
    if empty.any():
        named = name_spectra(np.sort(info.spectrum_index[empty]).tolist())
        remarks.append(f"{named} masked: {word} in every channel, which is no measurement")
    if partly:
        some = "spectrum is" if partly == 1 else "spectra are"
        remarks.append(f"{partly} {some} {word} in the first channel and not in all: kept as they are")
    acquired = info.acquired & ~empty
    if not (may_be_empty or acquired.any()):
        raise CorruptSource(f"{info.name}: none of its {info.n_spectra} spectra holds a number")
    found = replace(
        info,
        acquired=acquired,
        spectrum_index=np.where(acquired, info.spectrum_index, -1),
        masked=info.masked + int(empty.sum()),
        remarks=tuple(remarks),
    )
    return replace(reader, info=found)


def _strips(shape: tuple[int, int], n_channels: int) -> list[Window]:
    """Cut a cube into windows of a bounded number of values, whole rows as long as they fit."""
    pixels = max(1, STRIP_VALUES // n_channels)
    return windows(shape, (max(1, pixels // shape[1]), min(shape[1], pixels)))


def _is_blank(values: NDArray[Any], blank: float) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isnan(values) if np.isnan(blank) else np.equal(values, blank)
    return found
