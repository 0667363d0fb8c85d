"""Converting one slide: plan, tiles, and the moment when it appears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.conversion.peaks import PeakPlan, PeakTask
from msicube.conversion.tiles import TileRecord, TileTask, record_location
from msicube.conversion.verification import Verified
from msicube.errors import CorruptSource
from msicube.readers import BinningTally, CubeInfo, CubeReader, RaggedReader
from msicube.scheduling import SchedulerLike, run_tasks, shared
from msicube.store import Location
from msicube.store.draft import work_folder
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.tiling import TilePlan, Window, plan_tiles

#: Called with the slide's name, the tiles that are done, and the tiles there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SlidePlan:
    """All that decides what is written for a slide.

    Attributes
    ----------
    name
        Of the slide.
    reader
        On its axis.
    tiles
        How the cube is cut.
    codec
        By name.
    peaks
        How the peaks are kept; None where there are none or they are not to be.
    sample
        The slide's row of the samples table.
    stamp
        Changes when the source's files are written again: tiles of an earlier run are kept only if it is the same.
    origin
        Where the source was downloaded from; empty where it was not.
    """

    name: str
    reader: CubeReader
    tiles: TilePlan
    codec: str
    peaks: PeakPlan | None = None
    sample: dict[str, Any] = field(default_factory=dict)
    stamp: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, reader: CubeReader, *, shard_bytes: int, codec: str, keep_peaks: bool, **rest: Any
    ) -> SlidePlan:
        """Plan a slide; ``reader`` has its axis.

        Peaks are kept of what is binned: where nothing is, the cube itself has every one of them.
        """
        info = reader.info
        assert info.axis is not None
        tiles = plan_tiles((*info.shape, len(info.axis)), info.dtype.itemsize, shard_bytes=shard_bytes)
        peaks = None
        if keep_peaks and info.bins is not None and isinstance(reader, RaggedReader):
            source = reader.peaks()
            peaks = None if source is None else PeakPlan.of(source, shard_bytes)
        return cls(name, reader, tiles, codec, peaks, **rest)

    @property
    def shard_bytes(self) -> int:
        """Size of one uncompressed shard."""
        return int(np.prod(self.tiles.shard_shape)) * self.reader.info.dtype.itemsize

    @property
    def fingerprint(self) -> str:
        """Hash of the source and of everything that decides the stored bytes."""
        info = self.reader.info
        assert info.axis is not None
        edges = (info.axis, info.bins.lower, info.bins.upper) if info.bins else (info.axis,)
        document = {
            "source": info.source,
            "axis": [
                info.axis_law,
                info.axis_origin,
                *(hashlib.sha256(edge.tobytes()).hexdigest() for edge in edges),
            ],
            "tiles": [self.tiles.shape, self.tiles.tile, self.tiles.cell, self.tiles.channel_chunk],
            "dtype": info.dtype.str,
            "codec": self.codec,
            "peaks": self.peaks.document(self.codec) if self.peaks else None,
            "format_version": schema.FORMAT_VERSION,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    @property
    def work_stamp(self) -> bytes:
        """What the tiles of an unfinished run must have been made for, to be kept."""
        return f"{self.fingerprint}\n{self.stamp}".encode()


@dataclass(frozen=True)
class SlideResult:
    """Totals of a slide's records, and what the check of its source found: for its report."""

    spectra: int
    empty: int
    nonfinite: int
    binning: BinningTally | None
    relative_tic_error: float
    stored_bytes: int
    verified: Verified

    def to_json(self) -> dict[str, Any]:
        """Return what is stored as the slide's conversion report."""
        binning = self.binning or BinningTally()
        return {
            "spectra": self.spectra,
            "empty": self.empty,
            "nonfinite": self.nonfinite,
            "peaks": binning.peaks,
            "out_of_range": binning.out_of_range,
            "relative_tic_error": self.relative_tic_error,
        }


class _Task(Protocol):
    """One part of a slide: it writes objects that no other part writes, and may run twice."""

    def run(self) -> None:
        """Do it, and leave a record."""

    def finished(self) -> bool:
        """Return whether an earlier run did it and what it wrote is still there."""


def _run(task: _Task) -> None:
    task.run()


def convert_slide(
    plan: SlidePlan,
    study: Location,
    *,
    scheduler: SchedulerLike,
    workers: int | None,
    progress: Progress | None,
    verified: Callable[[], Verified],
) -> SlideResult:
    """Write a slide into a study; tiles that an earlier run finished are checked and kept.

    Nothing of the slide is visible in the study before all of it is there and ``verified`` has returned.

    Raises
    ------
    CorruptSource
        The source is damaged, as its tiles or its checksum show. Where it is the checksum, no tile is kept.
    """
    # On a disk only at the end, so that a command all of whose sources are broken leaves no empty study behind; drafts
    # in an object store lie inside the study, which must be known for one.
    if study.local is None:
        create_study(study, modality=plan.reader.info.modality)
    draft = SlideDraft.of(study, plan.name, plan.reader.info.modality)
    records = work_folder(study) / f"{plan.name}.tiles"
    _keep_or_clear(plan, draft, records)
    writer = draft.cube_writer(plan.tiles, plan.reader.info.dtype, plan.codec)
    windows = plan.tiles.tiles()
    tasks = [
        TileTask(
            plan.reader.tile(window),
            window,
            plan.reader.info.acquired[window.slices],
            writer,
            record_location(records, window),
        )
        for window in windows
    ]
    peak_tasks = list(plan.peaks.tasks(draft, records, plan.codec)) if plan.peaks else []
    _run_all(plan.name, [*tasks, *peak_tasks], scheduler, workers, progress)
    try:
        found = verified()
    except CorruptSource:
        records.remove()
        draft.discard()
        raise
    create_study(study, modality=plan.reader.info.modality)
    result = _finish(plan, draft, records, windows, peak_tasks, found)
    records.remove()
    return result


def _run_all(
    name: str,
    tasks: Sequence[_Task],
    scheduler: SchedulerLike,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Run the tasks that no earlier run has finished."""
    left = [task for task in tasks if not task.finished()]
    done = len(tasks) - len(left)

    def advance(_: None) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(name, done, len(tasks))

    if progress:
        progress(name, done, len(tasks))
    # Threads of a pool go from one tile to the next by themselves; a scheduler would wait for the interpreter, which
    # they keep busy (measured: 4 % of the conversion of many small tiles).
    held = shared(scheduler, workers) if scheduler == "threads" else nullcontext(scheduler)
    with held as pool:
        run_tasks(_run, left, scheduler=pool, workers=workers, on_result=advance)


def _keep_or_clear(plan: SlidePlan, draft: SlideDraft, records: Location) -> None:
    """Keep what an earlier run left of this very slide, and clear away anything else."""
    stamp = records / "plan"
    if stamp.get() != plan.work_stamp:
        records.remove()
        draft.discard()
        stamp.put(plan.work_stamp)
    draft.draft.sweep()


def _finish(
    plan: SlidePlan,
    draft: SlideDraft,
    records: Location,
    windows: list[Window],
    peak_tasks: list[PeakTask],
    verified: Verified,
) -> SlideResult:
    """Merge the records in the order of the tiles, write the small variables, and let the slide appear."""
    info = plan.reader.info
    assert info.axis is not None
    total = np.zeros(info.shape)
    sums, largest = np.zeros(len(info.axis)), np.full(len(info.axis), -np.inf)
    spectra = empty = nonfinite = stored = 0
    binning: BinningTally | None = None
    for window in windows:
        data = record_location(records, window).get()
        assert data is not None, f"the record of {window} has gone"
        record = TileRecord.from_bytes(data)
        total[window.slices] = record.summary.total
        sums += record.summary.sums
        np.maximum(largest, record.summary.largest, out=largest)
        spectra += record.summary.spectra
        empty += record.summary.empty
        nonfinite += record.summary.nonfinite
        stored += record.stored_bytes
        if record.binning is not None:
            binning = record.binning + (binning or BinningTally())
    stored += sum(task.stored_bytes() for task in peak_tasks)
    tic_error = _tic_error(binning, total)
    result = SlideResult(spectra, empty, nonfinite, binning, tic_error, stored, verified)
    draft.write("acquired", info.acquired)
    draft.write("spectrum_index", info.spectrum_index)
    draft.write("total_ion_current", total)
    draft.write("mean_spectrum", sums / max(1, spectra))
    draft.write("max_spectrum", np.where(np.isfinite(largest), largest, 0.0))
    draft.write(schema.AXIS_NAME[info.modality], info.axis)
    if info.bins is not None:
        draft.write("channel_lower", info.bins.lower)
        draft.write("channel_upper", info.bins.upper)
    if plan.peaks is not None:
        draft.write_offset(plan.peaks.offset)
    for name, centres, attrs in pixel_axes(info):
        draft.write(name, centres, attrs=attrs)
    draft.commit(_attributes(plan, result))
    return result


def _tic_error(binning: BinningTally | None, total: np.ndarray) -> float:
    if binning is None or binning.tic_source == 0:
        return 0.0
    stored = float(total[np.isfinite(total)].sum())
    return abs(stored - binning.tic_source) / abs(binning.tic_source)


def pixel_axes(info: CubeInfo) -> Iterator[tuple[str, NDArray[np.float64], dict[str, str]]]:
    """Yield name, pixel centres in micrometre and attributes of y and x; pixel numbers where there is no size."""
    size = info.pixel_size
    for name, n in zip("yx", info.shape, strict=True):
        if size is None:
            attrs = {"units": "pixel", "long_name": f"number of the pixel along {name}"}
            yield name, np.arange(n, dtype=np.float64), attrs
        else:
            yield name, (np.arange(n) + 0.5) * getattr(size, name), {}


def _attributes(plan: SlidePlan, result: SlideResult) -> dict[str, Any]:
    """Return the slide's attributes; :data:`msicube.schema.SLIDE_ATTRS` says what they hold."""
    info = plan.reader.info
    size = info.pixel_size
    return {
        "sample": plan.sample,
        "source": {**info.source, "verified": result.verified.checksums},
        "pixel_size": {"y": size.y, "x": size.x, "provenance": size.provenance} if size else None,
        "axis": {"law": info.axis_law, **info.axis_origin},
        **({"origin": dict(plan.origin)} if plan.origin else {}),
        "conversion": {
            **result.to_json(),
            "channels": plan.tiles.shape[2],
            "fingerprint": plan.fingerprint,
            "masked": info.masked,
            "remarks": [*info.remarks, *result.verified.remarks],
        },
    }
