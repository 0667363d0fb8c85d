"""A place in a store: a local path, or a URL that fsspec knows (``s3://``, ``gs://``, ``memory://``)."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem
    from zarr.abc.store import Store


Item = TypeVar("Item")
Result = TypeVar("Result")

#: Requests that wait for a network at a time.
REQUESTS = 32
#: Parts that one system call writes, and bytes that are collected for it.
MAX_BUFFERS, WRITE_BYTES = 512, 2**20
#: Ending of an object that is being written; what a killed process leaves of it is never read and never committed.
TEMPORARY = ".tmp"


@dataclass(frozen=True)
class LocalBytes:
    """Random access to a local file; opened for each read, so nothing is left open."""

    path: Path

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(handle, length, start)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class RemoteBytes:
    """Random access to an object of an fsspec file system."""

    filesystem: AbstractFileSystem
    path: str

    def size(self) -> int:
        """Length in bytes."""
        return int(self.filesystem.size(self.path))

    def read(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``."""
        return bytes(self.filesystem.cat_file(self.path, start=start, end=start + length))


@dataclass(frozen=True)
class Location:
    """An object or a folder of objects, local or remote; picklable.

    Attributes
    ----------
    url
        A local path, or ``protocol://...``.
    options
        ``storage_options`` of fsspec, for remote places.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, path: str | os.PathLike[str] | Location, storage_options: Mapping[str, Any] | None = None
    ) -> Location:
        """Return the location of a path or URL."""
        if isinstance(path, Location):
            return path
        text = os.fspath(path)
        if "://" not in text:
            text = str(Path(text).absolute())
        return cls(text.rstrip("/"), dict(storage_options or {}))

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.url}/{name}", self.options)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def local(self) -> Path | None:
        """The path where it is local, else None."""
        return None if "://" in self.url else Path(self.url)

    def sibling(self, suffix: str) -> Location:
        """Return the place beside this one whose name is longer by ``suffix``."""
        return Location(self.url + suffix, self.options)

    def get(self) -> bytes | None:
        """Return the whole object, or None where there is none."""
        try:
            if self.local is not None:
                return self.local.read_bytes()
            filesystem, path = self._remote()
            return bytes(filesystem.cat_file(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, data: bytes | Iterable[bytes]) -> None:
        """Write an object, at once or from parts that follow each other; it is there whole or not at all."""
        parts = [data] if isinstance(data, bytes) else data
        if self.local is None:
            filesystem, path = self._remote()
            filesystem.pipe_file(path, b"".join(parts))
            return
        self.local.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.local.with_name(
            f"{self.local.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}"
        )
        try:
            with temporary.open("wb", buffering=0) as file:
                _write_all(file.fileno(), parts)
            temporary.replace(self.local)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def source(self) -> LocalBytes | RemoteBytes:
        """Return random access to the object."""
        return LocalBytes(self.local) if self.local is not None else RemoteBytes(*self._remote())

    def exists(self) -> bool:
        """Return whether an object or folder is here."""
        if self.local is not None:
            return self.local.exists()
        filesystem, path = self._remote()
        return bool(filesystem.exists(path))

    def children(self) -> list[str]:
        """Return the names of what a folder holds, sorted; none where there is no folder."""
        try:
            if self.local is not None:
                return sorted(entry.name for entry in os.scandir(self.local))
            filesystem, path = self._remote()
            return sorted(
                str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(path, detail=False)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self) -> dict[str, int]:
        """Return the length of every object below a folder, by its path in it, sorted.

        What is being written, or vanishes meanwhile, is left out: others may be at work in the same folder.
        """
        if self.local is not None:
            found = {}
            for folder, _, names in os.walk(self.local):
                for path in (Path(folder, name) for name in names if not name.endswith(TEMPORARY)):
                    with suppress(FileNotFoundError):
                        found[path.relative_to(self.local).as_posix()] = path.stat().st_size
        else:
            filesystem, root = self._remote()
            root = filesystem._strip_protocol(root).rstrip("/")
            listed = filesystem.find(root, detail=True)
            found = {path[len(root) + 1 :]: int(entry["size"]) for path, entry in listed.items()}
        return dict(sorted(found.items()))

    def remove(self) -> None:
        """Remove the object or folder, where there is one."""
        if self.local is None:
            filesystem, path = self._remote()
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)
        elif self.local.is_dir():
            shutil.rmtree(self.local)
        else:
            self.local.unlink(missing_ok=True)

    def zarr_store(self) -> Store:
        """Return a Zarr store rooted here."""
        from zarr.storage import FsspecStore, LocalStore

        if self.local is not None:
            return LocalStore(self.local)
        return FsspecStore.from_url(self.url, storage_options=dict(self.options))

    def _remote(self) -> tuple[AbstractFileSystem, str]:
        filesystem, path = fsspec.core.url_to_fs(self.url, **self.options)
        filesystem.invalidate_cache()
        return filesystem, path


def _write_all(handle: int, parts: Iterable[bytes]) -> None:
    """Write parts one after another, some with one system call: what is written is in memory no longer."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if len(held) == MAX_BUFFERS or size >= WRITE_BYTES:
            _write(handle, held)
            held, size = [], 0
    _write(handle, held)


def _write(handle: int, parts: Sequence[bytes]) -> None:
    left = [memoryview(part) for part in parts if part]
    while left:
        written = os.writev(handle, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:  # a call interrupted, or no more room: the next call says which
            left[0] = left[0][written:]


def spread(function: Callable[[Item], Result], items: Iterable[Item], *, remote: bool) -> list[Result]:
    """Apply a function that reads something small to each item, in order.

    On threads where the items are remote: a thousand slides would otherwise wait for a thousand requests in turn.
    """
    if not remote:
        return [function(item) for item in items]
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(function, items))
