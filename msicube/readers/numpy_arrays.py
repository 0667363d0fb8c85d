"""Cubes saved by NumPy (``.npy``, ``.npz``), with an axis in the .npz or beside the file."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from msicube.errors import CorruptSource, UnknownFormat
from msicube.readers.base import OnError
from msicube.readers.dense import SpectraSource
from msicube.readers.infrared import cube_info, file_entry, in_order, without_blanks
from msicube.readers.named_arrays import NamedArray, choose
from msicube.readers.packed import MAX_RATIO, Member, MemberReader, PackedCube, Stream
from msicube.readers.strided import Layout, StridedCube, check_size, native_dtype
from msicube.readers.wavenumbers import BESIDE

LOCAL_HEADER_BYTES = 30
MAX_HEADER_BYTES = 2**16


@dataclass(frozen=True)
class _Array:
    """An array in a file: its run of bytes, and where in them the values begin.

    Attributes
    ----------
    member
        The run.
    shape, dtype
        Of the array.
    fortran
        Its first axis runs fastest.
    start
        Byte of the first value in the content of the member.
    """

    member: Member
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    def load(self) -> np.ndarray[Any, Any]:
        """Read all of it."""
        with Stream(self.member) as stream:
            stream.skip(self.start)
            values = np.frombuffer(stream.read(int(np.prod(self.shape)) * self.dtype.itemsize), self.dtype)
        return values.reshape(self.shape, order="F" if self.fortran else "C")

    def spectra(self, *, turned: bool) -> SpectraSource:
        """Return it as a cube (y, x, channel)."""
        packed = self.member.wbits is not None
        offset = self.start if packed else self.member.at + self.start
        layout = Layout.of_array(self.dtype, self.shape, order="yxc", offset=offset, fortran=self.fortran)
        layout = layout.flipped(2) if turned else layout
        return PackedCube(self.member, layout) if packed else StridedCube(self.member.path, layout)


def main_file(path: Path) -> Path | None:
    """Return the file itself; None for an axis that lies beside another file."""
    return None if path.name.endswith(BESIDE) else path


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[MemberReader]:
    """Open an array, or every cube of an .npz; one slide each.

    Parameters
    ----------
    path
        The .npy or .npz.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        No array of real numbers (y, x, channel).
    AxisRequired
        No axis in the file or beside it.
    CorruptSource
        The file is damaged, or the axis is of another length.
    """
    arrays = _members(path) if path.suffix.lower() == ".npz" else {path.stem: _plain(path)}
    named = {name: NamedArray(a.shape, a.dtype, a.load) for name, a in arrays.items()}
    found = choose(path, named, also="save it as .npz with an array 'wavenumber' in cm^-1")
    readers = []
    for name in found.cubes:
        array = arrays[name]
        info = cube_info(
            path,
            name=found.slide_name(path, name),
            axis=found.axis,
            dtype=native_dtype(array.dtype, f"{path.name}, {name}"),
            numbers=in_order(*array.shape[:2]),
            source={
                "format": "NumPy",
                "file": file_entry(path),
                "array": name,
                "fortran_order": array.fortran,
            },
            pixel_size=found.pixel_size,
            flips=["channels: the file descends"] if found.turned else [],
            remarks=found.remarks,
        )
        spectra = array.spectra(turned=found.turned)
        readers.append(without_blanks(MemberReader(info, spectra, member=array.member)))
    return readers


def _plain(path: Path) -> _Array:
    """Describe the array of an .npy."""
    try:
        with path.open("rb") as file:
            array = _header(file, Member(path, 0, path.stat().st_size, None))
    except OSError as error:
        raise CorruptSource(f"cannot read {path}: {error.strerror}") from error
    check_size(path, array.start + _bytes(array), path.stat().st_size)
    return array


def _members(path: Path) -> dict[str, _Array]:
    """Describe the arrays of an .npz."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    found[entry.filename.removesuffix(".npy")] = _member(path, file, entry)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise CorruptSource(f"{path.name} is no whole .npz ({error}): copy it again") from error
    return found


def _member(path: Path, file: BinaryIO, entry: zipfile.ZipInfo) -> _Array:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise UnknownFormat(
            f"{path.name}: {entry.filename} is encrypted or not packed by deflate: save it again"
        )
    file.seek(entry.header_offset)
    local = file.read(LOCAL_HEADER_BYTES)
    if len(local) < LOCAL_HEADER_BYTES or local[:4] != b"PK\x03\x04":
        raise CorruptSource(f"{path.name}: {entry.filename} is not where its archive says: copy it again")
    names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    at = entry.header_offset + LOCAL_HEADER_BYTES + names
    wbits = -15 if entry.compress_type == zipfile.ZIP_DEFLATED else None
    member = Member(path, at, entry.compress_size, wbits, entry.CRC)
    if at + entry.compress_size > path.stat().st_size or entry.file_size > MAX_RATIO * (
        entry.compress_size + 1
    ):
        raise CorruptSource(
            f"{path.name}: {entry.filename} claims more bytes than the file can hold: copy it again"
        )
    with Stream(member) as stream:
        array = _header(io.BytesIO(stream.read_up_to(MAX_HEADER_BYTES)), member)
    if array.start + _bytes(array) != entry.file_size:
        raise CorruptSource(
            f"{path.name}: {entry.filename} has {entry.file_size} bytes, its header promises "
            f"{array.start + _bytes(array)}: the file is damaged, copy it again"
        )
    return array


def _header(file: BinaryIO | io.BytesIO, member: Member) -> _Array:
    """Read the header of an .npy.

    Raises
    ------
    CorruptSource
        It is none.
    """
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if any(n < 0 for n in shape) or dtype.hasobject:
            raise ValueError(f"an array of shape {shape} and type {dtype}")
    except Exception as error:  # damaged headers reach eval-like parsers, which raise what they like
        raise CorruptSource(
            f"{member.path.name} holds no whole NumPy array ({error}): copy it again"
        ) from error
    return _Array(member, tuple(shape), dtype, fortran, file.tell())


def _bytes(array: _Array) -> int:
    return int(np.prod(array.shape, dtype=object)) * array.dtype.itemsize
