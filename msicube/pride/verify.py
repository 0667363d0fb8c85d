"""Years later: which files every slide of a study came from, and whether the archive still has the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msicube.errors import UsageError
from msicube.pride.actions import ARCHIVE
from msicube.pride.archive import Archive
from msicube.pride.card import CATALOG
from msicube.pride.project import Project, list_project
from msicube.remote import RemoteFile
from msicube.remote.transfer import HASH_BLOCK
from msicube.store import Study, open_study

State = Literal["same", "listed", "changed", "gone", "unknown"]


@dataclass(frozen=True)
class FileState:
    """One source file of one slide.

    Attributes
    ----------
    slide
        Name.
    path, md5
        Of the file that the slide was made of.
    state
        ``same``: the archive's checksum (or the file given) is the slide's; ``listed``: the archive has a file of this
        name and size and no checksum; ``changed``; ``gone``; ``unknown``: the slide does not tell where it came from.
    detail
        What was found and what was expected.
    """

    slide: str
    path: str
    md5: str
    state: State
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing speaks against it."""
        return self.state in ("same", "listed")


def verify_study(
    study: str | os.PathLike[str] | Study,
    *,
    archive: Archive | None = None,
    files: str | os.PathLike[str] | None = None,
) -> list[FileState]:
    """Compare the checksums that a study keeps of its source files with the archive, or with files that are here.

    The stored spectra themselves are checked by :func:`msicube.validate`.

    Parameters
    ----------
    study
        Made by :func:`convert_project`.
    archive
        Which; PRIDE by default.
    files
        A folder: its files are read and compared, and no archive is asked.

    Returns
    -------
    list of FileState
        In order of slide and path.

    Raises
    ------
    UsageError
        No slide of the study tells where it came from.
    RemoteError
        The archive cannot be reached.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    origins = {name: attrs.get("origin") or {} for name, attrs in opened.slide_attrs.items()}
    accessions = sorted({str(o["accession"]) for o in origins.values() if o.get("archive") == ARCHIVE})
    if not accessions and files is None:
        raise UsageError(f"no slide of {opened.path} came from an archive: there is nothing to compare with")
    if files is not None:
        return [
            state for name, origin in origins.items() for state in _against_files(name, origin, Path(files))
        ]
    asked = archive or Archive.of()
    with asked:
        projects = {accession: list_project(accession, asked) for accession in accessions}
    listed = {accession: _by_path(project) for accession, project in projects.items()}
    return [state for name, origin in origins.items() for state in _against_archive(name, origin, listed)]


def catalog_problems(study: Study) -> list[str]:
    """Return where the catalogue of a study and its slides tell different things."""
    import json

    data = (study.location / CATALOG).get()
    if data is None:
        return [f"there is no {CATALOG}: run `msicube pride convert` again to write it"]
    slides = json.loads(data)["slides"]
    return [
        f"{name}: the catalogue and the slide tell different source files"
        for name, attrs in study.slide_attrs.items()
        if attrs.get("origin") and slides.get(name, {}).get("files") != attrs["origin"]["files"]
    ]


def _by_path(project: Project) -> dict[str, RemoteFile]:
    files = [file for pair in project.pairs for file in pair.files]
    return {file.path: file for file in (*files, *project.others)}


def _against_archive(
    slide: str, origin: Mapping[str, Any], listed: Mapping[str, Mapping[str, RemoteFile]]
) -> Iterator[FileState]:
    table = listed.get(str(origin.get("accession")))
    if table is None:
        yield FileState(slide, "", "", "unknown", "the slide does not tell where it came from")
        return
    for file in origin["files"]:
        now = table.get(file["path"])
        known = (slide, file["path"], file["md5"])
        if now is None:
            yield FileState(*known, "gone", "the archive does not list it any more")
        elif now.md5:
            same = file["md5"] in now.md5
            yield FileState(
                *known, "same" if same else "changed", "" if same else f"now {' or '.join(now.md5)}"
            )
        elif now.size in (None, file["size"]):
            yield FileState(*known, "listed", "the archive has no checksum of it")
        else:
            yield FileState(*known, "changed", f"{file['size']} bytes then, {now.size} now")


def _against_files(slide: str, origin: Mapping[str, Any], folder: Path) -> Iterator[FileState]:
    if not origin.get("files"):
        yield FileState(slide, "", "", "unknown", "the slide does not tell where it came from")
        return
    for file in origin["files"]:
        ending = Path(file["path"]).suffix.lower()
        names = {
            Path(file["path"]).name,
            f"{origin.get('slide', slide)}{'.imzML' if ending == '.imzml' else ending}",
        }
        found = next((path for name in sorted(names) for path in sorted(folder.rglob(name))), None)
        known = (slide, file["path"], file["md5"])
        if found is None:
            yield FileState(*known, "gone", f"no {' or '.join(sorted(names))} in {folder}")
            continue
        digest = hashlib.md5(usedforsecurity=False)
        with found.open("rb") as stream:
            while block := stream.read(HASH_BLOCK):
                digest.update(block)
        same = digest.hexdigest() == file["md5"]
        yield FileState(
            *known, "same" if same else "changed", "" if same else f"{found} has {digest.hexdigest()}"
        )
