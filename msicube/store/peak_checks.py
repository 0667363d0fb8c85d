"""Checking the peaks of a slide: against the schema, against themselves, and against the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msicube import schema
from msicube.errors import CorruptStore
from msicube.readers import CubeReader, PeakSource, RaggedReader
from msicube.store.draft import location_metadata
from msicube.store.peaks import PEAKS, StoredPeaks
from msicube.store.study import Study


@dataclass(frozen=True)
class PeakCheck:
    """One shard of both arrays to decode and, where a source is given, to compare; picklable.

    Attributes
    ----------
    peaks
        The spectra that the shard holds, the first and the last perhaps in part.
    start, stop
        The peaks of the shard.
    source
        The same spectra of the source.
    """

    peaks: StoredPeaks
    start: int
    stop: int
    source: PeakSource | None

    def problems(self) -> list[str]:
        """Return what is wrong."""
        arrays = (self.peaks.mz, self.peaks.intensity)
        try:
            stored = [array.read(self.start, self.stop) for array in arrays]
        except CorruptStore as error:
            return [str(error)]
        if self.source is None:
            return []
        first = int(self.peaks.start[0])
        expected = self.source.read(0, len(self.source.lengths))
        return [
            f"{name} of the peaks {self.start} to {self.stop} differs from the source"
            for name, have, want in zip(("m/z", "intensity"), stored, expected, strict=True)
            if have.tobytes() != want[self.start - first : self.stop - first].tobytes()
        ]


def peak_schema_problems(study: Study, name: str) -> Iterator[str]:
    """Yield where the group ``peaks`` departs from the schema; nothing where there is none."""
    group = study.location / name / PEAKS
    if location_metadata(group) is None:
        return
    for spec in schema.PEAK_SPECS:
        metadata = location_metadata(group / spec.name)
        if metadata is None:
            yield f"the array {PEAKS}/{spec.name} is missing"
            continue
        dims, dtype = tuple(metadata.get("dimension_names") or ()), np.dtype(metadata["data_type"])
        yield from (f"{PEAKS}/{problem}" for problem in spec.problems(dims=dims, dtype=dtype))


def peak_problems(study: Study, name: str, reader: CubeReader | None) -> list[str]:
    """Return what is wrong with the number of peaks and of spectra."""
    peaks = study.peaks(name)
    if peaks is None:
        return []
    index = study.small(name, "spectrum_index")
    counted = study.slide_attrs[name]["conversion"]["peaks"]
    problems = []
    if index.max(initial=-1) >= len(peaks.lengths):
        problems.append(
            f"spectrum_index goes to {index.max()}, the peaks are those of {len(peaks.lengths)} spectra"
        )
    else:
        foreign = peaks.lengths.copy()
        foreign[index[index >= 0]] = 0
        if foreign.any():
            problems.append(
                f"{int((foreign > 0).sum())} spectra have peaks and no pixel, the first is {int(foreign.argmax())}"
            )
    if counted != peaks.mz.length:
        problems.append(f"{peaks.mz.length} peaks are stored, the conversion report has {counted}")
    source = reader.peaks() if isinstance(reader, RaggedReader) else None
    if source is not None:
        if not np.array_equal(source.lengths, peaks.lengths):
            problems.append("the spectra do not have as many peaks as in the source")
        found, expected = (peaks.mz_dtype, peaks.intensity_dtype), (source.mz_dtype, source.intensity_dtype)
        if found != expected:
            problems.append(f"peaks are stored as {found}, the source has {expected}")
    return problems


def peak_checks(study: Study, name: str, reader: CubeReader | None) -> list[PeakCheck]:
    """Return the check of each shard, once :func:`peak_problems` has found nothing."""
    peaks = study.peaks(name)
    if peaks is None:
        return []
    source = reader.peaks() if isinstance(reader, RaggedReader) else None
    size, length = peaks.mz.layout.shape[2], peaks.mz.length
    ends = peaks.start + peaks.lengths
    checks = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = int(np.searchsorted(peaks.start, start, side="right")) - 1
        rows = np.arange(first, int(np.searchsorted(ends, stop, side="left")) + 1)
        checks.append(PeakCheck(peaks.take(rows), start, stop, source.take(rows) if source else None))
    return checks
