"""The checksums that an imzML file declares of its .ibd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from msicube.errors import CorruptSource
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.pair import find_ibd
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.scan import read_header

#: Bytes that are hashed at a time: milliseconds, so that waiting for the interpreter in between costs little.
HASH_BLOCK = 2**23


def verify_file(path: Path, between: Callable[[], None]) -> dict[str, str]:
    """Check the .ibd of a pair as its header asks for; no index is needed. See :func:`verify_ibd`."""
    return verify_ibd(path, find_ibd(path), read_header(path), between)


def verify_ibd(
    path: Path, ibd: Path, header: Header, between: Callable[[], None] | None = None
) -> dict[str, str]:
    """Check an .ibd against the strongest checksum that the XML declares.

    Parameters
    ----------
    path, ibd, header
        The pair, and what the XML says of it.
    between
        Called between blocks; it raises to end the check.

    Returns
    -------
    dict
        Name of each checksum that was met to its value, the strongest first.

    Raises
    ------
    CorruptSource
        The strongest is not met.
    """
    declared = {
        name: value.lower()
        for accession, name in cv.CHECKSUMS.items()
        if (value := header.value("fileContent", accession))
    }
    if not declared:
        return {}
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in declared}
    block = memoryview(bytearray(HASH_BLOCK))
    with ibd.open("rb", buffering=0) as file:
        while length := file.readinto(block):
            for algorithm in hashes.values():
                algorithm.update(block[:length])
            if between is not None:
                between()
    met = {name: value for name, value in declared.items() if hashes[name].hexdigest() == value}
    strongest = next(iter(declared))
    if strongest not in met:
        raise CorruptSource(
            f"{ibd.name} has the {strongest} {hashes[strongest].hexdigest()}, {path.name} declares "
            f"{declared[strongest]}: the file is damaged or was changed, copy it again"
        )
    return met
