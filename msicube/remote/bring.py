"""Sources that are addresses, brought into a folder so that they can be converted like any other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msicube.errors import RemoteError
from msicube.remote.files import RemoteFile
from msicube.remote.listing import is_remote, list_files
from msicube.remote.names import place_all
from msicube.remote.pairs import sort_files
from msicube.remote.pool import DEFAULT_CONNECTIONS, Servers, fetch_all
from msicube.remote.transfer import Progress, Receipt


@dataclass(frozen=True)
class Brought:
    """Sources that are here now.

    Attributes
    ----------
    paths
        Files and folders to convert.
    origins
        By slide, where its files came from.
    errors
        By path on the server, why a file is not here.
    remarks
        What was odd.
    """

    paths: tuple[str | os.PathLike[str], ...]
    origins: Mapping[str, Mapping[str, Any]]
    errors: Mapping[str, str]
    remarks: tuple[str, ...]


def origin_of(receipts: Iterable[tuple[RemoteFile, Receipt]], **more: Any) -> dict[str, Any]:
    """Return what a slide keeps of where its files came from."""
    files = [
        {
            "path": remote.path,
            "url": receipt.url,
            "size": receipt.size,
            "md5": receipt.md5,
            "md5_met": receipt.checked,
        }
        for remote, receipt in receipts
    ]
    return {**more, "files": sorted(files, key=lambda file: str(file["path"]))}


def bring(
    sources: Iterable[str | os.PathLike[str]],
    folder: Path,
    *,
    endings: Iterable[str],
    storage_options: Mapping[str, Any] | None = None,
    connections: int = DEFAULT_CONNECTIONS,
    progress: Progress | None = None,
) -> Brought:
    """Download what of the sources is an address, or what is missing of it.

    Parameters
    ----------
    sources
        Paths, URLs, prefixes of an object store, lists of URLs; see :func:`msicube.remote.listing.list_files`.
    folder
        Where the files go.
    endings
        Of the files to take, lower case.
    storage_options
        What fsspec needs for an object store.
    connections
        How many files at once.
    progress
        Called with a file's path, its bytes here and its bytes in all.

    Raises
    ------
    RemoteError
        A server cannot be reached, or has no file with one of the endings.
    DiskSpaceError
        There is not enough room.
    """
    local = [source for source in sources if not is_remote(source)]
    addresses = [str(source) for source in sources if is_remote(source)]
    servers = Servers(options=dict(storage_options or {}))
    with servers.client:
        wanted = tuple(endings)
        files = [f for f in list_files(addresses, servers) if f.path.lower().endswith(wanted)]
        if not files:
            raise RemoteError(f"none of the files there ends in {', '.join(wanted)}")
        found = sort_files(files)
        work = [place for pair in found.pairs for place in pair.places(folder)]
        alone = [file for file in found.others if not file.path.lower().endswith((".imzml", ".ibd"))]
        work += list(zip(alone, place_all(folder, (file.path for file in alone)), strict=True))
        outcomes = {
            outcome.remote.path: outcome
            for outcome in fetch_all(work, servers, connections=connections, progress=progress)
        }
    errors = {path: str(outcome.error) for path, outcome in outcomes.items() if outcome.error}
    origins, paths = {}, list(local)
    for pair in found.pairs:
        receipts = [(file, outcomes[file.path].receipt) for file in pair.files]
        whole = [(file, receipt) for file, receipt in receipts if receipt is not None]
        if len(whole) == len(receipts):
            origins[pair.slide] = origin_of(whole, archive="web")
            paths.append(folder / f"{pair.slide}.imzML")
    for file in alone:
        receipt = outcomes[file.path].receipt
        if receipt is not None:
            paths.append(receipt.path)
    return Brought(tuple(paths), origins, errors, found.odd)
