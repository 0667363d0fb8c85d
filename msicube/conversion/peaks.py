"""Keeping every peak of a ragged source: one task fills one shard of both arrays and leaves one record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.conversion.tiles import unchanged
from msicube.readers import PeakSource
from msicube.store import Location
from msicube.store.peaks import PeakLayout, PeakWriter, peak_codecs
from msicube.store.slide import SlideDraft


@dataclass(frozen=True)
class PeakPlan:
    """How the peaks of a slide are stored.

    Attributes
    ----------
    source
        Every peak, by the number of its spectrum in the source.
    layout
        Of the stored arrays.
    offset
        ``(spectrum + 1,)`` first peak of each spectrum, and the number of peaks.
    """

    source: PeakSource
    layout: PeakLayout
    offset: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, source: PeakSource, shard_bytes: int) -> PeakPlan:
        """Plan from the lengths of the spectra; ``shard_bytes`` bounds one shard of both arrays."""
        offset = np.concatenate([[0], np.cumsum(source.lengths)]).astype(np.int64)
        pair = source.mz_dtype.itemsize + source.intensity_dtype.itemsize
        return cls(source, PeakLayout.of(int(offset[-1]), pair, shard_bytes), offset)

    def document(self, codec: str) -> list[Any]:
        """Return what decides the stored bytes, as JSON; ``codec`` is that of the slide's spectra."""
        offsets = hashlib.sha256(self.offset.tobytes()).hexdigest()
        types = self.source.mz_dtype.str, self.source.intensity_dtype.str
        return [offsets, self.layout.chunk, self.layout.shard, *types, *peak_codecs(codec)]

    @property
    def pair_bytes(self) -> int:
        """Size of one (m/z, intensity) pair."""
        return self.source.mz_dtype.itemsize + self.source.intensity_dtype.itemsize

    @property
    def shard_bytes(self) -> int:
        """Uncompressed size of one shard of both arrays."""
        return self.layout.shard * self.pair_bytes

    @property
    def n_bytes(self) -> int:
        """Uncompressed size of the arrays."""
        return self.layout.length * self.pair_bytes + self.offset.nbytes

    def tasks(self, draft: SlideDraft, records: Location, codec: str) -> Iterator[PeakTask]:
        """Create the arrays and yield the task of each shard."""
        writers = draft.peak_writers(self.layout, self.source.mz_dtype, self.source.intensity_dtype, codec)
        for start, stop in self.layout.spans():
            first = int(np.searchsorted(self.offset, start, side="right")) - 1
            last = int(np.searchsorted(self.offset, stop, side="left"))
            yield PeakTask(
                self.source.take(np.arange(first, last)),
                int(self.offset[first]),
                start,
                stop,
                writers,
                records / f"peaks-{start}.json",
            )


@dataclass(frozen=True)
class PeakTask:
    """One shard of both arrays; picklable, may run anywhere and more than once.

    Attributes
    ----------
    source
        The spectra that the shard holds, the first and the last perhaps in part.
    first
        Number of the first peak of those spectra.
    start, stop
        The peaks of the shard.
    writers
        Of m/z and of intensity.
    record
        Where the record goes, after the shards.
    """

    source: PeakSource
    first: int
    start: int
    stop: int
    writers: tuple[PeakWriter, PeakWriter]
    record: Location

    def run(self) -> None:
        """Read the spectra and store the two shards; the record comes last."""
        peaks = self.source.read(0, len(self.source.lengths))
        wanted = slice(self.start - self.first, self.stop - self.first)
        stored = [
            writer.write(self.start, values[wanted])
            for writer, values in zip(self.writers, peaks, strict=True)
        ]
        self.record.put(json.dumps(stored).encode())

    def finished(self) -> bool:
        """Return whether an earlier run stored the shards and they are still what was written then."""
        stored = self._stored()
        return stored is not None and all(
            unchanged(writer.shard(self.start), *entry)
            for writer, entry in zip(self.writers, stored, strict=True)
        )

    def stored_bytes(self) -> int:
        """Return the size of the two shards, once they are stored."""
        return sum(size for size, _ in self._stored() or [])

    def _stored(self) -> list[tuple[int, int]] | None:
        data = self.record.get()
        try:
            return None if data is None else [(int(size), int(crc)) for size, crc in json.loads(data)]
        except ValueError:
            return None  # cut off by a power failure: as if it were not there
