"""Converting one slide: plan, tiles, and the moment when it appears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msicube import schema
from msicube.conversion.tiles import (
    TileRecord,
    TileTask,
    convert_tile,
    finished_record,
    record_location,
)
from msicube.readers import BinningTally, CubeReader
from msicube.scheduling import SchedulerLike, run_tasks
from msicube.store import Location
from msicube.store.draft import work_folder
from msicube.store.slide import SlideDraft
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
    sample
        The slide's row of the samples table.
    checksums
        Of the source, as far as they were verified.
    remarks
        What the report says besides the reader's own remarks.
    """

    name: str
    reader: CubeReader
    tiles: TilePlan
    codec: str
    sample: dict[str, Any] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, reader: CubeReader, *, shard_bytes: int, codec: str, **rest: Any) -> SlidePlan:
        """Plan a slide; ``reader`` has its axis."""
        info = reader.info
        assert info.axis is not None
        tiles = plan_tiles((*info.shape, len(info.axis)), info.dtype.itemsize, shard_bytes=shard_bytes)
        return cls(name, reader, tiles, codec, **rest)

    @property
    def shard_bytes(self) -> int:
        """Size of one uncompressed shard."""
        return int(np.prod(self.tiles.shard_shape)) * self.reader.info.dtype.itemsize

    @property
    def fingerprint(self) -> str:
        """Hash of the source and of everything that decides the stored bytes."""
        info = self.reader.info
        assert info.axis is not None
        document = {
            "source": info.source,
            "axis": [info.axis_law, hashlib.sha256(info.axis.tobytes()).hexdigest()],
            "tiles": [self.tiles.shape, self.tiles.tile, self.tiles.cell, self.tiles.channel_chunk],
            "dtype": info.dtype.str,
            "codec": self.codec,
            "format_version": schema.FORMAT_VERSION,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SlideResult:
    """Totals of a slide's records, for its report."""

    spectra: int
    empty: int
    nonfinite: int
    binning: BinningTally | None
    relative_tic_error: float
    stored_bytes: int

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


def convert_slide(
    plan: SlidePlan,
    study: Location,
    *,
    scheduler: SchedulerLike,
    workers: int | None,
    progress: Progress | None,
) -> SlideResult:
    """Write a slide into a study; tiles that an earlier run finished are checked and kept.

    Nothing of the slide is visible in the study before all of it is there.
    """
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
    left = [task for task in tasks if finished_record(task) is None]
    done = len(tasks) - len(left)

    def advance(_: Window) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(plan.name, done, len(tasks))

    if progress:
        progress(plan.name, done, len(tasks))
    run_tasks(convert_tile, left, scheduler=scheduler, workers=workers, on_result=advance)
    result = _finish(plan, draft, records, windows)
    records.remove()
    return result


def _keep_or_clear(plan: SlidePlan, draft: SlideDraft, records: Location) -> None:
    """Keep what an earlier run left of this very slide, and clear away anything else."""
    stamp = records / "plan"
    if stamp.get() != plan.fingerprint.encode():
        records.remove()
        draft.discard()
        stamp.put(plan.fingerprint.encode())


def _finish(plan: SlidePlan, draft: SlideDraft, records: Location, windows: list[Window]) -> SlideResult:
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
    result = SlideResult(spectra, empty, nonfinite, binning, _tic_error(binning, total), stored)
    draft.write("acquired", info.acquired)
    draft.write("spectrum_index", info.spectrum_index)
    draft.write("total_ion_current", total)
    draft.write("mean_spectrum", sums / max(1, spectra))
    draft.write("max_spectrum", np.where(np.isfinite(largest), largest, 0.0))
    draft.write(schema.AXIS_NAME[info.modality], info.axis)
    _write_pixel_axes(plan, draft)
    draft.commit(_attributes(plan, result))
    return result


def _tic_error(binning: BinningTally | None, total: np.ndarray) -> float:
    if binning is None or binning.tic_source == 0:
        return 0.0
    stored = float(total[np.isfinite(total)].sum())
    return abs(stored - binning.tic_source) / abs(binning.tic_source)


def _write_pixel_axes(plan: SlidePlan, draft: SlideDraft) -> None:
    """Write pixel centres in micrometre, or pixel numbers where the source gives no size."""
    size = plan.reader.info.pixel_size
    for name, n in zip("yx", plan.reader.info.shape, strict=True):
        if size is None:
            draft.write(
                name, np.arange(n), attrs={"units": "pixel", "long_name": f"number of the pixel along {name}"}
            )
        else:
            draft.write(name, (np.arange(n) + 0.5) * getattr(size, name))


def _attributes(plan: SlidePlan, result: SlideResult) -> dict[str, Any]:
    """Return the slide's attributes; :data:`msicube.schema.SLIDE_ATTRS` says what they hold."""
    info = plan.reader.info
    size = info.pixel_size
    return {
        "sample": plan.sample,
        "source": {**info.source, "verified": plan.checksums},
        "pixel_size": {"y": size.y, "x": size.x, "provenance": size.provenance} if size else None,
        "axis": {"law": info.axis_law},
        "conversion": {
            **result.to_json(),
            "channels": plan.tiles.shape[2],
            "fingerprint": plan.fingerprint,
            "masked": info.masked,
            "remarks": [*info.remarks, *plan.remarks],
        },
    }
