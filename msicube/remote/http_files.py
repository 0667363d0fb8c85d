"""Files of HTTP servers, by ranges where the server has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msicube.errors import RemoteError
from msicube.remote.http import HttpClient, Transient
from msicube.remote.names import shown
from msicube.remote.transfer import Answer, Restart

if TYPE_CHECKING:
    import httpx

_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
#: Endings of files that are web pages; for every other file a web page is the wrong answer.
PAGES = (".html", ".htm", ".xhtml")


@dataclass(frozen=True)
class HttpFiles:
    """The transport of http:// and https://."""

    client: HttpClient

    @property
    def attempts(self) -> int:
        """How many attempts in a row may fail without any progress."""
        return self.client.patience.attempts

    def pause(self, attempt: int, asked: float | None) -> None:
        """Wait before another attempt."""
        self.client.pause(attempt, asked)

    @contextmanager
    def read(self, url: str, start: int, validator: str | None) -> Iterator[Answer]:
        """Ask for a file from a byte on, if it is still the one with this validator.

        Raises
        ------
        Restart
            The server has something else than what the bytes before belong to.
        Transient
            A web page in place of the file: a server under maintenance.
        RemoteError
            The server compresses what it sends although it was asked not to.
        """
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        with self.client.open(url, headers) as response:
            _check_kind(response, url)
            found = _validator(response)
            chunks = self.client.chunks(response, url, raw=True)
            if response.status_code == 416:
                total = _content_range(response)[1]
                if total != start:
                    raise Restart(f"{shown(url)}: {start} bytes are here, the server has {total}")
                yield Answer(start, start, validator, iter(()))
            elif response.status_code == 206:
                first, total = _content_range(response)
                if first != start or (validator and found and found != validator):
                    raise Restart(f"{shown(url)}: the file has changed, or the server sends another part")
                yield Answer(start, total, found or validator, chunks)
            else:
                length = response.headers.get("content-length")
                yield Answer(0, int(length) if length else None, found, chunks)


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """Return the first byte and the size of the file, as far as the answer says."""
    match = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if match is None:
        return None, None
    return (
        None if match[1] is None else int(match[1]),
        None if match[2] == "*" else int(match[2]),
    )


def _validator(response: httpx.Response) -> str | None:
    """Return the strong entity tag, or else the date; a weak tag does not promise the same bytes."""
    tag: str = response.headers.get("etag", "")
    date: str | None = response.headers.get("last-modified")
    return tag if tag and not tag.startswith("W/") else date


def _check_kind(response: httpx.Response, url: str) -> None:
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and not shown(url).lower().endswith(PAGES):
        raise Transient(f"{shown(url)}: the server sends a web page in place of the file")
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding not in ("", "identity"):
        raise RemoteError(
            f"{shown(url)}: the server sends the file compressed ({coding}) although asked not to"
        )
