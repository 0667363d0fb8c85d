"""From a MATLAB file to cubes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msicube.errors import CorruptSource
from msicube.readers import hdf5
from msicube.readers.base import OnError
from msicube.readers.dense import DenseReader, SpectraSource
from msicube.readers.infrared import cube_info, file_entry, head, in_order, without_blanks
from msicube.readers.matlab.cytospec import CUBE, INFO, FileInfo, block_name
from msicube.readers.matlab.mat5 import Other, Variable, variables
from msicube.readers.matlab.structures import text_lines
from msicube.readers.named_arrays import NamedArray, choose, held
from msicube.readers.packed import Member, MemberReader
from msicube.readers.strided import native_dtype
from msicube.readers.wavenumbers import ascending

MAX_CHANNELS = 2**20
CYTOSPEC_COLUMNS = "CytoSpec gives no direction of y: its second index is taken as rows from the top"


@dataclass(frozen=True)
class _MatFile:
    """A .mat of either kind: its arrays with the axes as MATLAB has them, and how a cube of one is read.

    Attributes
    ----------
    version
        As MATLAB calls it.
    arrays
        Of numbers, by name.
    info_lines
        Reads the lines of ``Info.File``; None where there is no ``Info``.
    spectra
        ``(name, order, turned, block)`` gives the source of a cube.
    member
        Run of bytes of a variable; None in HDF5.
    """

    version: str
    arrays: dict[str, NamedArray]
    info_lines: Callable[[], list[str]] | None
    spectra: Callable[[str, str, bool, int], SpectraSource]
    member: Callable[[str], Member | None]


def main_file(path: Path) -> Path | None:
    """Return the file itself: it holds everything."""
    return path


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open a file of CytoSpec, one slide for each block of data, or any other, one slide for each cube.

    Parameters
    ----------
    path
        The .mat.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        No MATLAB file of version 5 or later, or none with a cube (y, x, channel) of real numbers.
    AxisRequired
        No axis in the file or beside it.
    CorruptSource
        The file is damaged or contradicts itself.
    MissingDependency
        A file of version 7.3, and h5py is not installed.
    """
    start = head(path, 520)
    mat = _version_73(path) if hdf5.MAGIC in (start[:8], start[512:]) else _version_5(path)
    cube = mat.arrays.get(CUBE)
    if cube is not None and mat.info_lines is not None and len(cube.shape) in (3, 4):
        return _cytospec(path, mat, cube)
    return _plain(path, mat)


def _cytospec(path: Path, mat: _MatFile, cube: NamedArray) -> list[DenseReader]:
    assert mat.info_lines is not None
    if 0 in cube.shape:
        raise CorruptSource(
            f"{path.name}: the cube {CUBE} of shape {cube.shape} is empty: export the file again"
        )
    nx, ny, n_channels, n_blocks = (*cube.shape, 1)[:4]
    info = FileInfo.of_lines(mat.info_lines(), path.name)
    axis, turned = ascending(info.axis((nx, ny, n_channels)), path.name)
    readers: list[DenseReader] = []
    empty: list[str] = []
    for block in range(n_blocks):
        described = cube_info(
            path,
            name=path.stem if n_blocks == 1 else f"{path.stem}_b{block + 1}",
            axis=axis,
            dtype=native_dtype(cube.dtype, path.name),
            # CytoSpec counts along x first, as Fortran does.
            numbers=in_order(ny, nx),
            source={
                **_source(path, mat, CUBE),
                "program": "CytoSpec",
                "block": {"number": block + 1, "of": n_blocks, "holds": block_name(block)},
                "file_info": {key: value for key, value in info.values.items() if value},
            },
            flips=["channels: the file descends"] if turned else [],
            remarks=[CYTOSPEC_COLUMNS],
        )
        reader = MemberReader(described, mat.spectra(CUBE, "xyc", turned, block), member=mat.member(CUBE))
        found = without_blanks(reader, may_be_empty=True)
        if found.info.n_spectra:
            readers.append(found)
        else:
            empty.append(f"block {block + 1} ({block_name(block)}) holds no number: left out")
    if not readers:
        raise CorruptSource(f"{path.name}: none of its {n_blocks} blocks holds a number")
    return [replace(r, info=replace(r.info, remarks=(*r.info.remarks, *empty))) for r in readers]


def _plain(path: Path, mat: _MatFile) -> list[DenseReader]:
    found = choose(
        path, mat.arrays, also="save it as a variable 'wavenumber' in cm^-1 with the cube (y, x, channel)"
    )
    readers: list[DenseReader] = []
    for name in found.cubes:
        shape = mat.arrays[name].shape
        info = cube_info(
            path,
            name=found.slide_name(path, name),
            axis=found.axis,
            dtype=native_dtype(mat.arrays[name].dtype, f"{path.name}, {name}"),
            numbers=in_order(*shape[:2]),
            source=_source(path, mat, name),
            pixel_size=found.pixel_size,
            flips=["channels: the file descends"] if found.turned else [],
            remarks=found.remarks,
        )
        spectra = mat.spectra(name, "yxc", found.turned, 0)
        readers.append(without_blanks(MemberReader(info, spectra, member=mat.member(name))))
    return readers


def _source(path: Path, mat: _MatFile, variable: str) -> dict[str, Any]:
    return {"format": "MATLAB", "file": file_entry(path), "version": mat.version, "variable": variable}


def _version_5(path: Path) -> _MatFile:
    found = variables(path)
    numeric = {name: variable for name, variable in found.items() if isinstance(variable, Variable)}
    info = found.get(INFO)
    return _MatFile(
        "5 to 7",
        {name: NamedArray(v.shape, v.dtype, v.load) for name, v in numeric.items()},
        (lambda: text_lines(path, info.member, info.endian, "File")) if isinstance(info, Other) else None,
        lambda name, order, turned, block: numeric[name].spectra(order, turned=turned, block=block),
        lambda name: numeric[name].member if numeric[name].member.wbits is not None else None,
    )


def _version_73(path: Path) -> _MatFile:
    """Describe a file of version 7.3: HDF5 with the axes in reverse order."""
    with hdf5.opened(path) as file:
        # What MATLAB keeps for itself is named with a #; a vector longer than that is no axis.
        stored = {
            name: a
            for name, a in hdf5.named_arrays(file).items()
            if "#" not in name and not (a.is_vector and max(a.shape) > MAX_CHANNELS)
        }
        # Vectors are read while the file is open.
        small = {name: a.load() for name, a in stored.items() if a.is_vector}
        has_info = INFO in file and "File" in file[INFO]
        lines = _lines_73(file) if has_info else []
    arrays = {
        name: NamedArray(a.shape[::-1], a.dtype, held(small[name]) if name in small else a.load)
        for name, a in stored.items()
    }
    for name, array in arrays.items():
        if len(array.shape) in (3, 4):
            hdf5.check_grid(path, name, array.shape[:2])

    def spectra(name: str, order: str, turned: bool, block: int) -> SpectraSource:
        shape = arrays[name].shape
        letters = (order + "b")[: len(shape)][::-1]
        return hdf5.Hdf5Cube(path, name, letters, shape[2], turned, block)

    return _MatFile("7.3", arrays, (lambda: lines) if has_info else None, spectra, lambda name: None)


def _lines_73(file: Any) -> list[str]:
    """Read ``Info.File``: UTF-16 units, one column of the data set a line."""
    table = file[INFO]["File"]
    if table.ndim != 2 or table.size > 2**20:
        raise CorruptSource(f"{file.filename}: {INFO}.File of shape {table.shape} is no table of characters")
    return ["".join(map(chr, column)) for column in np.asarray(table[()]).T.tolist()]
