"""The PRIDE Archive over its web interface, version 3, and the private one, version 2.

What is used of it: ``/projects/{accession}``, below it ``/files/all``, ``/files/count`` and ``/files?page=&pageSize=``,
and ``/files/checksum/{accession}``. The shapes are those of pridepy, the archive's own client, and of the archive's
server. Three things that others measured are easy to trip over: sizes in file records can differ from the files' (the
checksum list has the right ones), file records can be missing that the checksum list has, and an unknown accession has
an empty checksum list and not an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from msicube.errors import RemoteError, UsageError
from msicube.remote import HttpClient, Patience, Token, shown
from msicube.remote.names import file_url, joined

PUBLIC = "https://www.ebi.ac.uk/pride/ws/archive/v3"
PRIVATE = "https://www.ebi.ac.uk/pride/private/ws/archive/v2"
#: Where file records say that files lie, and the server that has the same paths over HTTPS.
FTP, FILES = "ftp://ftp.pride.ebi.ac.uk", "https://ftp.pride.ebi.ac.uk"
#: Environment variables: another address of the interface, another of the files, and the token of private data.
API_VARIABLE, FILES_VARIABLE, TOKEN_VARIABLE = (
    "MSICUBE_PRIDE_API",
    "MSICUBE_PRIDE_FILES",
    "MSICUBE_PRIDE_TOKEN",
)
PAGE, MAX_PAGES = 100, 10_000
_ACCESSION = re.compile(r"P(XD|RD)\d{4,}", re.IGNORECASE)
_MD5 = re.compile(r"[0-9a-f]{32}")
_HEADER = ("file-name", "file-md5checksum", "file-size")


@dataclass(frozen=True)
class Checksum:
    """One line of a project's checksum list."""

    name: str
    md5: str
    size: int | None


@dataclass(frozen=True)
class Archive:
    """An archive that speaks PRIDE's interface; as a context manager it lets its connections go at the end.

    Attributes
    ----------
    api
        Address of the interface.
    files
        What takes the place of ``ftp://ftp.pride.ebi.ac.uk`` in the addresses of files.
    client
        Makes the requests.
    """

    api: str = PUBLIC
    files: str = FILES
    client: HttpClient = field(default_factory=HttpClient)

    @classmethod
    def of(
        cls,
        *,
        api: str | None = None,
        files: str | None = None,
        token: str | None = None,
        patience: Patience | None = None,
    ) -> Archive:
        """Return an archive; what is not given comes from the environment, see :data:`API_VARIABLE`.

        With a token the private interface is asked, unless another is named.
        """
        token = token or os.environ.get(TOKEN_VARIABLE) or None
        api = api or os.environ.get(API_VARIABLE) or (PRIVATE if token else PUBLIC)
        files = files or os.environ.get(FILES_VARIABLE) or FILES
        for address in (api, files):
            if urlsplit(address).scheme not in ("http", "https"):
                raise UsageError(
                    f"{shown(address)} is no address of a web server: expected http:// or https://"
                )
        client = HttpClient(patience or Patience(), Token(token.strip(), api) if token else None)
        return cls(api.rstrip("/"), files.rstrip("/"), client)

    def __enter__(self) -> Archive:
        self.client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def project(self, accession: str) -> dict[str, Any]:
        """Return what the archive says of a project.

        Raises
        ------
        UsageError
            The text is no accession.
        RemoteError
            There is no such project, or it is not public.
        """
        if not _ACCESSION.fullmatch(accession):
            raise UsageError(f"{accession!r} is no accession of PRIDE: expected something like PXD001283")
        try:
            document, _ = self.client.get_json(f"{self.api}/projects/{accession}")
        except RemoteError as error:
            raise RemoteError(
                f"the archive has no project {accession} that can be read ({error}): check the accession, and for "
                f"private data set {TOKEN_VARIABLE}"
            ) from error
        if not isinstance(document, dict) or str(document.get("accession", "")).upper() != accession.upper():
            raise RemoteError(
                f"{shown(self.api)} answers something else than the project {accession}: check its address"
            )
        return document

    def records(self, accession: str) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the file records of a project, and what is odd about the list."""
        url = f"{self.api}/projects/{accession}/files"
        if self.client.token is not None and "/v2" in self.api:
            return list(self._linked_pages(url)), []
        found = _records(self.client.get_json(f"{url}/all")[0], url)
        count, _ = self.client.get_json(f"{url}/count")
        expected = count if isinstance(count, int) else len(found)
        if len(found) < expected:
            found = list(self._numbered_pages(url, expected))
        if len(found) < expected:
            return found, [f"the archive counts {expected} files and lists {len(found)}"]
        return found, []

    def checksums(self, accession: str) -> dict[str, list[Checksum]]:
        """Return the project's checksum list by file name; names can repeat. Empty where there is none.

        Raises
        ------
        RemoteError
            The answer is no such list.
        """
        url = f"{self.api}/files/checksum/{accession}"
        body, _ = self.client.get(url, accept="text/plain, */*")
        lines = body.decode("utf-8", "replace").splitlines()
        found: dict[str, list[Checksum]] = {}
        if not lines:
            return found
        header = [column.strip().lower() for column in lines[0].split("\t")]
        if not set(_HEADER) <= set(header):
            raise RemoteError(
                f"{shown(url)} answers something that begins {lines[0][:60]!r}, where a table with the columns "
                f"File-Name, File-MD5Checksum and File-Size was expected"
            )
        places = [header.index(column) for column in _HEADER]
        for line in lines[1:]:
            cells = line.split("\t")
            if len(cells) <= max(places):
                continue
            name, md5, size = (cells[place].strip() for place in places)
            if _MD5.fullmatch(md5.lower()):
                entry = Checksum(name, md5.lower(), int(size) if size.isdecimal() else None)
                found.setdefault(name, []).append(entry)
        return found

    def address(self, record: Mapping[str, Any]) -> str | None:
        """Return where a file can be downloaded over HTTP; None where its record names no such place."""
        link = at(record, "_links", "download", "href")
        if isinstance(link, str) and (address := self._over_http(joined(f"{self.api}/", link))):
            return address
        places = record.get("publicFileLocations")
        values = [str(at(place, "value") or "") for place in places] if isinstance(places, list) else []
        # The archive's own server first: what is on it is known to be there over HTTP.
        ordered = sorted(values, key=lambda value: not value.startswith(f"{FTP}/"))
        return next((address for value in ordered if (address := self._over_http(value))), None)

    def _over_http(self, address: str) -> str | None:
        """Return an address over HTTP that stands for another; None where there is none."""
        if address.startswith(f"{FTP}/"):
            return file_url(self.files, address.removeprefix(FTP))
        return address if address.startswith(("http://", "https://")) else None

    def _numbered_pages(self, url: str, expected: int) -> Iterator[dict[str, Any]]:
        """Yield the records page by page; the server decides how long a page is."""
        seen = 0
        for page in range(MAX_PAGES):
            found = _records(self.client.get_json(f"{url}?pageSize={PAGE}&page={page}")[0], url)
            yield from found
            seen += len(found)
            if not found or seen >= expected:
                return

    def _linked_pages(self, url: str) -> Iterator[dict[str, Any]]:
        """Yield the records of the private interface, where each page names the next."""
        page: str | None = url
        seen: set[str] = set()
        while page and page not in seen:
            seen.add(page)
            document, _ = self.client.get_json(page)
            found = _records(document, url)
            yield from found
            follow = at(document, "_links", "next", "href") if found else None
            page = joined(page, quote(follow, safe=":/?&=%")) if isinstance(follow, str) else None


def at(document: Any, *keys: str) -> Any:
    """Return what lies below some keys of an answer; None where one is missing or something else lies there."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _records(document: Any, url: str) -> list[dict[str, Any]]:
    """Return the file records of an answer: a list, or wrapped as the private interface does."""
    if isinstance(document, dict):
        found = at(document, "_embedded", "files")
        document = [] if found is None and "_links" in document else found
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise RemoteError(
            f"{shown(url)} answers something else than a list of files: check the address of the archive"
        )
    return document
