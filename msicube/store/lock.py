"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from msicube.errors import StudyLocked
from msicube.store.draft import work_folder
from msicube.store.location import Location


@contextmanager
def write_lock(study: Location) -> Iterator[None]:
    """Hold a local study for writing; the operating system frees the lock when the process ends, however it ends.

    Object stores have no lock: there it is up to the caller to start one writer at a time.

    Raises
    ------
    StudyLocked
        Another process holds it.
    """
    folder = work_folder(study).local
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StudyLocked(
                f"{study} is being written to by process {owner}: wait until it has ended, or stop it"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            # Still locked, so no other writer is cut off; what a failed run left for the next one stays.
            path.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    finally:
        os.close(handle)
