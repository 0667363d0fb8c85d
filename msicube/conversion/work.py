"""What converting files and rebinning stored peaks share: the options, and one slide from its plan to its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from msicube.bytesize import format_bytes, parse_bytes
from msicube.codecs import CODECS
from msicube.conversion.report import SlideReport
from msicube.conversion.slide import Progress, SlidePlan, convert_slide
from msicube.conversion.verification import Verified
from msicube.errors import MemoryLimitError, UsageError
from msicube.readers import CubeReader, OnError
from msicube.readers.resampled import STRIP_BYTES, ResampledReader
from msicube.scheduling import SchedulerLike, default_workers
from msicube.store import Location
from msicube.store.study import check_modality

#: What the process takes before any tile: the interpreter, NumPy, Zarr, Dask and the index of the source.
BASE_MEMORY = 256 * 2**20
#: A tile in flight holds its values and what they are read through; sums and encoded chunks are small beside them.
TILE_COPIES = 3.5
#: A shard of peaks in flight holds the bytes of the file, the arrays, their joined values and what is encoded.
PEAK_COPIES = 4
#: Interpolation holds the source's spectra, and some float64 blocks of the same size.
STRIP_COPIES = 8


@dataclass(frozen=True)
class Options:
    """The arguments that every slide of one command shares; :func:`msicube.convert` says what they mean."""

    study: Location
    samples: Mapping[str, Mapping[str, Any]] | None
    origins: Mapping[str, Mapping[str, Any]]
    shard_bytes: int
    memory: int
    codec: str
    keep_peaks: bool
    verify: bool
    on_error: OnError
    scheduler: SchedulerLike
    workers: int
    progress: Progress | None

    @classmethod
    def of(
        cls,
        study: Location,
        *,
        memory_limit: str | int,
        shard_size: str | int,
        codec: str,
        scheduler: SchedulerLike,
        workers: int | None,
        progress: Progress | None,
        samples: Mapping[str, Mapping[str, Any]] | None = None,
        origins: Mapping[str, Mapping[str, Any]] | None = None,
        keep_peaks: bool = True,
        verify: bool = True,
        on_error: OnError = "stop",
    ) -> Options:
        """Parse and check the arguments as the user gave them.

        Raises
        ------
        UsageError
            No such codec, or a size that is none.
        """
        if codec not in CODECS:
            raise UsageError(f'unknown codec "{codec}": choose one of {", ".join(CODECS)}')
        return cls(
            study=study,
            samples=samples,
            origins=origins or {},
            shard_bytes=parse_bytes(shard_size),
            memory=parse_bytes(memory_limit),
            codec=codec,
            keep_peaks=keep_peaks,
            verify=verify,
            on_error=on_error,
            scheduler=scheduler,
            workers=workers or default_workers(),
            progress=progress,
        )


def plan_slide(
    name: str, reader: CubeReader, options: Options, *, sample: dict[str, Any], **rest: Any
) -> SlidePlan:
    """Plan a slide; ``reader`` has its axis."""
    return SlidePlan.of(
        name,
        reader,
        shard_bytes=options.shard_bytes,
        codec=options.codec,
        keep_peaks=options.keep_peaks,
        sample=sample,
        **rest,
    )


def write_slide(
    plan: SlidePlan, row: SlideReport, options: Options, *, verified: Callable[[], Verified]
) -> SlideReport:
    """Write a slide into its study and complete its row of the report.

    ``verified`` returns what the check of the source found, or raises; it is asked before the slide becomes visible.

    Raises
    ------
    MemoryLimitError
        Not even one tile fits.
    """
    workers = affordable(plan, options)
    info = plan.reader.info
    check_modality(options.study, info.modality)
    result = convert_slide(
        plan,
        options.study,
        scheduler=options.scheduler,
        workers=workers,
        progress=options.progress,
        verified=verified,
    )
    counts = {
        **result.to_json(),
        "channels": plan.tiles.shape[2],
        "remarks": (*info.remarks, *result.verified.remarks),
        "masked": info.masked,
    }
    return replace(row, status="converted", stored_bytes=result.stored_bytes, **stored_counts(counts))


def stored_counts(conversion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a stored conversion report that a row has too."""
    counts = {f.name: conversion[f.name] for f in fields(SlideReport) if f.name in conversion}
    return {**counts, "remarks": tuple(counts.get("remarks", ()))}


def affordable(plan: SlidePlan, options: Options) -> int:
    """Return how many tiles can be in flight within the memory limit.

    Raises
    ------
    MemoryLimitError
        Not even one.
    """
    fits = (options.memory - BASE_MEMORY) // _task_bytes(plan)
    if fits < 1:
        raise MemoryLimitError(
            f"a memory limit of {format_bytes(options.memory)} is too small: {plan.name} needs "
            f"{format_bytes(memory_needed(plan, 1))} for one tile of {format_bytes(plan.shard_bytes)}; raise the limit "
            f"or choose smaller shards (--shard-size)"
        )
    return min(options.workers, fits)


def memory_needed(plan: SlidePlan, workers: int) -> int:
    """Return the bound on the process with so many tiles in flight."""
    return BASE_MEMORY + workers * _task_bytes(plan)


def _task_bytes(plan: SlidePlan) -> int:
    """Return what one task holds at most: a tile, and what interpolating it takes; or a shard of peaks."""
    peaks = plan.peaks.shard_bytes * PEAK_COPIES if plan.peaks else 0
    strips = STRIP_BYTES * STRIP_COPIES if isinstance(plan.reader, ResampledReader) else 0
    return max(int(plan.shard_bytes * TILE_COPIES) + strips, peaks)
