"""Building something in a study so that it appears whole or not at all.

On a local disk a draft is built in ``<study>.partial/`` beside the study and appears by one rename. An object store
cannot rename: there a draft is built in place and its own ``zarr.json``, without which no reader sees it, comes last.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msicube.store.location import TEMPORARY, Location

METADATA = "zarr.json"
#: Of ``renameat2`` of Linux: paths are relative to the current folder, and both names exist and change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def array_metadata(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    chunks: tuple[int, ...],
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
    fill_value: Any = 0,
    shards: tuple[int, ...] | None = None,
    codec: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the ``zarr.json`` of an array, as zarr-python writes it.

    Parameters
    ----------
    shape, dtype, chunks, shards, dims, attrs, fill_value
        Of the array.
    codec
        Arguments of ``zarr.create_array`` that name the compression; Zstandard of level 1 by default.
    """
    import zarr

    store: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(store),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        dimension_names=dims,
        attributes=dict(attrs),
        fill_value=fill_value,
        zarr_format=3,
        **(codec or {"compressors": [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}]}),
    )
    return bytes(store[METADATA].to_bytes())


def group_metadata(attrs: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attrs)}
    return json.dumps(document, indent=2, allow_nan=False).encode()


def read_attrs(location: Location) -> dict[str, Any] | None:
    """Return the attributes of a group or array, or None where there is none."""
    data = location_metadata(location)
    return None if data is None else dict(data.get("attributes", {}))


def location_metadata(location: Location) -> dict[str, Any] | None:
    """Return the parsed ``zarr.json`` of a node, or None where there is none."""
    data = (location / METADATA).get()
    return None if data is None else json.loads(data)


def work_folder(study: Location) -> Location:
    """Return the folder beside a local study where drafts, manifests and the lock live."""
    return study.sibling(".partial")


@dataclass(frozen=True)
class Draft:
    """A node of a study under construction.

    Attributes
    ----------
    final
        Where it will be.
    work
        Where it is built: the same place on an object store.
    """

    final: Location
    work: Location

    @classmethod
    def of(cls, study: Location, path: str) -> Draft:
        """Return the draft of a node, ``path`` relative to the study."""
        final = study / path
        return cls(final, final if study.local is None else work_folder(study) / path)

    def commit(self, metadata: bytes) -> None:
        """Write the node's own metadata and let it appear; an older node of this name is replaced."""
        self.sweep()  # a worker that died in the middle of a write has left its half, and another wrote the object
        (self.work / METADATA).put(metadata)
        source, target = self.work.local, self.final.local
        if source is None or target is None:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _exchange(source, target):
            _sync_folder(target.parent)
            self.work.remove()
            _remove_empty(source.parent)
            return
        retired = None
        if target.exists():
            retired = source.with_name(f"{source.name}.retired.{os.getpid()}")
            target.rename(retired)
        source.rename(target)
        _sync_folder(target.parent)
        if retired is not None:
            Location.of(retired).remove()
        _remove_empty(source.parent)

    def sweep(self) -> None:
        """Remove the objects that a killed process had not written to their end."""
        if self.work.local is not None:
            for path in self.work.local.rglob(f"*{TEMPORARY}"):
                path.unlink()

    def discard(self) -> None:
        """Remove what was built so far."""
        self.work.remove()


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places at once, where the system can; return whether it did."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_empty(folder: Path) -> None:
    """Remove a work folder that holds nothing any more, but never the study's own folder of drafts in use."""
    try:
        folder.rmdir()
    except OSError:
        return
