"""Files of object stores (``s3://``, ``gs://`` and whatever else fsspec knows): listed by prefix, read by ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec

from msicube.errors import MissingDependency, RemoteError
from msicube.remote.files import RemoteFile
from msicube.remote.http import HttpClient, Transient
from msicube.remote.names import shown
from msicube.remote.transfer import Answer, Restart

#: What one request reads.
BLOCK = 8 * 2**20


@dataclass(frozen=True)
class ObjectFiles:
    """The transport of object stores.

    Attributes
    ----------
    client
        For the pauses between attempts.
    options
        ``storage_options`` of fsspec; never printed.
    """

    client: HttpClient
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def attempts(self) -> int:
        """How many attempts in a row may fail without any progress."""
        return self.client.patience.attempts

    def pause(self, attempt: int, asked: float | None) -> None:
        """Wait before another attempt."""
        self.client.pause(attempt, asked)

    @contextmanager
    def read(self, url: str, start: int, validator: str | None) -> Iterator[Answer]:
        """Ask for an object from a byte on, if it is still the one with this validator."""
        filesystem, path = self._open(url)
        with _errors(url):
            filesystem.invalidate_cache()
            info = filesystem.info(path)
        total, found = int(info["size"]), info.get("ETag") or info.get("etag")
        if start > total or (start and validator and found != validator):
            raise Restart(f"{shown(url)}: the object has changed")
        yield Answer(start, total, found, self._chunks(filesystem, path, url, start, total))

    def find(self, prefix: str) -> list[RemoteFile]:
        """Return every object below a prefix, in order of name.

        Raises
        ------
        RemoteError
            The store refuses, or nothing is there.
        """
        filesystem, path = self._open(prefix)
        with _errors(prefix):
            found = filesystem.find(path, detail=True)
        protocol, base = prefix.split("://", 1)[0], path.rstrip("/") + "/"
        files = [
            RemoteFile(
                f"{protocol}://{name}",
                name.removeprefix(base) if name != path else name.rsplit("/", 1)[-1],
                size=int(info["size"]),
                exact=True,
            )
            for name, info in sorted(found.items())
        ]
        if not files:
            raise RemoteError(f"there is no object below {shown(prefix)}")
        return files

    def _chunks(self, filesystem: Any, path: str, url: str, start: int, total: int) -> Iterator[bytes]:
        while start < total:
            self.client.check_stopped()
            with _errors(url):
                chunk = bytes(filesystem.cat_file(path, start=start, end=min(start + BLOCK, total)))
            if not chunk:
                raise Transient(f"{shown(url)}: nothing came")
            start += len(chunk)
            yield chunk

    def _open(self, url: str) -> tuple[Any, str]:
        try:
            filesystem, path = fsspec.core.url_to_fs(url, **self.options)
        except ImportError as error:
            raise MissingDependency(f"{shown(url)}: {error}; for s3:// pip install msicube[s3]") from error
        except ValueError as error:
            raise RemoteError(f"{shown(url)}: {error}") from error
        return filesystem, path


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Tell what may go right next time from what will not."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise RemoteError(f"{shown(url)}: there is nothing of this name, or access is refused") from error
    except OSError as error:
        raise Transient(f"{shown(url)}: {type(error).__name__}") from error
