"""The two files of an imzML source: found by their names, known as a pair by their UUID."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np

from msicube.errors import CorruptSource
from msicube.readers.base import OnError
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.tiles import IbdFile


def main_file(path: Path) -> Path | None:
    """Return the .imzML of a pair, given either file; None for an .ibd that stands alone."""
    return path if path.suffix.lower() == ".imzml" else _beside(path, ".imzML")


def find_ibd(path: Path) -> Path:
    """Return the binary file of an .imzML: the same name with ``.ibd`` in any case.

    Raises
    ------
    CorruptSource
        There is none.
    """
    found = _beside(path, ".ibd")
    if found is not None:
        return found
    raise CorruptSource(f"{path} has no .ibd beside it: expected {path.with_suffix('.ibd').name}")


def _beside(path: Path, ending: str) -> Path | None:
    """Return the file of the same name with another ending, in any case."""
    for candidate in (path.with_suffix(ending), path.with_suffix(ending.upper())):
        if candidate.is_file():
            return candidate
    alike = (c for c in path.parent.iterdir() if c.stem == path.stem)
    return next((c for c in alike if c.suffix.lower() == ending.lower()), None)


def check_uuid(path: Path, ibd: Path, header: Header, on_error: OnError) -> list[str]:
    """Compare the UUID of the XML with the first bytes of the .ibd; return what the report says of it."""
    declared = _plain_uuid(header.value("fileContent", cv.UUID) or "")
    if not declared:
        return ["no UUID: whether the .imzML and the .ibd are a pair cannot be known"]
    if ibd.stat().st_size < 16:
        raise CorruptSource(
            f"{ibd.name} has {ibd.stat().st_size} bytes, not even the 16 of a UUID: it is truncated"
        )
    head = np.empty(16, np.uint8)
    with IbdFile(ibd) as file:
        file.read_into(head, 0)
    found = head.tobytes()
    if found.hex() == declared:
        return []
    if UUID(bytes_le=found).hex == declared:
        return ["the .ibd has the UUID in the byte order of Windows: the same UUID"]
    message = f"{ibd.name} has the UUID {found.hex()}, {path.name} declares {declared}: they are not a pair"
    if on_error == "report":
        return [f"{message}; read all the same, because wrong sources are to be reported"]
    raise CorruptSource(message)


def _plain_uuid(text: str) -> str:
    return text.strip().strip("{}").replace("-", "").lower()
