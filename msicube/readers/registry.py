"""Which reader takes which file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from msicube.errors import UnknownFormat, UsageError
from msicube.readers.base import CubeReader, OnError


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name
        As users call it.
    endings
        Of file names, lower case; what else belongs to a source of this format is listed too.
    module
        Has ``main_file(path)``, the file that stands for the source that ``path`` is a part of, or None where the file
        is not of this format after all; and ``open_readers(path, *, on_error, index_cache)``, a reader for each cube of
        the source. It is imported when a file with one of the endings is met. Where checksums are those of whole files
        it has ``verify_file(path, between)`` as well, which needs no reader; ``between`` is called now and then and may
        raise to end the check.
    """

    name: str
    endings: tuple[str, ...]
    module: str

    def main_file(self, path: Path) -> Path | None:
        """Return the file that stands for a source, given any of its files; None where it is of another format."""
        if path.suffix.lower() not in self.endings:
            return None
        found: Path | None = import_module(self.module).main_file(path)
        return found

    def file_check(self) -> Callable[[Path, Callable[[], None]], dict[str, str]] | None:
        """Return how to check a source that is not open; None where its cubes are checked one by one."""
        check: Callable[[Path, Callable[[], None]], dict[str, str]] | None
        check = getattr(import_module(self.module), "verify_file", None)
        return check

    def open_readers(self, path: Path, **options: Any) -> list[CubeReader]:
        """Return a reader for each cube of a source."""
        return list(import_module(self.module).open_readers(path, **options))


#: Every format, in the order in which they are asked whose file it is. A new one adds its row.
FORMATS: tuple[Format, ...] = (
    Format("imzML", (".imzml", ".ibd"), "msicube.readers.imzml"),
    # Before ENVI: the instrument writes an ENVI header beside its own files.
    Format(
        "Agilent",
        (".dmt", ".dmd", ".dms", ".drd", ".bsp", ".dat", ".seq", ".hdr"),
        "msicube.readers.agilent",
    ),
    Format(
        "ENVI", (".hdr", ".img", ".dat", ".raw", ".bil", ".bip", ".bsq", ".bin", ""), "msicube.readers.envi"
    ),
    Format("PerkinElmer", (".fsm",), "msicube.readers.perkinelmer"),
    Format("MATLAB", (".mat",), "msicube.readers.matlab"),
    Format("HDF5", (".h5", ".hdf5"), "msicube.readers.hdf5"),
    Format("OPUS", tuple(f".{number}" for number in range(10)), "msicube.readers.opus"),
    Format("OMNIC map", (".map",), "msicube.readers.omnic"),
    Format("NumPy", (".npy", ".npz"), "msicube.readers.numpy_arrays"),
)


def open_source(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "stop",
    index_cache: str | None = None,
    format_name: str | None = None,
    cube: str | None = None,
) -> CubeReader:
    """Open one cube of a source: its metadata and index are read, its spectra are not.

    Parameters
    ----------
    path
        Any file of the source: an ``.imzML`` with its ``.ibd`` beside it, say; or a folder that holds one source.
    on_error
        ``"stop"`` raises the first thing that is wrong; ``"report"`` masks spectra that are wrong and names each of
        them in ``info.remarks``.
    index_cache
        Where the index of a large file is kept for the next time: a folder, ``"beside"`` the source (or the folder,
        where that cannot be written), or ``"off"``. None takes the environment variable ``MSICUBE_INDEX_CACHE``, and
        without it the folder ``$XDG_CACHE_HOME/msicube``.
    format_name
        Only this one of :data:`FORMATS`, by its name; None asks them all.
    cube
        Which one of several cubes, by the name that its slide gets in a conversion, such as ``"<file>_b1"``. None takes
        the only one.

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
        There are several cubes and none is named, or there is none of the name; the message has their names.
        :func:`open_sources` opens them all.
    """
    readers = open_sources(path, on_error=on_error, index_cache=index_cache, format_name=format_name)
    names = ", ".join(reader.info.name for reader in readers)
    if cube is not None:
        chosen = next((reader for reader in readers if reader.info.name == cube), None)
        if chosen is None:
            raise UsageError(f"{path} holds no cube {cube!r}: name one of {names}")
        return chosen
    if len(readers) > 1:
        raise UsageError(
            f"{path} holds {len(readers)} cubes ({names}): name one with cube=, or open all with open_sources"
        )
    return readers[0]


def open_sources(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "stop",
    index_cache: str | None = None,
    format_name: str | None = None,
) -> list[CubeReader]:
    """Open every cube of a source; a 3D stack has one for each plane, named ``<file>_z<plane>``.

    Parameters and errors are those of :func:`open_source`.
    """
    path = Path(path)
    if path.is_dir():
        path = _only_source(path)
    if not path.is_file():
        raise UnknownFormat(f"{path} is not a file: name a file of a known format ({_known()})")
    for form in FORMATS:
        main = form.main_file(path) if format_name in (None, form.name) else None
        if main is not None:
            return form.open_readers(main, on_error=on_error, index_cache=index_cache)
    if format_name is not None:
        raise UnknownFormat(f"{path} is no file of the format {format_name}; known: {_known()}")
    raise UnknownFormat(f"{path}: no reader takes files that end in '{path.suffix}'; known: {_known()}")


def file_check(path: Path) -> Callable[[Callable[[], None]], dict[str, str]] | None:
    """Return what checks a source against the checksums of its files, without opening it.

    Parameters
    ----------
    path
        The file that stands for the source.

    Returns
    -------
    callable or None
        Takes a function that is called between blocks and may raise to end the check; returns and raises what
        :meth:`CubeReader.verify` does. None where cubes are checked one by one, or the file is of no known format.
    """
    for form in FORMATS:
        if form.main_file(path) is not None:
            check = form.file_check()
            return None if check is None else partial(check, path)
    return None


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
            inside = [main_file(p) for p in sorted(path.rglob("*")) if p.is_file()]
            if not any(inside):
                raise UnknownFormat(f"the folder {path} holds no source file; known endings: {_known()}")
            found.update(dict.fromkeys(main for main in inside if main is not None))
        elif path.exists():
            found[main_file(path) or path] = None
        else:
            raise UnknownFormat(f"{path} does not exist")
    return list(found)


def _only_source(folder: Path) -> Path:
    """Return the source that lies in a folder.

    Raises
    ------
    UsageError
        There are several.
    """
    found = find_sources([folder])
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise UsageError(f"the folder {folder} holds {len(found)} sources ({names}, ...): name one of them")
    return found[0]


def main_file(path: Path) -> Path | None:
    """Return the file that stands for the source that a file is a part of; None where it is of no known format."""
    return next((main for form in FORMATS if (main := form.main_file(path)) is not None), None)


def _known() -> str:
    return ", ".join(f"{form.name} ({', '.join(form.endings)})" for form in FORMATS)
