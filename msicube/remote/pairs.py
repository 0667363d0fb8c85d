"""Which files of a listing are imzML pairs, what their slides are called, and what is odd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from msicube.remote.files import RemoteFile
from msicube.remote.names import place_inside, safe_name

IMZML, IBD = ".imzml", ".ibd"


@dataclass(frozen=True)
class RemotePair:
    """An ``.imzML`` and its ``.ibd`` on a server.

    Attributes
    ----------
    slide
        What its slide is called: as the file, with its folders before it where files of several folders are called
        the same, made safe for a file system.
    imzml, ibd
        The two files.
    """

    slide: str
    imzml: RemoteFile
    ibd: RemoteFile

    @property
    def files(self) -> tuple[RemoteFile, RemoteFile]:
        """Both; the large one first, so that a pair is not nearly done for long."""
        return self.ibd, self.imzml

    @property
    def size(self) -> int:
        """Bytes of both, as far as known."""
        return (self.imzml.size or 0) + (self.ibd.size or 0)

    def places(self, folder: Path) -> list[tuple[RemoteFile, Path]]:
        """Return both files with their places in a folder; the names of the slide, not of the server."""
        return [
            (self.ibd, place_inside(folder, f"{self.slide}{IBD}")),
            (self.imzml, place_inside(folder, f"{self.slide}.imzML")),
        ]


@dataclass(frozen=True)
class Sorted:
    """A listing, sorted.

    Attributes
    ----------
    pairs
        In order of slide.
    others
        Every other file.
    odd
        What a reader should know: files without their partner, names that had to be changed.
    """

    pairs: tuple[RemotePair, ...]
    others: tuple[RemoteFile, ...]
    odd: tuple[str, ...]


def sort_files(files: Iterable[RemoteFile]) -> Sorted:
    """Find the imzML pairs of a listing.

    Partners are files of one folder whose names differ in the ending only; endings in any case, and where no name fits
    exactly, names in any case. Which category or order they are listed in means nothing.
    """
    unique = {file.path: file for file in files}
    kinds: dict[str, dict[PurePosixPath, RemoteFile]] = {IMZML: {}, IBD: {}}
    others, odd = [], []
    for path, file in sorted(unique.items()):
        pure = PurePosixPath(path)
        table = kinds.get(pure.suffix.lower())
        if table is None:
            others.append(file)
        elif pure.with_suffix("") in table:
            odd.append(
                f"{path} and {table[pure.with_suffix('')].path} differ in the case of their ending only: left out"
            )
            others.append(file)
        else:
            table[pure.with_suffix("")] = file
    matched = _match(kinds[IMZML], kinds[IBD])
    pairs = _named(matched, odd)
    taken = {file.path for pair in pairs for file in (pair.imzml, pair.ibd)}
    for ending, partner in ((IMZML, ".ibd"), (IBD, ".imzML")):
        alone = [file for file in kinds[ending].values() if file.path not in taken]
        odd += [f"{file.path} has no {partner} beside it" for file in alone]
        others += alone
    return Sorted(tuple(pairs), tuple(others), tuple(odd))


def _match(
    imzml: dict[PurePosixPath, RemoteFile], ibd: dict[PurePosixPath, RemoteFile]
) -> dict[PurePosixPath, tuple[RemoteFile, RemoteFile]]:
    """Return each stem with its two files."""
    found = {stem: (file, ibd[stem]) for stem, file in imzml.items() if stem in ibd}
    folded: dict[str, list[PurePosixPath]] = defaultdict(list)
    for stem in ibd:
        if stem not in found:
            folded[str(stem).casefold()].append(stem)
    alone = [stem for stem in imzml if stem not in found]
    for stem in alone:
        near = folded[str(stem).casefold()]
        rivals = [other for other in alone if str(other).casefold() == str(stem).casefold()]
        if len(near) == len(rivals) == 1:
            found[stem] = imzml[stem], ibd[near[0]]
    return found


def _named(matched: dict[PurePosixPath, tuple[RemoteFile, RemoteFile]], odd: list[str]) -> list[RemotePair]:
    """Give each pair a name of its own, also where the file system takes capitals and small letters for the same."""
    groups: dict[str, list[PurePosixPath]] = defaultdict(list)
    for stem in matched:
        groups[safe_name(stem.name).casefold()].append(stem)
    pairs, used = [], set()
    for stems in groups.values():
        for stem in sorted(stems):
            name = safe_name(stem.name if len(stems) == 1 else "_".join(stem.parts))
            number, unique = 1, name
            while unique.casefold() in used:
                number += 1
                unique = f"{name}_{number}"
            used.add(unique.casefold())
            pairs.append(RemotePair(unique, *matched[stem]))
        if len(stems) > 1:
            odd.append(
                f"{len(stems)} pairs are called {stems[0].name} ({', '.join(str(s.parent) for s in sorted(stems))}): "
                f"their slides are named with their folders"
            )
    pairs.sort(key=lambda pair: pair.slide)
    for pair in pairs:
        stem = PurePosixPath(pair.imzml.path).with_suffix("")
        if pair.slide not in (stem.name, "_".join(stem.parts)):
            odd.append(
                f"{pair.imzml.path} becomes the slide {pair.slide}: its own name is not safe as a file name"
            )
    return pairs
