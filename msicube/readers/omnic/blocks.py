"""What an OMNIC map holds, by the parsers of ftir_map (ftir-omnic-map-reader).

``ftir_map.read_omnic`` loads a map whole and copies its spectra up to three times. Its parsers of the directory, the
spectral header and the positions take any buffer, so here they are given the mapped file, and where the spectra lie is
worked out from the blocks as ``read_omnic`` does it. The tests hold both against each other.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, MSICubeError, UnknownFormat

MAGICS = (b"Spectral Data File", b"Spectral Exte File")


@dataclass(frozen=True)
class OmnicSpectra:
    """The spectra of a map, in the order of the file.

    Attributes
    ----------
    layout
        ``"classic"`` (a block for each spectrum) or ``"extended"`` (one block for all), as ftir_map calls them.
    quantity
        Such as ``"absorbance"``.
    wavenumbers
        ``(channel,)`` in the order of the file.
    places
        ``(spectrum,)`` int64: the byte at which the values of each begin.
    x, y
        ``(spectrum,)`` on the stage, in micrometre; y grows upwards.
    n_series
        Number of blocks of spectra; the first is read.
    """

    layout: str
    quantity: str
    wavenumbers: NDArray[np.float64]
    places: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n_series: int = 1


def library() -> ModuleType:
    """Return ``ftir_map.omnic``.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        import ftir_map.omnic
    except ImportError as error:
        raise MissingDependency(
            "maps of OMNIC need ftir-omnic-map-reader: pip install 'msicube[ftir]'"
        ) from error
    return ftir_map.omnic  # type: ignore[no-any-return,unused-ignore]


def parse(path: Path) -> OmnicSpectra:
    """Find out what a map holds; no spectrum is read.

    Raises
    ------
    MissingDependency
        ftir_map is not installed.
    UnknownFormat
        There are no spectra over wavenumbers, or no positions.
    CorruptSource
        The file is damaged.
    """
    omnic = library()
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            np.errstate(over="ignore", invalid="ignore"),
        ):
            return _parse(omnic, mapped, path.name)
    except MSICubeError:
        raise
    except Exception as error:  # ftir_map hands on whatever a damaged file leads it to
        raise CorruptSource(
            f"{path.name} cannot be read as a map of OMNIC ({type(error).__name__}: {error}): it is damaged, copy it "
            f"again"
        ) from error


def _parse(omnic: ModuleType, mapped: mmap.mmap, name: str) -> OmnicSpectra:
    layout, blocks = omnic.read_directory(mapped)
    headers = _found(blocks, omnic.KEY_SPECTRAL_HEADER)
    if not headers:
        raise CorruptSource(f"{name} has no header of its spectra: it is damaged, copy it again")
    header = omnic.parse_spectral_header(
        mapped, next((b for b in headers if b.index == 1), headers[0]).offset
    )
    if header.x_units != "cm-1":
        raise UnknownFormat(
            f"{name}: the axis of its {header.data_kind} is in {header.x_units}, expected cm-1: save the map as "
            f"spectra over wavenumbers in OMNIC"
        )
    if not 0 < 4 * header.n_points <= len(mapped):
        raise CorruptSource(
            f"{name}: spectra of {header.n_points} points do not fit into a file of {len(mapped)} bytes: copy it again"
        )
    quantity, n_series = header.data_kind, 1
    if layout == "extended":
        series = _found(blocks, omnic.KEY_SERIES)
        quantity, places = _series(omnic, mapped, series, header.n_points, name)
        n_series = len(series)
    else:
        places = _single(_found(blocks, omnic.KEY_DATA), header.n_points, name)
    x, y = _positions(omnic, mapped, blocks, len(places), name)
    axis = np.linspace(header.first_x, header.last_x, header.n_points)
    return OmnicSpectra(layout, quantity, axis, places, x, y, n_series)


def _found(blocks: list[Any], key: int) -> list[Any]:
    return [block for block in blocks if block.key == key]


def _no_spectra(name: str) -> UnknownFormat:
    return UnknownFormat(f"{name} holds no spectra: a mosaic of images, or an empty map")


def _series(
    omnic: ModuleType, mapped: mmap.mmap, series: list[Any], n_points: int, name: str
) -> tuple[str, NDArray[np.int64]]:
    """Return quantity and places of spectra that lie in one block, each after a header."""
    if not series:
        raise _no_spectra(name)
    block = series[0]
    header = omnic.parse_spectral_header(mapped, block.offset)
    before = omnic.SPECTRUM_HEADER_SIZE + omnic.SERIES_RECORD_PAD
    record = before + 4 * n_points
    count, rest = divmod(block.size - omnic.SERIES_PREFIX, record)
    if header.n_points != n_points or rest or count < 1:
        raise CorruptSource(
            f"{name}: its block of spectra has {block.size} bytes and spectra of {header.n_points} points, expected "
            f"{omnic.SERIES_PREFIX} bytes and {record} for each spectrum of {n_points} points: copy the file again"
        )
    first = block.offset + omnic.SERIES_PREFIX + before
    return header.data_kind, first + record * np.arange(count, dtype=np.int64)


def _single(blocks: list[Any], n_points: int, name: str) -> NDArray[np.int64]:
    """Return the places of spectra that have a block each; number 0 is the background."""
    spectra = sorted((block for block in blocks if block.index >= 1), key=lambda block: int(block.index))
    if not spectra:
        raise _no_spectra(name)
    for block in spectra:
        if block.size != 4 * n_points:
            raise CorruptSource(
                f"{name}: spectrum {block.index} (from 1) has {block.size} bytes, {n_points} points need "
                f"{4 * n_points}: copy the file again"
            )
    return np.array([block.offset for block in spectra], np.int64)


def _positions(
    omnic: ModuleType, mapped: mmap.mmap, blocks: list[Any], count: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of every spectrum, which the point arrays of number 1 hold."""
    own = [block for block in _found(blocks, omnic.KEY_POINT_ARRAYS) if block.index == 1]
    if sum(block.size for block in own) > len(mapped):
        raise CorruptSource(f"{name}: its blocks of positions are longer than the file: copy it again")
    arrays = [array for _, kind, array in omnic.parse_point_arrays(mapped, own) if kind == omnic.POINT_XY]
    fitting = [array for array in arrays if len(array) == count]
    if not fitting:
        raise CorruptSource(
            f"{name} has {count} spectra and positions of {[len(array) for array in arrays] or 'none'}: expected one x "
            f"and y for each spectrum; export the map from OMNIC as an ENVI image (.hdr and .img)"
        )
    if not np.isfinite(fitting[-1]).all():
        raise CorruptSource(f"{name}: positions of its spectra are not finite: copy the file again")
    return fitting[-1][:, 0], fitting[-1][:, 1]
