"""Names from the network: made safe for a file system, kept inside their folder, and shown without secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from msicube.errors import RemoteError

#: Longest name of a file or slide in bytes: what is added while it is downloaded must fit into 255 too.
MAX_NAME = 160
#: Longest ending that a shortened name keeps.
MAX_ENDING = 12
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def is_url(text: object) -> bool:
    """Return whether a source is an address rather than a path."""
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def safe_name(text: str) -> str:
    """Return a name that every file system takes, that is hidden nowhere and leaves no folder.

    A name that is safe already comes back as it is. The same name gives the same result, and names that had to be
    shortened keep apart by a hash.
    """
    name = _FORBIDDEN.sub("_", text.encode("utf-8", "replace").decode("utf-8")).strip(" ").rstrip(". ")
    if not name or name[0] in "._":
        name = f"x{name}"
    if _WINDOWS.fullmatch(name):
        name = f"x_{name}"
    if len(name.encode()) > MAX_NAME:
        stem, dot, ending = name.rpartition(".")
        if not dot or len(ending.encode()) > MAX_ENDING:
            stem, ending = name, ""
        tag = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:10]
        kept = stem.encode()[: MAX_NAME - len(ending.encode()) - len(tag) - 2].decode("utf-8", "ignore")
        name = f"{kept}-{tag}.{ending}" if ending else f"{kept}-{tag}"
    return name


def place_inside(folder: Path, *parts: str) -> Path:
    """Return the path of a file inside a folder, every part of its name made safe.

    Raises
    ------
    RemoteError
        A symbolic link lies on the way: what is written could end outside the folder.
    """
    path = folder
    for part in parts:
        path = path / safe_name(part)
        if path.is_symlink():
            raise RemoteError(
                f"{path} is a symbolic link, and what is downloaded must stay inside {folder}: remove the link"
            )
    return path


def place_all(folder: Path, paths: Iterable[str]) -> list[Path]:
    """Return a place inside a folder for each path, no two the same, capitals and small letters taken for the same."""
    used: set[str] = set()
    places = []
    for path in paths:
        place = place_inside(folder, *PurePosixPath(path).parts)
        number, plain = 1, place
        while str(place).casefold() in used:
            number += 1
            place = plain.with_name(f"{plain.stem}_{number}{plain.suffix}")
        used.add(str(place).casefold())
        places.append(place)
    return places


def shown(url: str) -> str:
    """Return a URL as it may be printed: without user, password and query, where secrets are."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as half an IPv6 address
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def joined(base: str, link: str) -> str:
    """Return where a link of an answer leads.

    Raises
    ------
    RemoteError
        It is no valid address.
    """
    try:
        return urljoin(base, link)
    except ValueError as error:
        raise RemoteError(
            f"{shown(base)} leads to {shown(link)}, which is no valid address: {error}"
        ) from None


def file_url(base: str, path: str) -> str:
    """Return the address of a file on a server, given its path as it stands: spaces, ``#`` and ``?`` are escaped."""
    return base.rstrip("/") + "/" + quote(_PERCENT.sub("%25", path).lstrip("/"), safe="/%:@!$&'()*+,;=~-._")
