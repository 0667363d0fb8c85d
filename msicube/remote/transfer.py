"""One file from a server: resumed where it broke off, checked, and there whole or not at all.

What has come so far lies beside the target as ``<name>.part``; notes on it, and on the files that are whole, lie in the
folder ``.receipts`` there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from msicube.bytesize import format_bytes
from msicube.errors import DiskSpaceError, DownloadError, RemoteError
from msicube.remote.files import RemoteFile
from msicube.remote.http import Transient
from msicube.remote.names import shown

RECEIPTS, PART = ".receipts", ".part"
HASH_BLOCK = 4 * 2**20
#: Bytes between two reports of progress.
PROGRESS_STEP = 4 * 2**20
#: A file that comes whole and wrong is downloaded again so often.
MAX_WRONG = 2

#: Called with the file's path, the bytes that are here and the bytes there are (0: unknown).
Progress = Callable[[str, int, int], None]


class Answer(NamedTuple):
    """What a server sends of a file.

    Attributes
    ----------
    start
        Number of the first byte that comes: what was asked for, or 0 where the server begins anew.
    total
        Size of the file; None where the server does not say.
    validator
        What changes when the file does (an entity tag, a date); None where there is no such thing.
    chunks
        The bytes.
    """

    start: int
    total: int | None
    validator: str | None
    chunks: Iterator[bytes]


class Transport(Protocol):
    """Reads files of one kind of server."""

    def read(self, url: str, start: int, validator: str | None) -> AbstractContextManager[Answer]:
        """Ask for a file from a byte on, if it is still the one with this validator."""

    def pause(self, attempt: int, asked: float | None) -> None:
        """Wait before another attempt."""

    @property
    def attempts(self) -> int:
        """How many attempts in a row may fail without any progress."""


class Restart(Exception):
    """What is here does not belong to what the server has: begin anew."""


class _Wrong(Exception):
    """The file came whole, and is not what it should be."""


@dataclass(frozen=True)
class Receipt:
    """What is known of a file that came whole.

    Attributes
    ----------
    path
        Where it lies.
    url
        Where it came from, without secrets.
    size, md5
        As found.
    checked
        Whether the archive's own checksum was met; False where it has none.
    validator
        The server's entity tag or date.
    mtime_ns
        Of the file here, so that a change of it is noticed without reading it.
    """

    path: Path
    url: str
    size: int
    md5: str
    checked: bool
    validator: str | None
    mtime_ns: int


@dataclass(frozen=True)
class _Places:
    """Where a file, its part and the notes on both lie."""

    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + PART)

    @property
    def receipt(self) -> Path:
        return self.target.parent / RECEIPTS / f"{self.target.name}.json"

    @property
    def notes(self) -> Path:
        return self.target.parent / RECEIPTS / f"{self.target.name}{PART}.json"

    @property
    def lock(self) -> Path:
        return self.target.parent / RECEIPTS / f"{self.target.name}.lock"

    def discard(self) -> None:
        """Throw away what has come so far."""
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def here(target: Path) -> int:
    """Return how many bytes of a file are here already, whole or in part."""
    for path in (target, _Places(target).part):
        with suppress(OSError):  # a part can become the whole while we look
            return path.stat().st_size
    return 0


def forget(target: Path) -> None:
    """Remove a file, what has come of it, and the notes on it."""
    places = _Places(target)
    target.unlink(missing_ok=True)
    places.receipt.unlink(missing_ok=True)
    places.lock.unlink(missing_ok=True)
    places.discard()


def find_receipt(remote: RemoteFile, target: Path) -> Receipt | None:
    """Return the receipt of a file that is here whole; None where it must be downloaded.

    A file without a receipt, or one that has changed since, is read and compared with the checksum where there is one.
    """
    if not target.is_file():
        return None
    status = target.stat()
    notes = _load(_Places(target).receipt)
    if notes.get("size") == status.st_size and notes.get("mtime_ns") == status.st_mtime_ns:
        receipt = Receipt(**{**notes, "path": target})
        if _fits(remote, receipt.size, receipt.md5):
            return receipt
    elif remote.md5 and remote.expected in (None, status.st_size):
        digest = _digest(target).hexdigest()
        if digest in remote.md5:
            receipt = Receipt(
                target, shown(remote.url), status.st_size, digest, True, None, status.st_mtime_ns
            )
            _save(_Places(target).receipt, _as_notes(receipt))
            return receipt
    return None


def fetch(
    remote: RemoteFile, target: Path, transport: Transport, *, progress: Progress | None = None
) -> Receipt:
    """Download a file, or what is missing of it.

    Parameters
    ----------
    remote
        The file and what it must be like.
    target
        Where it will be, whole or not at all; its folder is made.
    transport
        Of the server's kind.
    progress
        Called every few megabytes.

    Returns
    -------
    Receipt
        Size and MD5 as found.

    Raises
    ------
    DownloadError
        It never came whole, or came wrong twice.
    DiskSpaceError
        The disk is full.
    """
    found = find_receipt(remote, target)
    if found is not None:
        return found
    places = _Places(target)
    places.receipt.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _only_one(places):
            return _fetch(remote, places, transport, progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskSpaceError(
                f"the disk of {target.parent} is full: make room and run the same command again, it goes on where it "
                f"stopped"
            ) from error
        raise


def _fetch(remote: RemoteFile, places: _Places, transport: Transport, progress: Progress | None) -> Receipt:
    places.target.unlink(missing_ok=True)
    best, failures, wrong = here(places.target), 0, 0
    while True:
        try:
            return _finish(remote, places, _receive(remote, places, transport, progress))
        except Transient as error:
            problem, asked = str(error), error.wait
        except Restart as error:
            places.discard()
            problem, asked = str(error), 0.0
        except _Wrong as error:
            places.discard()
            problem, asked, wrong = str(error), None, wrong + 1
            if wrong == MAX_WRONG:
                raise DownloadError(f"{remote.path}: {problem}, {MAX_WRONG} times: not kept") from None
        except RemoteError as error:
            raise DownloadError(f"{remote.path}: {error}") from None
        now = here(places.target)
        failures = 1 if now > best else failures + 1
        best = max(best, now)
        if failures >= transport.attempts:
            raise DownloadError(
                f"{remote.path}: {problem}; gave up after {failures} attempts without progress, "
                f"{format_bytes(now)} are here and the same command goes on from there"
            )
        try:
            transport.pause(failures, asked)
        except RemoteError as error:
            raise DownloadError(f"{remote.path}: {error}") from None


@dataclass(frozen=True)
class _Whole:
    """A part that is complete."""

    size: int
    md5: str
    validator: str | None


def _receive(remote: RemoteFile, places: _Places, transport: Transport, progress: Progress | None) -> _Whole:
    """Bring what is missing into the part."""
    start, validator = _resumable(remote, places)
    digest = _digest(places.part)
    if start and start == remote.expected:
        return _Whole(start, digest.hexdigest(), validator)
    with transport.read(remote.url, start, validator) as answer:
        if answer.total is not None and remote.expected not in (None, answer.total):
            raise _Wrong(f"the server has {answer.total} bytes, the archive's list says {remote.expected}")
        if answer.start != start:
            digest = hashlib.md5(usedforsecurity=False)
        _save(places.notes, {"url": shown(remote.url), "validator": answer.validator})
        size = _append(remote, places.part, answer, digest, progress)
    if answer.total is not None and size < answer.total:
        raise Transient(f"{shown(remote.url)}: the connection broke off after {size} of {answer.total} bytes")
    if answer.total is not None and size > answer.total:
        raise _Wrong(f"the server sent {size} bytes and had said {answer.total}")
    return _Whole(size, digest.hexdigest(), answer.validator)


def _resumable(remote: RemoteFile, places: _Places) -> tuple[int, str | None]:
    """Return how much of the part can be kept, and the validator of the file that it is a part of."""
    notes, size = _load(places.notes), here(places.target)
    known = notes.get("url") == shown(remote.url)
    too_long = remote.expected is not None and size > remote.expected
    # Without a validator the file may have changed since: only a checksum in the end would tell.
    if size and (not known or too_long or not (notes.get("validator") or remote.md5)):
        places.discard()
        return 0, None
    return size, notes.get("validator") if size else None


def _append(remote: RemoteFile, part: Path, answer: Answer, digest: Any, progress: Progress | None) -> int:
    """Write what comes behind what is there; return the size of the part."""
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with open(handle, "wb", buffering=0) as file:  # noqa: PTH123 - a handle, not a path
        os.ftruncate(handle, answer.start)
        os.lseek(handle, answer.start, os.SEEK_SET)
        size = reported = answer.start
        for chunk in answer.chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            if progress and size - reported >= PROGRESS_STEP:
                reported = size
                progress(remote.path, size, max(size, answer.total or 0) + 1)
        os.fsync(handle)
    return size


def _finish(remote: RemoteFile, places: _Places, whole: _Whole) -> Receipt:
    """Check a part that is complete and give it its name."""
    if remote.expected not in (None, whole.size):
        raise _Wrong(f"it has {whole.size} bytes, the archive's list says {remote.expected}")
    if not _fits(remote, whole.size, whole.md5):
        raise _Wrong(f"its MD5 is {whole.md5}, the archive's list says {' or '.join(remote.md5)}")
    status = places.part.stat()
    receipt = Receipt(
        places.target,
        shown(remote.url),
        whole.size,
        whole.md5,
        bool(remote.md5),
        whole.validator,
        status.st_mtime_ns,
    )
    # The receipt first: a file that has its name has its receipt, and a receipt without a file says nothing.
    _save(places.receipt, _as_notes(receipt))
    places.part.replace(places.target)
    places.notes.unlink(missing_ok=True)
    return receipt


@contextmanager
def _only_one(places: _Places) -> Iterator[None]:
    """Keep other processes from the same part."""
    handle = os.open(places.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(
                f"{places.target} is being downloaded by another process: wait until it has ended, or stop it"
            ) from None
        yield
        places.lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _fits(remote: RemoteFile, size: int, md5: str) -> bool:
    return remote.expected in (None, size) and (not remote.md5 or md5 in remote.md5)


def _digest(path: Path) -> Any:
    """Return the MD5 of a file so far; of nothing where there is none."""
    digest = hashlib.md5(usedforsecurity=False)
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
    return digest


def _as_notes(receipt: Receipt) -> dict[str, Any]:
    return {**asdict(replace(receipt)), "path": receipt.path.name}


def _load(path: Path) -> dict[str, Any]:
    try:
        notes = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _save(path: Path, notes: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.tmp")  # of one process at a time, see _only_one
    temporary.write_text(json.dumps(notes, indent=1), encoding="utf-8")
    temporary.replace(path)
