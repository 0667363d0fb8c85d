"""Keeping the table of an imzML file, so that the second opening needs no XML.

A cache file belongs to one pair in one state: sizes, times of change, the UUID and the ends of the XML. It carries a
CRC-32C of all its bytes; one that is damaged, of another version or of another state counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from msicube.readers.imzml.params import Param
from msicube.readers.imzml.rows import Header, SpectrumRow, SpectrumTable
from msicube.readers.imzml.scan import scan

#: Where caches go: a folder, ``beside`` the source, or ``off``. Unset is ``$XDG_CACHE_HOME/msicube``.
VARIABLE = "MSICUBE_INDEX_CACHE"
#: Raised by whoever changes what the XML path makes of a file.
VERSION = 1
#: A smaller XML file is read as fast as its cache.
MIN_BYTES = 4 * 2**20

_MAGIC = b"msicube imzML index\n"
_END_BYTES = 2**16


def cached_scan(path: Path, ibd: Path, *, cache: str | None = None) -> tuple[Header, SpectrumTable]:
    """Return what :func:`~msicube.readers.imzml.scan.scan` returns, from the cache where it is current.

    Parameters
    ----------
    path, ibd
        The pair.
    cache
        A folder, ``"beside"`` or ``"off"``; None takes the environment variable ``MSICUBE_INDEX_CACHE``, and without
        it the folder ``$XDG_CACHE_HOME/msicube`` (``~/.cache/msicube``).
    """
    places = cache_files(path, cache)
    if not places or path.stat().st_size < MIN_BYTES:
        return scan(path)
    state = _state(path, ibd)
    for place in places:
        found = _load(place, state)
        if found is not None:
            return found
    header, table = scan(path)
    if _state(path, ibd) == state:
        data = _pack(state, header, table)
        # A cache that cannot be written is no reason to fail: the next opening takes as long as this one.
        for place in places:
            with suppress(OSError):
                _write(place, data)
                break
    return header, table


def cache_files(path: Path, cache: str | None = None) -> list[Path]:
    """Return where the cache of a file can lie, the preferred place first; empty where caches are off."""
    choice = cache or os.environ.get(VARIABLE) or ""
    if choice == "off":
        return []
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msicube"
    folder = Path(choice) if choice not in ("", "beside") else base
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:40]
    places = [folder / f"{name}.imzml-index"]
    if choice == "beside":
        places.insert(0, path.with_name(f".{path.name}.msicube-index"))
    return places


def _state(path: Path, ibd: Path) -> dict[str, Any]:
    """Return what a cache must agree with."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    with ibd.open("rb") as file:
        uuid = file.read(16).hex()
    stats = [path.stat(), ibd.stat()]
    return {
        "version": VERSION,
        "fields": list(SpectrumRow._fields),
        "sizes": [stat.st_size for stat in stats],
        "changed": [stat.st_mtime_ns for stat in stats],
        "uuid": uuid,
        "ends": digest.hexdigest(),
    }


def _pack(state: dict[str, Any], header: Header, table: SpectrumTable) -> bytes:
    """Return a cache file: columns that never change are one number in its head."""
    constant = {
        number: int(column[0]) for number, column in enumerate(table.columns) if (column == column[0]).all()
    }
    varying = [column for number, column in enumerate(table.columns) if number not in constant]
    head = json.dumps(
        {
            "state": state,
            "header": asdict(header),
            "spectra": len(table),
            "constant": constant,
            "faults": {message: numbers.tolist() for message, numbers in table.faults.items()},
            "rounded": table.rounded.tolist(),
        },
        default=sorted,  # sets
    ).encode()
    body = np.array(varying, "<i8").tobytes()
    data = b"".join([_MAGIC, len(head).to_bytes(8, "little"), head, body])
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def _load(place: Path, state: dict[str, Any]) -> tuple[Header, SpectrumTable] | None:
    """Return what a cache file holds; None where it is missing, damaged, or of another state."""
    try:
        return _unpack(place.read_bytes(), state)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _unpack(data: bytes, state: dict[str, Any]) -> tuple[Header, SpectrumTable] | None:
    start = len(_MAGIC) + 8
    if not data.startswith(_MAGIC) or int.from_bytes(data[-4:], "little") != google_crc32c.value(
        memoryview(data)[:-4].tobytes()
    ):
        return None
    end = start + int.from_bytes(data[start - 8 : start], "little")
    head = json.loads(data[start:end])
    if head["state"] != state:
        return None
    return _header(head["header"]), _table(head, np.frombuffer(data[end:-4], "<i8"))


def _table(head: dict[str, Any], body: np.ndarray) -> SpectrumTable:
    columns = np.empty((len(SpectrumRow._fields), head["spectra"]), np.int64)
    constant = {int(number): value for number, value in head["constant"].items()}
    varying = iter(body.reshape(-1, head["spectra"]))
    for number in range(len(columns)):
        columns[number] = constant[number] if number in constant else next(varying)
    faults = {message: np.array(numbers, np.int64) for message, numbers in head["faults"].items()}
    return SpectrumTable(columns, faults, np.array(head["rounded"], np.int64))


def _header(document: dict[str, Any]) -> Header:
    sets = ("representation", "polarity", "contradictions", "arrays", "positions")
    return Header(
        sections={name: [Param(*p) for p in params] for name, params in document["sections"].items()},
        settings=[(name, [Param(*p) for p in params]) for name, params in document["settings"]],
        settings_ref=document["settings_ref"],
        declared=document["declared"],
        **{name: set(document[name]) for name in sets},
    )


def _write(place: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=place.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(place)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
