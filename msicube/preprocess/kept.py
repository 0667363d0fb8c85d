"""Statistics of slides, kept in the study so that the next fit need not read these slides again.

They lie in ``<study>/_statistics/entries/``, one object a slide and pass. ``entries`` is an empty Zarr array, so that
readers of Zarr pass over what its folder holds. An entry's name is a hash of everything that decides its bits: the
slide's content, the mask, the fitted steps before it, what is gathered, and the code that gathers. So nothing is ever
stale, entries of different fits lie beside each other, and the folder may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msicube.errors import CorruptStore
from msicube.preprocess.chain import Chain
from msicube.preprocess.datasets import VARIABLE
from msicube.preprocess.fingerprints import code_digest, description
from msicube.preprocess.packing import pack, unpack
from msicube.preprocess.request import Request
from msicube.preprocess.sources import Source
from msicube.preprocess.studies import StudySource
from msicube.store import Location, Study, array_metadata, group_metadata, open_study
from msicube.store.draft import METADATA
from msicube.store.location import TEMPORARY

FOLDER = "_statistics"
#: The environment variable that turns keeping off for every fit that does not say ``cache=``.
ENVIRONMENT = "MSICUBE_STATISTICS"
#: Bytes of all entries of a study together.
LIMIT_BYTES = 8 * 2**30


class DamagedEntry(CorruptStore):
    """An entry that cannot be read; its slide is read instead.

    Attributes
    ----------
    entry
        Its name.
    """

    def __init__(self, message: str, entry: str) -> None:
        super().__init__(message, entry)
        self.entry = entry

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class StatisticsStore:
    """The kept statistics of a study; picklable, used by many tasks at once.

    Attributes
    ----------
    entries
        Their folder.
    largest
        Bytes of the largest entry that is kept; 0 keeps nothing new.
    """

    entries: Location
    largest: int = LIMIT_BYTES

    @classmethod
    def of(cls, study: Location) -> StatisticsStore:
        """Open the kept statistics of a study, and make their folder; nothing is kept where it cannot be made."""
        entries = study / FOLDER / "entries"
        try:
            if (entries / METADATA).get() is None:
                about = {"about": "statistics of slides, kept for the next fit; may be removed at any time"}
                array = array_metadata((0,), np.dtype(np.uint8), chunks=(1,), dims=("entry",), attrs=about)
                (entries / METADATA).put(array)
                (study / FOLDER / METADATA).put(group_metadata({}))
        except (OSError, NotImplementedError):
            return cls(entries, largest=0)
        return cls(entries)

    def names(self) -> set[str]:
        """Return the names of the entries."""
        return {name for name in self.entries.children() if name != METADATA and not name.endswith(TEMPORARY)}

    def read(self, entry: str) -> Any:
        """Return what was kept.

        Raises
        ------
        DamagedEntry
            It is not there any more, or its bytes are not those that were written.
        """
        try:
            return unpack((self.entries / entry).get() or b"")
        except (CorruptStore, TypeError, ValueError, KeyError) as error:
            raise DamagedEntry(f"kept statistic {self.entries / entry}: {error}", entry) from error

    def keep(self, value: Any, entry: str) -> Any:
        """Keep a value under a name, as far as there is room, and return it."""
        try:
            data = pack(value) if self.largest else b""
            if 0 < len(data) <= self.largest:
                (self.entries / entry).put(data)
        except (
            TypeError,
            OSError,
        ):  # not of a kind that can be kept, or no room: it is gathered again the next time
            return value
        return value

    def remove(self, entry: str) -> None:
        """Remove an entry."""
        (self.entries / entry).remove()

    def trim(self, used: frozenset[str], limit: int) -> None:
        """Remove entries that were not used until all together take no more than ``limit`` bytes."""
        sizes = {name: size for name, size in self.entries.sizes().items() if name != METADATA}
        total = sum(sizes.values())
        for name in sorted(sizes.keys() - used):
            if total <= limit:
                return
            self.remove(name)
            total -= sizes[name]


@dataclass(frozen=True)
class Kept:
    """What is kept of one pass.

    Attributes
    ----------
    store
        Where.
    entries
        The entry of each slide, which is there or to be made.
    present
        The slides whose entry is there.
    """

    store: StatisticsStore
    entries: Mapping[str, str]
    present: frozenset[str]

    def without(self, entry: str) -> Kept:
        """Return the same, less an entry that cannot be read."""
        return replace(self, present=frozenset(s for s in self.present if self.entries[s] != entry))


def wants_cache(cache: bool | None) -> bool:
    """Return whether statistics are kept: as the caller says, else unless the environment says ``off``."""
    return os.environ.get(ENVIRONMENT, "on").lower() != "off" if cache is None else cache


def kept_of_pass(source: Source, chain: Chain, request: Request) -> Kept | None:
    """Return what is kept of a pass over slides of a study; None where nothing can be.

    Parameters
    ----------
    source
        What is read.
    chain
        The fitted steps between it and the statistic. Where one that is not affine is of another package, nothing is
        kept: it may change without a sign of it.
    request
        The statistic.
    """
    if not isinstance(source, StudySource):
        return None
    try:
        entries = _entries(source, chain, request)
    except TypeError:
        return None
    store = StatisticsStore.of(source.study.location)
    names = store.names()
    present = frozenset(slide for slide, entry in entries.items() if entry in names)
    return Kept(replace(store, largest=min(store.largest, LIMIT_BYTES // len(entries))), entries, present)


def _entries(source: StudySource, chain: Chain, request: Request) -> dict[str, str]:
    """Return the name of the entry of each slide.

    Raises
    ------
    TypeError
        Something that cannot be described decides the statistic.
    """
    same = _described(chain, request)
    labels = {} if request.by is None else source.labels(request.by)
    entries = {}
    for slide in source.slides:
        # What other slides' numbers a step holds is no matter of this slide.
        its_chain = source.own_chain(chain, slide)
        key = (same if its_chain is chain else _described(its_chain, request)).copy()
        own = [source.digests[slide], source.mask_digests.get(slide), labels.get(slide)]
        key.update(json.dumps(own).encode())
        entries[slide] = key.hexdigest()
    return entries


def _described(chain: Chain, request: Request) -> Any:
    """Return the hash, to be gone on with, of what a pass gathers and of the code that gathers it."""
    gathered = json.dumps([VARIABLE, description(chain), description(request)], sort_keys=True)
    return hashlib.sha256(f"{code_digest()} {gathered}".encode())


def clear_statistics(study: Study | str | os.PathLike[str]) -> None:
    """Remove all kept statistics of a study; the next fit reads every slide.

    Parameters
    ----------
    study
        The study or its path.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    (opened.location / FOLDER).remove()
