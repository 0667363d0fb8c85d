"""A project as it can be converted: what it is, its imzML pairs, and what is odd about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote, urlsplit

from msicube.errors import RemoteError, UsageError
from msicube.pride.archive import Archive, Checksum, at
from msicube.remote import RemoteFile
from msicube.remote.names import file_url
from msicube.remote.pairs import RemotePair, sort_files


@dataclass(frozen=True)
class FileKind:
    """The files of one ending and category."""

    ending: str
    category: str
    files: int
    n_bytes: int


@dataclass(frozen=True)
class Project:
    """A project of an archive.

    Attributes
    ----------
    accession, title, doi, licence
        As the archive says; empty where it does not.
    facts
        Description, organisms, diseases, instruments, references, dates, ...: what the dataset card says.
    pairs
        imzML pairs, in order of slide.
    others
        Every other file.
    kinds
        The files by ending and category.
    odd
        What a reader should know.
    """

    accession: str
    title: str
    doi: str
    licence: str
    facts: Mapping[str, Any] = field(repr=False)
    pairs: tuple[RemotePair, ...] = field(repr=False)
    others: tuple[RemoteFile, ...] = field(repr=False)
    kinds: tuple[FileKind, ...] = field(repr=False)
    odd: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of all imzML pairs, as far as known."""
        return sum(pair.size for pair in self.pairs)

    @property
    def sdrf(self) -> tuple[RemoteFile, ...]:
        """The tables of samples (SDRF) among the other files."""
        return tuple(file for file in self.others if _is_sdrf(file.path))

    def chosen(self, match: str | None, limit: int | None) -> list[RemotePair]:
        """Return the pairs whose slide matches a pattern such as ``crc_*``, at most so many.

        Raises
        ------
        UsageError
            None is left.
        """
        found = [pair for pair in self.pairs if match is None or fnmatchcase(pair.slide, match)][:limit]
        if not found:
            what = (
                f"none of its {len(self.pairs)} slides matches {match!r}"
                if self.pairs
                else "it has no imzML pair"
            )
            raise UsageError(
                f"nothing of {self.accession} can be converted: {what}; see `msicube pride list`"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the project as JSON."""
        return {
            "accession": self.accession,
            "title": self.title,
            "doi": self.doi,
            "licence": self.licence,
            "bytes": self.n_bytes,
            "kinds": [vars(kind) for kind in self.kinds],
            "pairs": [
                {"slide": pair.slide, "imzml": pair.imzml.to_json(), "ibd": pair.ibd.to_json()}
                for pair in self.pairs
            ],
            "sdrf": [file.path for file in self.sdrf],
            "odd": list(self.odd),
        }


def list_project(accession: str, archive: Archive) -> Project:
    """Ask an archive for a project, its files and their checksums.

    Raises
    ------
    UsageError
        The text is no accession.
    RemoteError
        There is no such project, or the archive answers something else than its interface promises.
    """
    document = archive.project(accession)
    accession = str(document["accession"])
    records, odd = archive.records(accession)
    checksums = archive.checksums(accession)
    files, categories = _files(accession, archive, records, checksums, odd)
    found = sort_files(files)
    unchecked = [f.path for pair in found.pairs for f in pair.files if not f.md5]
    if unchecked:
        odd.append(f"{len(unchecked)} files have no checksum in the archive's list, such as {unchecked[0]}")
    if not found.pairs:
        odd.append("the project has no imzML pair")
    return Project(
        accession,
        str(document.get("title") or ""),
        str(document.get("doi") or ""),
        str(document.get("license") or ""),
        _facts(document),
        found.pairs,
        found.others,
        _kinds(files, categories),
        (*odd, *found.odd),
    )


def _files(
    accession: str,
    archive: Archive,
    records: list[dict[str, Any]],
    checksums: dict[str, list[Checksum]],
    odd: list[str],
) -> tuple[list[RemoteFile], dict[str, str]]:
    """Return the files of a project, and the category of each by its path."""
    files: dict[str, RemoteFile] = {}
    categories: dict[str, str] = {}
    root = None
    for record in records:
        name = str(record.get("fileName") or "")
        try:
            url = archive.address(record)
        except RemoteError:
            url = None
        if url is None or not name:
            odd.append(f"{name or 'a file'} has no place from which it can be downloaded over HTTP")
            continue
        path, base = _path(accession, url, name)
        root = root or base
        size = record.get("fileSizeBytes")
        file = RemoteFile(url, path, size if isinstance(size, int) and size > 0 else None)
        files.setdefault(path, _with_checksum(file, name, checksums))
        categories[path] = str(at(record, "fileCategory", "value") or "")
    names = {path.rsplit("/", 1)[-1] for path in files}
    hidden = [name for name in checksums if name not in names and "." in name and root]
    for name in hidden:
        files[name] = _with_checksum(RemoteFile(file_url(str(root), name), name), name, checksums)
    if hidden:
        odd.append(
            f"{len(hidden)} files are in the checksum list only, such as {hidden[0]}: taken as lying beside the others"
        )
    return list(files.values()), categories


def _path(accession: str, url: str, name: str) -> tuple[str, str | None]:
    """Return a file's path below its project, and the address of the project's folder where the URL shows it."""
    if "?" in url or not unquote(urlsplit(url).path).endswith(name):
        return name, None  # a download link of the private interface
    before, found, path = url.partition(f"/{accession}/")
    if not found:
        return name, None
    return unquote(path), f"{before}/{accession}"


def _with_checksum(file: RemoteFile, name: str, checksums: dict[str, list[Checksum]]) -> RemoteFile:
    """Return a file with what the checksum list says of its name; where that repeats, of its size as well.

    The list names files without their folders. Of several entries of one name and no size to tell them apart, the
    file has to meet any.
    """
    entries = checksums.get(name) or checksums.get(file.path.rsplit("/", 1)[-1]) or []
    if len(entries) > 1:
        entries = [entry for entry in entries if entry.size == file.size] or entries
    if not entries:
        return file
    sizes = {entry.size for entry in entries}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    md5 = tuple(sorted({entry.md5 for entry in entries}))
    return RemoteFile(file.url, file.path, size or file.size, md5, exact=size is not None)


def _kinds(files: list[RemoteFile], categories: Mapping[str, str]) -> tuple[FileKind, ...]:
    count: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for file in files:
        name = file.path.rsplit("/", 1)[-1]
        key = (name.rpartition(".")[2].lower() if "." in name else "", categories.get(file.path, ""))
        count[key] += 1
        size[key] += file.size or 0
    return tuple(FileKind(*key, count[key], size[key]) for key in sorted(count))


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the dataset card says besides title, DOI and licence."""
    plain = ("projectDescription", "sampleProcessingProtocol", "dataProcessingProtocol", "publicationDate")
    facts: dict[str, Any] = {key: document[key] for key in plain if document.get(key)}
    for key in ("organisms", "organismParts", "diseases", "instruments", "keywords", "references"):
        items = document.get(key)
        values = [_named(item) for item in items] if isinstance(items, list) else []
        if any(values):
            facts[key] = [value for value in values if value]
    return facts


def _named(item: Any) -> str:
    """Return the name of a controlled term, the line of a reference, or the text itself."""
    if isinstance(item, Mapping):
        line = item.get("name") or item.get("referenceLine") or item.get("value") or ""
        doi = item.get("doi")
        return f"{line} doi:{doi}" if doi else str(line)
    return str(item)


def _is_sdrf(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].lower()
    return "sdrf" in name and name.endswith((".tsv", ".txt"))
