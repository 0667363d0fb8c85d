"""Several downloads at once, within a number of connections and the room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msicube.bytesize import format_bytes
from msicube.errors import DiskSpaceError, MSICubeError
from msicube.remote.files import RemoteFile
from msicube.remote.http import HttpClient
from msicube.remote.http_files import HttpFiles
from msicube.remote.objects import ObjectFiles
from msicube.remote.transfer import Progress, Receipt, Transport, fetch, find_receipt, here

DEFAULT_CONNECTIONS = 4
#: Left free on the disk whatever is downloaded.
SPARE = 64 * 2**20


@dataclass(frozen=True)
class Servers:
    """How files of every kind of server are read; picklable.

    Attributes
    ----------
    client
        For HTTP, and with the patience for all.
    options
        ``storage_options`` of fsspec for object stores.
    """

    client: HttpClient = field(default_factory=HttpClient)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def transport(self, url: str) -> Transport:
        """Return the transport for an address."""
        if urlsplit(url).scheme in ("http", "https"):
            return HttpFiles(self.client)
        return ObjectFiles(self.client, self.options)


@dataclass(frozen=True)
class Outcome:
    """What became of one download.

    Attributes
    ----------
    remote
        The file.
    receipt
        Where it came whole.
    error
        Where it did not.
    """

    remote: RemoteFile
    receipt: Receipt | None = None
    error: MSICubeError | None = None


def fetch_all(
    files: Sequence[tuple[RemoteFile, Path]],
    servers: Servers,
    *,
    connections: int = DEFAULT_CONNECTIONS,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Download files, several at once, and yield what became of each as it ends.

    Parameters
    ----------
    files
        Each with its place.
    servers
        How to read them.
    connections
        How many at once.
    progress
        Called from the threads that download.

    Raises
    ------
    DiskSpaceError
        Not before the first byte: there is not enough room for all.
    """
    check_space(files)

    def one(remote: RemoteFile, target: Path) -> Outcome:
        try:
            return Outcome(remote, fetch(remote, target, servers.transport(remote.url), progress=progress))
        except MSICubeError as error:
            return Outcome(remote, error=error)

    with ThreadPoolExecutor(connections, thread_name_prefix="download") as threads:
        futures = [threads.submit(one, remote, target) for remote, target in files]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            servers.client.stop()
            for future in futures:
                future.cancel()
            raise


def check_space(
    files: Sequence[tuple[RemoteFile, Path]], *, usage: Callable[[Path], Any] = shutil.disk_usage
) -> int:
    """Return how many bytes are still to come, and check that the disk has room for them.

    Raises
    ------
    DiskSpaceError
        It has not.
    """
    left: dict[Path, int] = {}
    for remote, target in files:
        done = here(target)
        if not (done and find_receipt(remote, target)):
            left[target.parent] = left.get(target.parent, 0) + max(0, (remote.size or 0) - done)
    for folder, size in left.items():
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = usage(existing).free
        if size + SPARE > free:
            raise DiskSpaceError(
                f"{format_bytes(size)} are still to be downloaded into {folder}, where {format_bytes(free)} are free: "
                f"make room or choose another folder"
            )
    return sum(left.values())
