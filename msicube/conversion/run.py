"""Converting many sources into one study."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from msicube.codecs import DEFAULT_CODEC
from msicube.conversion.axis_plan import AxisPlan, plan_axis
from msicube.conversion.report import ConversionReport, SlideReport
from msicube.conversion.slide import Progress
from msicube.conversion.work import Options, plan_slide, stored_counts, write_slide
from msicube.errors import CorruptSource, MSICubeError, SlideExists, UsageError
from msicube.readers import AxisSurvey, CubeReader, find_sources, open_sources
from msicube.samples import read_samples
from msicube.scheduling import SchedulerLike
from msicube.store import Location, Study
from msicube.store.draft import METADATA, group_metadata
from msicube.store.lock import write_lock
from msicube.store.study import find_study


@dataclass
class _Source:
    """A source on its way into the study."""

    path: Path
    name: str
    reader: CubeReader | None = None
    survey: AxisSurvey | None = None
    error: MSICubeError | None = None
    seconds: float = field(default=0.0)


def convert(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    study: str | os.PathLike[str],
    *,
    mz_axis: str | None = None,
    samples: str | os.PathLike[str] | Mapping[str, Mapping[str, Any]] | None = None,
    memory_limit: str | int = "2 GiB",
    shard_size: str | int = "64 MiB",
    codec: str = DEFAULT_CODEC,
    keep_peaks: bool = True,
    verify: bool = True,
    on_error: Literal["stop", "continue", "report"] = "stop",
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write spectral images into a study, one shard at a time.

    Parameters
    ----------
    sources
        Files or folders; one slide each, named like the file without its ending.
    study
        Path or URL; made where there is none, added to where there is one.
    mz_axis
        Axis law for processed imzML, e.g. ``"ppm:20"``; continuous data keep their own axis.
    samples
        A samples table: a CSV file with a column ``slide``, or slide name to a mapping. Slides that are in the study
        already get their row again.
    memory_limit
        Bound on this process; concurrency is derived from it.
    shard_size
        Bound on one uncompressed shard.
    codec
        One of :data:`msicube.codecs.CODECS`.
    keep_peaks
        Keep every (m/z, intensity) pair of processed imzML beside the binned cube, losslessly: another axis can then be
        chosen later without the file, see :func:`msicube.rebin`.
    verify
        Check each source against its strongest declared checksum before its first tile.
    on_error
        ``"stop"`` raises the first error; ``"continue"`` goes on with the other sources and reports it; ``"report"``
        also converts sources that are wrong in part: what is wrong becomes a remark and a masked pixel.
    scheduler, workers
        Where tiles are converted; see :mod:`msicube.scheduling`.
    storage_options
        What fsspec needs for a remote study.
    progress
        Called with slide, tiles done and tiles in all.

    Returns
    -------
    ConversionReport
        One row per slide: spectra read, empty, out of range, relative TIC error, seconds, bytes.

    Raises
    ------
    AxisRequired
        A processed source and no ``mz_axis``; the message suggests one from the observed spacing.
    CorruptSource
        A source is damaged or contradicts itself. Nothing of this slide becomes visible in the study.
    SlideExists
        A slide of this name is in the study from another source.
    StudyLocked
        Another process is writing to the study.

    Notes
    -----
    Running it again goes on where it stopped. Finished shards are verified, not rewritten.
    """
    found = find_sources([sources] if isinstance(sources, str | os.PathLike) else sources)
    location = Location.of(study, storage_options)
    options = Options.of(
        location,
        samples=samples if samples is None or isinstance(samples, Mapping) else read_samples(samples),
        memory_limit=memory_limit,
        shard_size=shard_size,
        codec=codec,
        keep_peaks=keep_peaks,
        verify=verify,
        on_error="report" if on_error == "report" else "stop",
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )
    items = [_Source(path, path.stem) for path in found]
    _check_names(items)
    with write_lock(location):
        existing = find_study(location)
        items = [plane for item in items for plane in _planes(item, options, on_error)]
        _check_names(items)
        for item in items:
            _guard(item, on_error, lambda item=item: _survey(item, existing))
        plan = plan_axis({i.name: (i.reader, i.survey) for i in items if i.reader}, mz_axis, existing)
        rows = tuple(_convert_one(item, plan, existing, options, on_error) for item in items)
    return ConversionReport(location.url, rows, tuple(_sample_remarks(items, options)))


def _check_names(items: list[_Source]) -> None:
    """Check that every slide has a name of its own.

    Raises
    ------
    UsageError
        Two slides of one name, or a name that the store keeps for itself.
    """
    seen: dict[str, Path] = {}
    for item in items:
        if item.name.startswith(("_", ".")):
            raise UsageError(
                f"{item.path}: slide names must not start with '{item.name[0]}'; rename the file"
            )
        if item.name in seen:
            raise UsageError(
                f"{seen[item.name]} and {item.path} would both be the slide {item.name}: rename one"
            )
        seen[item.name] = item.path


def _guard(item: _Source, on_error: str, action: Any) -> Any:
    """Run a step of one source; note its error where the others are to go on."""
    started = time.perf_counter()
    try:
        return action()
    except MSICubeError as error:
        if on_error == "stop":
            raise
        item.error = error
        return None
    finally:
        item.seconds += time.perf_counter() - started


def _planes(item: _Source, options: Options, on_error: str) -> list[_Source]:
    """Open a source; a stack becomes one slide for each plane."""
    readers = _guard(item, on_error, lambda: open_sources(item.path, on_error=options.on_error))
    if not readers:
        return [item]
    return [
        _Source(item.path, reader.info.name, reader, seconds=item.seconds / len(readers))
        for reader in readers
    ]


def _survey(item: _Source, study: Study | None) -> None:
    """Look through the axis of a source, unless its slide is there and needs none."""
    if item.reader is not None and (study is None or item.name not in study):
        item.survey = item.reader.survey()


def _convert_one(
    item: _Source, axis: AxisPlan, study: Study | None, options: Options, on_error: str
) -> SlideReport:
    row = SlideReport(item.name, str(item.path), "failed")
    if item.error is None:
        row = _guard(item, on_error, lambda: _write(item, axis, study, options)) or row
    return replace(row, seconds=item.seconds, error=str(item.error) if item.error else None)


def _write(item: _Source, axis: AxisPlan, study: Study | None, options: Options) -> SlideReport:
    reader = item.reader
    assert reader is not None
    row = SlideReport(item.name, str(item.path), "present", source_bytes=_source_bytes(item.path))
    sample = dict((options.samples or {}).get(item.name, {}))
    if study is not None and item.name in study:
        _check_present(item, study, options.samples is not None, sample)
        return replace(row, **stored_counts(study.slide_attrs[item.name]["conversion"]))
    checksums, remarks = _verified(reader, options)
    plan = plan_slide(
        item.name,
        axis.apply(reader, item.survey),
        options,
        sample=sample,
        checksums=checksums,
        remarks=remarks,
    )
    return write_slide(plan, row, options)


def _verified(reader: CubeReader, options: Options) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the checksums that were met, and what the report says of the others."""
    if not options.verify:
        return {}, ()
    try:
        met = reader.verify()
    except CorruptSource as error:
        if options.on_error == "stop":
            raise
        return {}, (f"{error}; converted all the same, because wrong sources are to be reported",)
    missed = [name for name in reader.info.source.get("checksums", {}) if name not in met]
    remark = f"the declared {' and '.join(missed)} is wrong, the stronger {' and '.join(met)} is right: read"
    return met, (remark,) if missed else ()


def _check_present(item: _Source, study: Study, has_samples: bool, sample: dict[str, Any]) -> None:
    """Check that a slide came from this source, and give it its row of the samples table.

    Raises
    ------
    SlideExists
        It came from another.
    """
    attrs = study.slide_attrs[item.name]
    stored = {key: value for key, value in attrs["source"].items() if key != "verified"}
    assert item.reader is not None
    if stored != item.reader.info.source:
        raise SlideExists(
            f"the study has a slide {item.name} from another file (UUID {stored.get('uuid')}) than {item.path} (UUID "
            f"{item.reader.info.source.get('uuid')}): rename the file, or remove the slide first"
        )
    if has_samples and attrs.get("sample") != sample:
        (study.location / item.name / METADATA).put(group_metadata({**attrs, "sample": sample}))


def _sample_remarks(items: list[_Source], options: Options) -> list[str]:
    if options.samples is None:
        return []
    missing = [item.name for item in items if item.name not in options.samples]
    return [f"no row in the samples table: {', '.join(missing)}"] if missing else []


def _source_bytes(path: Path) -> int:
    return sum(
        p.stat().st_size for p in path.parent.glob(f"{path.stem}.*") if p.suffix.lower() in (".imzml", ".ibd")
    )
