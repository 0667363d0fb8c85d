"""The variables of a MATLAB 5 to 7 file: names, shapes, and where their values lie.

A file is a header of 128 bytes and elements, each with a tag of type and length; an element is a variable, or a zlib
stream that holds one (The MathWorks, *MAT-File Format*, 2023). Values are in Fortran order. Nothing is loaded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, UnknownFormat
from msicube.readers.packed import MAX_RATIO, Member, PackedCube, Stream
from msicube.readers.strided import Layout, StridedCube

HEADER_BYTES = 128
MATRIX, PACKED = 14, 15
MAX_NAME = 2**10
MAX_AXES = 32
COMPLEX = 0x08
#: Types by their number: of the values as they are written, and of the variable as MATLAB has it.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}


@dataclass(frozen=True)
class Variable:
    """A variable of numbers.

    Attributes
    ----------
    shape
        Of the array.
    dtype
        As MATLAB has it: complex where there is an imaginary part.
    stored
        As the values are written; MATLAB writes whole numbers as small as they go.
    member
        The run of bytes that has it.
    start
        Byte of the first value in the content of the member.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    member: Member
    start: int

    def load(self) -> NDArray[Any]:
        """Read all of it."""
        count = int(np.prod(self.shape))
        with Stream(self.member) as stream:
            stream.skip(self.start)
            values = np.frombuffer(stream.read(count * self.stored.itemsize), self.stored)
        return values.reshape(self.shape, order="F").astype(self.dtype)

    def spectra(self, order: str, *, turned: bool, block: int = 0) -> PackedCube | StridedCube:
        """Return a block of it as a cube.

        Parameters
        ----------
        order
            Of the first three axes, by letter.
        turned
            The channels descend.
        block
            Number along a fourth axis.
        """
        shape = self.shape[:3]
        packed = self.member.wbits is not None
        offset = self.start + block * int(np.prod(shape)) * self.stored.itemsize
        offset = offset if packed else offset + self.member.at
        layout = Layout.of_array(self.stored, shape, order=order, offset=offset, fortran=True)
        layout = layout.flipped(2) if turned else layout
        return PackedCube(self.member, layout) if packed else StridedCube(self.member.path, layout)


@dataclass(frozen=True)
class Other:
    """A variable that is no array of numbers: text, a cell array, a structure.

    Attributes
    ----------
    member
        The run of bytes that has it.
    endian
        ``"<"`` or ``">"``.
    """

    member: Member
    endian: str


def variables(path: Path) -> dict[str, Variable | Other]:
    """Return the variables of a file by name.

    Raises
    ------
    UnknownFormat
        No MATLAB file of version 5 to 7.
    CorruptSource
        An element is damaged or leaves the file.
    """
    size = path.stat().st_size
    found: dict[str, Variable | Other] = {}
    try:
        with path.open("rb") as file:
            endian = _byte_order(file.read(HEADER_BYTES), path.name)
            at = HEADER_BYTES
            while at + 8 <= size:
                file.seek(at)
                kind, length = struct.unpack(endian + "2I", file.read(8))
                if kind not in (MATRIX, PACKED) or at + 8 + length > size:
                    raise CorruptSource(
                        f"{path.name}: the element at byte {at} is of type {kind} and {length} bytes, in a file of "
                        f"{size}: it is truncated or damaged, copy it again"
                    )
                member = (
                    Member(path, at + 8, length, 15) if kind == PACKED else Member(path, at, 8 + length, None)
                )
                name, variable = _Element(member, endian).parse()
                found[name] = variable
                at += 8 + length
    except OSError as error:
        raise CorruptSource(f"cannot read {path}: {error.strerror}") from error
    return found


def _byte_order(header: bytes, name: str) -> str:
    mark = header[124:128]
    for endian, signature in (("<", b"\x00\x01IM"), (">", b"\x01\x00MI")):
        if mark == signature:
            return endian
    raise UnknownFormat(
        f"{name} is no MATLAB file of version 5 to 7.3: save it with save(..., '-v7') or '-v7.3'"
    )


class _Element:
    """A variable, read tag by tag from the beginning of its member."""

    def __init__(self, member: Member, endian: str) -> None:
        self.member, self.endian, self.at = member, endian, 0

    def parse(self) -> tuple[str, Variable | Other]:
        """Return the name and the variable."""
        name = self.member.path.name
        with Stream(self.member) as stream:
            kind, length = self._numbers(stream, "2I")
            if kind != MATRIX:
                raise CorruptSource(f"{name}: an element holds type {kind}, no variable: the file is damaged")
            flags = self._sub(stream, 8)
            axes = self._sub(stream, 4 * MAX_AXES)
            title = self._sub(stream, MAX_NAME).decode("latin-1")
            if len(flags) < 8 or len(axes) < 8:
                raise CorruptSource(
                    f"{name}: the variable {title!r} has no shape: the file is damaged, copy it again"
                )
            (word,) = struct.unpack(self.endian + "I", flags[:4])
            if word & 0xFF not in CLASSES:
                return title, Other(self.member, self.endian)
            shape = struct.unpack(f"{self.endian}{len(axes) // 4}i", axes[: len(axes) // 4 * 4])
            stored, count = self._tag(stream)
        dtype = np.dtype(CLASSES[word & 0xFF])
        variable = self._variable(title, shape, stored, count, length + 8)
        if word >> 8 & COMPLEX:
            return title, Variable(shape, np.dtype("c16"), variable.stored, self.member, variable.start)
        return title, Variable(shape, dtype, variable.stored, self.member, variable.start)

    def _variable(self, title: str, shape: tuple[int, ...], stored: int, count: int, length: int) -> Variable:
        """Check that the values are as many as the shape says, and inside of the element."""
        dtype = np.dtype(self.endian + STORED[stored]) if stored in STORED else None
        if min(shape) < 0 or dtype is None or int(np.prod(shape, dtype=object)) * dtype.itemsize != count:
            raise CorruptSource(
                f"{self.member.path.name}: the variable {title!r} of shape {shape} has {count} bytes of type {stored}: "
                f"the file is damaged, copy it again"
            )
        room = length if self.member.wbits is None else min(length, MAX_RATIO * (self.member.length + 1))
        if self.at + count > room:
            raise CorruptSource(
                f"{self.member.path.name}: the values of {title!r} leave their element: the file is damaged, "
                f"copy it again"
            )
        return Variable(shape, dtype, dtype, self.member, self.at)

    def _sub(self, stream: Stream, limit: int) -> bytes:
        """Return the content of a small part, and pass over what fills it up to eight bytes."""
        _, length = self._tag(stream)
        if length > limit:
            raise CorruptSource(
                f"{self.member.path.name}: a part of {length} bytes, expected at most {limit}: damaged"
            )
        content = bytes(stream.read(length))
        # After a short tag the content lies in the tag's own eight bytes.
        filled = -(self.at + length) % 8
        stream.skip(filled)
        self.at += length + filled
        return content

    def _tag(self, stream: Stream) -> tuple[int, int]:
        """Return type and length; of a short tag the content follows in its last four bytes."""
        (word,) = self._numbers(stream, "I")
        if word >> 16:
            return word & 0xFFFF, word >> 16
        (length,) = self._numbers(stream, "I")
        return word, length

    def _numbers(self, stream: Stream, form: str) -> tuple[int, ...]:
        content = stream.read(struct.calcsize(form))
        self.at += len(content)
        return struct.unpack(self.endian + form, content)
