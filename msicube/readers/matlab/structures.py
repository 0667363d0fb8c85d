"""Text in a structure of a MATLAB 5 to 7 file.

scipy reads structures too, but a damaged one can end the whole process there. What is needed is a table of characters.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msicube.errors import CorruptSource
from msicube.readers.packed import Member, Stream

STRUCTURE, MATRIX = 2, 14
MAX_BYTES = 2**24
#: Characters by the type they are written in; UTF-8 is ASCII in every table that programs write.
CODES = {1: "u1", 2: "u1", 4: "u2", 16: "u1", 17: "u2"}


@dataclass(frozen=True)
class _Parts:
    """The parts of an element, one after the other: type and content of each."""

    content: bytes
    endian: str

    def split(self) -> list[tuple[int, bytes]]:
        """Return the parts.

        Raises
        ------
        ValueError
            One leaves the element.
        """
        found, at = [], 0
        while at + 8 <= len(self.content):
            kind, length = struct.unpack_from(self.endian + "2I", self.content, at)
            start = at + 8
            if kind >> 16:  # a short part: type, length and content in eight bytes
                kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            if start + length > len(self.content):
                raise ValueError(f"a part of {length} bytes leaves its element")
            found.append((kind, self.content[start : start + length]))
            at = start + length + -(start + length) % 8
        return found


def text_lines(path: Path, member: Member, endian: str, field: str) -> list[str]:
    """Return the rows of a table of characters in a structure.

    Parameters
    ----------
    path
        The file, for messages.
    member
        The run of bytes that has the structure.
    endian
        ``"<"`` or ``">"``.
    field
        Its name in the structure.

    Raises
    ------
    CorruptSource
        The structure is damaged or has no such field of characters.
    """
    with Stream(member) as stream:
        content = bytes(stream.read_up_to(MAX_BYTES))
    try:
        ((_, whole),) = _Parts(content, endian).split()
        flags, _, _, width, names, *fields = _Parts(whole, endian).split()
        (size,) = struct.unpack(endian + "i", width[1])
        if struct.unpack(endian + "I", flags[1][:4])[0] & 0xFF != STRUCTURE:
            raise ValueError("it is no structure")
        titles = [
            names[1][at : at + size].rstrip(b"\0").decode("latin-1") for at in range(0, len(names[1]), size)
        ]
        kind, table = fields[titles.index(field)]
        if kind != MATRIX:
            raise ValueError(f"{field} is of type {kind}")
        return _rows(table, endian)
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise CorruptSource(
            f"{path.name}: the structure with {field} is damaged ({error}): export it again"
        ) from error


def _rows(table: bytes, endian: str) -> list[str]:
    """Return the rows of an array of characters, which lies column by column."""
    _, shape, _, (kind, text) = _Parts(table, endian).split()[:4]
    rows, columns = struct.unpack(endian + "2i", shape[1])
    codes = np.frombuffer(text, np.dtype(endian + CODES[kind]))
    if rows < 1 or codes.size != rows * columns:
        raise ValueError(f"{codes.size} characters in a table of {rows} x {columns}")
    return ["".join(map(chr, row)) for row in codes.reshape(columns, rows).T.tolist()]
