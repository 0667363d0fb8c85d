"""Checking a source against its checksums beside its conversion: one processor reads ahead while the others work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import NamedTuple

from msicube.errors import CorruptSource, MSICubeError
from msicube.readers import CubeReader, OnError


class Verified(NamedTuple):
    """What a check found.

    Attributes
    ----------
    checksums
        Those that were met, by name.
    remarks
        What the report says of the others.
    """

    checksums: dict[str, str]
    remarks: tuple[str, ...] = ()


NOT_VERIFIED = Verified({})


@dataclass
class Verification:
    """A check under way; :meth:`result` waits for it.

    Attributes
    ----------
    reader
        Of the source.
    on_error
        Whether a checksum that is not met is an error or a remark.
    """

    reader: CubeReader
    on_error: OnError
    _found: Verified | BaseException | None = None
    _thread: Thread | None = None

    def start(self) -> None:
        """Begin, in a thread: hashing leaves the interpreter to others."""
        self._thread = Thread(target=self._run, name=f"verify {self.reader.info.name}", daemon=True)
        self._thread.start()

    def result(self) -> Verified:
        """Return what was found.

        Raises
        ------
        CorruptSource
            The strongest declared checksum is not met, and that is to be an error.
        """
        assert self._thread is not None
        self._thread.join()
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None
        return self._found

    def _run(self) -> None:
        try:
            self._found = verify(self.reader, self.on_error)
        except BaseException as error:
            self._found = error


def verify(reader: CubeReader, on_error: OnError) -> Verified:
    """Check a source against the checksums that it declares.

    Raises
    ------
    CorruptSource
        The strongest is not met, and ``on_error`` is ``"stop"``.
    """
    try:
        met = reader.verify()
    except CorruptSource as error:
        if on_error == "stop":
            raise
        return Verified({}, (f"{error}; converted all the same, because wrong sources are to be reported",))
    missed = [name for name in reader.info.source.get("checksums", {}) if name not in met]
    remark = f"the declared {' and '.join(missed)} is wrong, the stronger {' and '.join(met)} is right: read"
    return Verified(met, (remark,) if missed else ())


@contextmanager
def verifying(reader: CubeReader, on_error: OnError) -> Iterator[Verification]:
    """Check a source while the body of the ``with`` reads it.

    Raises
    ------
    CorruptSource
        The body failed and the checksum is not met either: that is the error to know of.
    """
    verification = Verification(reader, on_error)
    verification.start()
    try:
        yield verification
    except MSICubeError:
        verification.result()
        raise
