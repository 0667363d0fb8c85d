"""Which reader takes which file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from msicube.errors import UnknownFormat, UsageError
from msicube.readers.base import CubeReader, OnError

#: File name endings, lower case -> what they are. A new format adds its endings here and a branch in open_source.
ENDINGS: dict[str, str] = {".imzml": "imzML"}


def open_source(
    path: str | os.PathLike[str], *, on_error: OnError = "stop", index_cache: str | None = None
) -> CubeReader:
    """Open a source file that holds one cube: its metadata and index are read, its spectra are not.

    Parameters
    ----------
    path
        An ``.imzML`` with its ``.ibd`` beside it.
    on_error
        ``"stop"`` raises the first thing that is wrong; ``"report"`` masks spectra that are wrong and names each of
        them in ``info.remarks``.
    index_cache
        Where the index of a large file is kept for the next time: a folder, ``"beside"`` the source (or the folder,
        where that cannot be written), or ``"off"``. None takes the environment variable ``MSICUBE_INDEX_CACHE``, and
        without it the folder ``$XDG_CACHE_HOME/msicube``.

    Returns
    -------
    CubeReader
        Picklable; reads tiles from any thread or process.

    Raises
    ------
    UnknownFormat
        No such file, or no reader takes it.
    CorruptSource
        The file contradicts itself or is damaged.
    UsageError
        The file is a stack of several planes; :func:`open_sources` opens them all.
    """
    readers = open_sources(path, on_error=on_error, index_cache=index_cache)
    if len(readers) > 1:
        names = ", ".join(reader.info.name for reader in readers)
        raise UsageError(
            f"{path} is a stack of {len(readers)} planes ({names}): open_sources opens one reader for each"
        )
    return readers[0]


def open_sources(
    path: str | os.PathLike[str], *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[CubeReader]:
    """Open every cube of a source file; a 3D stack has one for each plane, named ``<file>_z<plane>``.

    Parameters and errors are those of :func:`open_source`.
    """
    path = Path(path)
    if not path.is_file():
        raise UnknownFormat(f"{path} is not a file: name an imzML file (.imzML with its .ibd beside it)")
    if _format_of(path) == "imzML":
        from msicube.readers.imzml import ImzMLReader

        return list(ImzMLReader.open(path, on_error=on_error, index_cache=index_cache))
    raise UnknownFormat(
        f"{path}: no reader takes files that end in '{path.suffix}'; known: {', '.join(ENDINGS)}"
    )


def find_sources(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the source files that are named or lie in the named folders, each once, folders in order of name.

    Raises
    ------
    UnknownFormat
        A path that does not exist, or a folder with no source file in it.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _format_of(p) is not None and p.is_file())
            if not inside:
                raise UnknownFormat(
                    f"the folder {path} holds no source file; known endings: {', '.join(ENDINGS)}"
                )
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UnknownFormat(f"{path} does not exist")
    return list(found)


def _format_of(path: Path) -> str | None:
    return ENDINGS.get(path.suffix.lower())
