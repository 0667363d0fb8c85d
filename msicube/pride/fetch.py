"""The files of a project in a folder, whole and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msicube.errors import DownloadError
from msicube.pride.archive import Archive
from msicube.pride.project import Project, list_project
from msicube.pride.report import ProjectReport, ProjectRow
from msicube.remote import Outcome, RemoteFile, Servers, fetch, fetch_all
from msicube.remote.names import place_all
from msicube.remote.pool import DEFAULT_CONNECTIONS
from msicube.remote.transfer import Progress

#: In a folder of downloads: what is no imzML pair.
OTHERS = "others"


def fetch_project(
    accession: str,
    folder: str | os.PathLike[str],
    *,
    archive: Archive | None = None,
    match: str | None = None,
    limit: int | None = None,
    everything: bool = False,
    connections: int = DEFAULT_CONNECTIONS,
    on_download: Progress | None = None,
) -> ProjectReport:
    """Download the imzML pairs of a project, or what is missing of them.

    A file is named like its slide, ``<slide>.imzML`` and ``<slide>.ibd``, which is the name that it has in the archive
    unless that is used twice or not safe. Other files, where they are asked for, go to ``others/`` with their folders.

    Parameters
    ----------
    accession
        Such as ``"PXD001283"``.
    folder
        Made where needed. Nothing is ever written outside it.
    archive
        Which; PRIDE by default.
    match, limit
        Only slides of this pattern, and at most so many.
    everything
        Take the files as well that are no imzML pairs.
    connections
        Downloads at once.
    on_download
        Called as files advance.

    Returns
    -------
    ProjectReport
        One row a slide, and one for each other file.

    Raises
    ------
    DiskSpaceError
        There is not enough room; nothing was downloaded.
    RemoteError
        The archive cannot be reached, or has no such project.
    """
    archive, place = archive or Archive.of(), Path(folder)
    with archive:
        project = list_project(accession, archive)
        pairs = project.chosen(match, limit) if project.pairs or not everything else []
        others = list(project.others) if everything else list(project.sdrf)
        work = [item for pair in pairs for item in pair.places(place)]
        work += places_of(others, place)
        found = {
            outcome.remote.path: outcome
            for outcome in fetch_all(
                work, Servers(archive.client), connections=connections, progress=on_download
            )
        }
    rows = [_row(pair.slide, [found[file.path] for file in pair.files]) for pair in pairs]
    rows += [_row(file.path, [found[file.path]]) for file in others]
    return ProjectReport(project.accession, str(place), tuple(rows), None, project.odd)


def places_of(files: Sequence[RemoteFile], folder: Path) -> list[tuple[RemoteFile, Path]]:
    """Return files that are no imzML pairs, each with its place."""
    return list(zip(files, place_all(folder / OTHERS, (file.path for file in files)), strict=True))


def read_sdrf(project: Project, folder: Path, servers: Servers, remarks: list[str]) -> dict[str, str]:
    """Return the text of the project's SDRF files by their path, downloaded where they are not here.

    One that cannot be had is named in the remarks: labels can be given to slides later.
    """
    texts = {}
    for file, place in places_of(project.sdrf, folder):
        try:
            receipt = fetch(file, place, servers.transport(file.url))
        except DownloadError as error:
            remarks.append(f"the table of samples could not be read: {error}")
            continue
        texts[file.path] = receipt.path.read_text(encoding="utf-8-sig", errors="replace")
    return texts


def _row(name: str, outcomes: list[Outcome]) -> ProjectRow:
    errors = [str(outcome.error) for outcome in outcomes if outcome.error]
    return ProjectRow(
        name,
        "failed" if errors else "downloaded",
        source_bytes=sum(outcome.receipt.size for outcome in outcomes if outcome.receipt),
        error="; ".join(errors) or None,
    )
