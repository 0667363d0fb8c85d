"""Compound files, the folders in a file of older Windows programs, in the least form that their readers need.

The layout is that of Microsoft's open specification [MS-CFB], version 3: sectors of 512 bytes after one of
header, a table that chains them (FAT), a directory of 128 bytes an entry, and streams of less than 4,096
bytes together in one stream of mini sectors of 64 bytes with a table of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

SECTOR, MINI_SECTOR, MINI_CUTOFF = 512, 64, 4096
#: The sector at which the mini sectors start. Fixed, because the readers of Agilent's files look at offsets
#: of the file.
MINI_START = 3

_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_RED, _BLACK = 0, 1
_ENTRIES_OF_A_SECTOR = SECTOR // 4
_MOST_FAT_SECTORS = 109
#: The directory fills what lies between the first table and the mini sectors.
_DIRECTORY_BYTES = (MINI_START - 1) * SECTOR
_MOST_ENTRIES = _DIRECTORY_BYTES // 128


@dataclass(frozen=True)
class Stream:
    """One stream.

    Attributes
    ----------
    path
        Names of its storages and its own.
    data
        What it holds.
    slack
        What lies behind the data up to the end of its last mini sector; programs leave there what was before.
    """

    path: tuple[str, ...]
    data: bytes
    slack: bytes = b""


@dataclass
class _Entry:
    """One row of the directory; the links are the numbers of other rows."""

    name: str
    kind: int
    colour: int = _BLACK
    left: int = _FREE
    right: int = _FREE
    child: int = _FREE
    start: int = 0
    size: int = 0

    def pack(self) -> bytes:
        name = self.name.encode("utf-16-le")
        length = len(name) + 2 if name else 0
        links = (length, self.kind, self.colour, self.left, self.right, self.child)
        return struct.pack("<64sHBBIII", name, *links) + bytes(36) + struct.pack("<IQ", self.start, self.size)


def compound_file(streams: Sequence[Stream]) -> bytes:
    """Return a compound file with the given streams, small ones in mini sectors in the order given.

    Parameters
    ----------
    streams
        At least one shorter than 4,096 bytes; of all storages and streams together at most seven.
    """
    entries, numbers = _directory(streams)
    mini = bytearray()
    mini_table: list[int] = []
    for stream in streams:
        size = len(stream.data)
        if size < MINI_CUTOFF:
            entry = entries[numbers[stream.path]]
            entry.start, entry.size = len(mini_table) if size else _END, size
            room = _round_up(size, MINI_SECTOR)
            mini += _padded(stream.data + stream.slack, MINI_SECTOR)[:room]
            mini_table += _chain(len(mini_table), room // MINI_SECTOR)
    table = _Table()
    fat_start = table.add(bytes(SECTOR))
    directory_start = table.add(bytes(_DIRECTORY_BYTES))
    entries[0].start, entries[0].size = table.add(bytes(mini)), len(mini)
    mini_fat = _packed_table(mini_table)
    mini_fat_start = table.add(mini_fat)
    for stream in streams:
        if len(stream.data) >= MINI_CUTOFF:
            entry = entries[numbers[stream.path]]
            entry.start, entry.size = table.add(stream.data), len(stream.data)
    unused = [_Entry("", 0, colour=_RED)] * (_MOST_ENTRIES - len(entries))
    table.replace(directory_start, b"".join(entry.pack() for entry in [*entries, *unused]))
    fat = table.close(fat_start)
    return _header(fat, directory_start, mini_fat_start, len(mini_fat) // SECTOR) + bytes(table.body)


class _Table:
    """Sectors and the table that chains them."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._next: list[int] = []

    def add(self, data: bytes) -> int:
        """Append a chain of sectors and return the number of its first."""
        padded = _padded(data, SECTOR)
        start = len(self._next)
        self._next += _chain(start, len(padded) // SECTOR)
        self.body += padded
        return start

    def replace(self, start: int, data: bytes) -> None:
        """Fill sectors that were added before, all in a row."""
        self.body[start * SECTOR : start * SECTOR + len(data)] = data

    def close(self, first: int) -> list[int]:
        """Write the table into its own sectors, the reserved one and as many more as it needs; return their numbers."""
        places = [first]
        while len(places) * _ENTRIES_OF_A_SECTOR < len(self._next):
            places.append(self.add(bytes(SECTOR)))
        assert len(places) <= _MOST_FAT_SECTORS, "a table of more sectors than the header names"
        for place in places:
            self._next[place] = _FAT
        packed = _packed_table(self._next)
        for number, place in enumerate(places):
            self.replace(place, packed[number * SECTOR : (number + 1) * SECTOR])
        return places


def _directory(streams: Sequence[Stream]) -> tuple[list[_Entry], dict[tuple[str, ...], int]]:
    """Return the rows of the directory, linked but without their places, and the row of each path."""
    entries = [_Entry("Root Entry", _ROOT)]
    numbers: dict[tuple[str, ...], int] = {(): 0}
    for stream in streams:
        for depth in range(1, len(stream.path) + 1):
            path = stream.path[:depth]
            if path not in numbers:
                numbers[path] = len(entries)
                entries.append(_Entry(path[-1], _STREAM if depth == len(stream.path) else _STORAGE))
    assert len(entries) <= _MOST_ENTRIES, "more entries than the directory holds"
    for path, number in numbers.items():
        inside = [
            other
            for name, other in numbers.items()
            if len(name) == len(path) + 1 and name[: len(path)] == path
        ]
        # The order of the specification: by length, then by upper case.
        inside.sort(key=lambda other: (len(entries[other].name), entries[other].name.upper()))
        entries[number].child = _tree(entries, inside, _BLACK)
    return entries, numbers


def _tree(entries: list[_Entry], ordered: list[int], colour: int) -> int:
    """Link entries into a binary tree, red below black, and return its root; at most three are balanced so."""
    if not ordered:
        return _FREE
    middle = len(ordered) // 2
    entry = entries[ordered[middle]]
    entry.colour = colour
    entry.left = _tree(entries, ordered[:middle], _RED)
    entry.right = _tree(entries, ordered[middle + 1 :], _RED)
    return ordered[middle]


def _header(fat: list[int], directory: int, mini_fat: int, mini_fat_sectors: int) -> bytes:
    versions = struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    counts = struct.pack(
        "<IIIIIIIII", 0, len(fat), directory, 0, MINI_CUTOFF, mini_fat, mini_fat_sectors, _END, 0
    )
    places = [*fat, *([_FREE] * (_MOST_FAT_SECTORS - len(fat)))]
    return _MAGIC + bytes(16) + versions + counts + struct.pack(f"<{_MOST_FAT_SECTORS}I", *places)


def _chain(start: int, count: int) -> list[int]:
    """Return what each of ``count`` sectors in a row says is next."""
    return [*range(start + 1, start + count), _END] if count else []


def _packed_table(following: list[int]) -> bytes:
    return _padded(struct.pack(f"<{len(following)}I", *following), SECTOR, b"\xff")


def _padded(data: bytes, unit: int, filler: bytes = b"\0") -> bytes:
    return data.ljust(_round_up(len(data), unit), filler)


def _round_up(size: int, unit: int) -> int:
    return ceil(size / unit) * unit
