"""Sources that are addresses, before they are converted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msicube.conversion.slide import Progress
from msicube.errors import UsageError
from msicube.readers.registry import FORMATS, main_file
from msicube.remote.bring import Brought, bring
from msicube.remote.listing import is_remote
from msicube.store import Location

#: Beside a study: its downloads.
DOWNLOADS = ".downloads"


def downloads_folder(study: Location) -> Path:
    """Return where the downloads of a study go unless another place is named.

    Raises
    ------
    UsageError
        The study is in an object store.
    """
    place = study.sibling(DOWNLOADS).local
    if place is None:
        raise UsageError(
            f"{study} is in an object store: name a folder for the downloads with --downloads (downloads=), or "
            f"--folder (folder=) for a project"
        )
    return place


def sources_here(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    study: Location,
    downloads: str | os.PathLike[str] | None,
    connections: int,
    storage_options: Mapping[str, Any] | None,
    progress: Progress | None,
) -> Brought:
    """Return sources that are files and folders here; those that are addresses are downloaded."""
    named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not any(is_remote(source) for source in named):
        return Brought(tuple(named), {}, {}, ())
    brought = bring(
        named,
        Path(downloads) if downloads is not None else downloads_folder(study),
        endings=[ending for form in FORMATS for ending in form.endings if ending],
        storage_options=storage_options,
        connections=connections,
        progress=progress,
    )
    return _sources_only(brought)


def _sources_only(brought: Brought) -> Brought:
    """Leave out files that are no sources after all: an ending alone does not say so."""
    others = [path for path in map(Path, brought.paths) if path.is_file() and main_file(path) is None]
    remarks = tuple(f"{path.name} is no source, whatever its ending says: left out" for path in others)
    paths = tuple(path for path in brought.paths if Path(path) not in others)
    return replace(brought, paths=paths, remarks=brought.remarks + remarks)
