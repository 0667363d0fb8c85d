"""Thermo OMNIC maps (``.map``): known, and not read.

Two libraries read them, PyMca5 and ftir-omnic-map-reader; see docs/ftir-formats.md for why neither is used.
"""

from __future__ import annotations

from pathlib import Path

from msicube.errors import UnknownFormat
from msicube.readers.base import CubeReader, OnError
from msicube.readers.infrared import head

MAGICS = (b"Spectral Data File", b"Spectral Exte File")


def main_file(path: Path) -> Path | None:
    """Return the file itself where it is a map of OMNIC; None for the other files that end in ``.map``."""
    return path if head(path, 18) in MAGICS else None


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[CubeReader]:
    """Say what to do instead.

    Raises
    ------
    UnknownFormat
        Always.
    """
    raise UnknownFormat(
        f"{path.name} is a map of Thermo OMNIC, which msicube does not read: export it from OMNIC as an ENVI "
        f"image (.hdr and .img), which it does"
    )
