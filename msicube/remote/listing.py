"""What lies behind an address: a file, a folder of a web server, a prefix of an object store, a list of URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

from msicube.errors import RemoteError, UsageError
from msicube.remote.files import RemoteFile
from msicube.remote.names import is_url, shown
from msicube.remote.objects import ObjectFiles
from msicube.remote.pool import Servers

#: A text file with this ending is a list of URLs.
LIST_ENDING = ".txt"
MAX_FOLDERS, MAX_DEPTH = 2000, 8
MD5_LENGTH = 32


def is_remote(source: str | os.PathLike[str]) -> bool:
    """Return whether a source is an address, or a text file that begins with one."""
    if is_url(source):
        return True
    path = Path(source)
    if path.suffix.lower() != LIST_ENDING or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [""])
    return is_url(first[0])


def list_files(sources: Iterable[str], servers: Servers) -> list[RemoteFile]:
    """Return the files behind addresses, each with its path below what all of them share.

    Parameters
    ----------
    sources
        URLs of files; of a folder of a web server that lists it (ending in ``/``); prefixes of an object store
        (``s3://bucket/prefix``); text files with one URL a line, each with its MD5 behind it where that is known.

    Raises
    ------
    RemoteError
        A server that cannot be reached, or a folder that it does not list.
    UsageError
        A line of a list that is no URL.
    """
    found: dict[str, RemoteFile] = {}
    for source in sources:
        for file in _list_one(str(source), servers):
            found.setdefault(file.url, file)
    return _with_partners(_relative(list(found.values())))


def _list_one(source: str, servers: Servers) -> list[RemoteFile]:
    scheme, path = urlsplit(source).scheme, urlsplit(source).path
    if not is_url(source):
        return _parse_list(Path(source).read_text(encoding="utf-8"), source)
    if scheme not in ("http", "https"):
        return _whole_urls(ObjectFiles(servers.client, servers.options).find(source))
    if path.endswith("/") or not path:
        return _walk(source, servers)
    if path.lower().endswith(LIST_ENDING):
        return _parse_list(servers.client.get(source)[0].decode("utf-8", "replace"), source)
    return [RemoteFile(source, unquote(path))]


def _parse_list(text: str, name: str) -> list[RemoteFile]:
    files = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        md5 = words[1].lower() if len(words) > 1 else None
        if not is_url(words[0]) or (md5 is not None and len(md5) != MD5_LENGTH):
            raise UsageError(
                f"{shown(name)}, line {number}: expected a URL, and its MD5 behind it where that is known"
            )
        files.append(RemoteFile(words[0], unquote(urlsplit(words[0]).path), md5=(md5,) if md5 else ()))
    return files


def _whole_urls(files: list[RemoteFile]) -> list[RemoteFile]:
    """Return files whose path is that of their URL, so that all sources are cut alike."""
    return [_renamed(file, urlsplit(file.url).path) for file in files]


def _relative(files: list[RemoteFile]) -> list[RemoteFile]:
    """Cut off the folders that all paths share."""
    parents = [PurePosixPath(file.path.lstrip("/")).parent.parts for file in files]
    shared = 0
    while parents and all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
        shared += 1
    return [
        _renamed(file, str(PurePosixPath(*PurePosixPath(file.path.lstrip("/")).parts[shared:])))
        for file in files
    ]


def _with_partners(files: list[RemoteFile]) -> list[RemoteFile]:
    """Add the .ibd of each .imzML that is named alone, with an address of its own: it lies beside it."""
    paths = {file.path.lower() for file in files}
    added = []
    for file in files:
        if file.path.lower().endswith(".imzml") and f"{file.path[:-6].lower()}.ibd" not in paths:
            parts = urlsplit(file.url)
            if parts.path.lower().endswith(".imzml"):
                url = parts._replace(path=f"{parts.path[:-6]}.ibd").geturl()
                added.append(RemoteFile(url, f"{file.path[:-6]}.ibd"))
    return [*files, *added]


def _renamed(file: RemoteFile, path: str) -> RemoteFile:
    return RemoteFile(file.url, path, file.size, file.md5, file.exact)


class _Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _walk(folder: str, servers: Servers) -> list[RemoteFile]:
    """Return the files below a folder that a web server lists as a page of links."""
    files: dict[str, RemoteFile] = {}
    waiting, seen = [(folder, 0)], {folder}
    while waiting:
        url, depth = waiting.pop(0)
        body, headers = servers.client.get(url, accept="text/html")
        if "html" not in headers.get("content-type", ""):
            raise RemoteError(
                f"{shown(url)} is no list of files: name the files, or give a list of their URLs"
            )
        for link in _links(body.decode("utf-8", "replace"), url, folder):
            if not link.endswith("/"):
                files.setdefault(link, RemoteFile(link, unquote(urlsplit(link).path)))
            elif link not in seen and depth < MAX_DEPTH:
                seen.add(link)
                waiting.append((link, depth + 1))
        if len(seen) > MAX_FOLDERS:
            raise RemoteError(f"{shown(folder)} has more than {MAX_FOLDERS} folders: name a smaller one")
    if not files:
        raise RemoteError(f"{shown(folder)} lists no files")
    return list(files.values())


def _links(page: str, url: str, folder: str) -> list[str]:
    """Return the links of a page that lead further down, without those that sort it another way."""
    parser = _Links()
    parser.feed(page)
    base = urlsplit(folder)
    found = []
    for href in parser.found:
        try:
            link = urlsplit(urljoin(url, href))
        except ValueError:
            continue  # a link to somewhere else that is written wrongly
        below = (link.scheme, link.netloc) == (base.scheme, base.netloc) and link.path.startswith(
            base.path or "/"
        )
        if below and not href.startswith(("?", "#")) and link.path != urlsplit(url).path:
            found.append(link._replace(query="", fragment="").geturl())
    return found
