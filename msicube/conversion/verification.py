"""Checking sources against their checksums beside their conversion: one processor reads ahead while the others work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, Self

from msicube.errors import CorruptSource, MSICubeError
from msicube.readers import CubeReader, OnError, file_check

#: Names of the checksums that were met, and their values.
Checksums = dict[str, str]


class Verified(NamedTuple):
    """What a check found.

    Attributes
    ----------
    checksums
        Those that were met, by name.
    remarks
        What the report says of the others.
    """

    checksums: Checksums
    remarks: tuple[str, ...] = ()


NOT_VERIFIED = Verified({})


class Check:
    """A check under way, in a thread: hashing leaves the interpreter to others.

    Parameters
    ----------
    check
        Reads and hashes.
    name
        Of what is checked.
    after
        Another check, whose end is waited for first.
    """

    def __init__(self, check: Callable[[], Checksums], name: str, after: Check | None = None) -> None:
        self._check, self._after = check, after
        self._met: Checksums | BaseException | None = None
        # A daemon: where the command fails, nobody waits for a file of a hundred gigabytes.
        self._thread = Thread(target=self._run, name=f"verify {name}", daemon=True)
        self._thread.start()

    def result(self) -> Checksums:
        """Wait, and return the checksums that were met.

        Raises
        ------
        CorruptSource
            The strongest declared one is not.
        """
        self._thread.join()
        if isinstance(self._met, BaseException):
            raise self._met
        assert self._met is not None
        return self._met

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after._thread.join()
                self._after = None
            self._met = self._check()
        except BaseException as error:
            self._met = error


class Checks:
    """The checks of the sources of one command; a context manager, at whose end those that still run are given up.

    Files whose format declares checksums of whole files can be checked before they are opened, one after another; a
    stack is then read once for all of its planes.

    Parameters
    ----------
    on_error
        Whether a checksum that is not met is an error or a remark.
    enabled
        Whether anything is checked at all.
    """

    def __init__(self, on_error: OnError, *, enabled: bool = True) -> None:
        self._on_error: OnError = on_error
        self._enabled = enabled
        self._of_files: dict[Path, Check] = {}
        self._given_up = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()

    def begin(self, path: Path) -> None:
        """Begin to check a file, unless that was done or only its reader knows how."""
        check = file_check(path) if self._enabled and path not in self._of_files else None
        if check is not None:
            last = next(reversed(self._of_files.values()), None)
            self._of_files[path] = Check(lambda: check(self._go_on), path.name, after=last)

    @contextmanager
    def beside(self, path: Path, reader: CubeReader) -> Iterator[Callable[[], Verified]]:
        """Check a source while the body of the ``with`` reads it; yield what waits for the result.

        Raises
        ------
        CorruptSource
            The body failed and the checksum is not met either: that is the error to know of.
        """
        if not self._enabled:
            yield lambda: NOT_VERIFIED
            return
        self.begin(path)
        check = self._of_files.get(path) or Check(reader.verify, reader.info.name)

        def verified() -> Verified:
            return judge(check.result, reader, self._on_error)

        try:
            yield verified
        except MSICubeError:
            verified()
            raise

    def _go_on(self) -> None:
        if self._given_up.is_set():
            raise InterruptedError("the check was given up: nobody waits for it")


def judge(met: Callable[[], Checksums], reader: CubeReader, on_error: OnError) -> Verified:
    """Return what a check means for a source.

    Raises
    ------
    CorruptSource
        The strongest checksum is not met, and ``on_error`` is ``"stop"``.
    """
    try:
        found = met()
    except CorruptSource as error:
        if on_error == "stop":
            raise
        return Verified({}, (f"{error}; converted all the same, because wrong sources are to be reported",))
    missed = [name for name in reader.info.source.get("checksums", {}) if name not in found]
    remark = (
        f"the declared {' and '.join(missed)} is wrong, the stronger {' and '.join(found)} is right: read"
    )
    return Verified(found, (remark,) if missed else ())
