"""Converting many sources into one study."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from msicube.axis import Range
from msicube.codecs import DEFAULT_CODEC
from msicube.conversion.axis_plan import AxisPlan, AxisWish, plan_axes
from msicube.conversion.downloads import sources_here
from msicube.conversion.report import ConversionReport, SlideReport
from msicube.conversion.slide import Progress
from msicube.conversion.sources import (
    Source,
    axes_of,
    check_present,
    guarded,
    one_modality,
    sample_remarks,
    survey_sources,
    surveys_of,
)
from msicube.conversion.verification import Checks
from msicube.conversion.work import Options, plan_slide, stored_counts, write_slide
from msicube.errors import DownloadError
from msicube.readers import find_sources
from msicube.readers.resampled import Interpolation
from msicube.remote.pool import DEFAULT_CONNECTIONS
from msicube.samples import read_samples
from msicube.scheduling import SchedulerLike
from msicube.store import Location, Study
from msicube.store.draft import METADATA, group_metadata
from msicube.store.lock import write_lock
from msicube.store.study import find_study


def convert(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    study: str | os.PathLike[str],
    *,
    mz_axis: str | None = None,
    mz_range: Range | None = None,
    crop: str | Range | None = None,
    wavenumber_axis: str | os.PathLike[str] | None = None,
    interpolation: Interpolation = "linear",
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
    downloads: str | os.PathLike[str] | None = None,
    connections: int = DEFAULT_CONNECTIONS,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write spectral images into a study, one shard at a time.

    Parameters
    ----------
    sources
        Files or folders; one slide each, named like the file without its ending. An address (``https://...``, a prefix
        of an object store ``s3://...``, a ``.txt`` with one URL a line) is downloaded first, or what is missing of it.
    study
        Path or URL; made where there is none, added to where there is one.
    mz_axis
        Axis law for processed imzML, e.g. ``"ppm:20"``; continuous data keep their own axis.
    mz_range
        First and last m/z of that axis; by default the sources' own, which are then looked through first. What lies
        outside is counted in the report.
    crop
        ``(lower, upper)`` or ``"lower:upper"``: the channels to keep, both ends included. Of sources that state their
        axis nothing else is read; of ragged ones the channels of the chosen axis are cropped, by their centres.
    wavenumber_axis
        The axis that infrared sources are interpolated to where theirs is another one: ``"START:STOP:STEP"`` in cm^-1,
        ``"first"`` (that of the first source, or of the study where it has slides), ``"slide:NAME"`` or a file of
        values. Without it, sources on different axes are an error, and nothing is ever extrapolated.
    interpolation
        ``"linear"``, or ``"cubic"`` for a spline through all channels of the source. It is written into the store.
    samples
        A samples table: a CSV file with a column ``slide``, or slide name to a mapping. Slides that are in the study
        already get their row again; one without a row keeps what it has.
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
        Check each source against its strongest declared checksum, beside its conversion; a slide whose source does
        not meet it never becomes visible.
    on_error
        ``"stop"`` raises the first error; ``"continue"`` goes on with the other sources and reports it; ``"report"``
        also converts sources that are wrong in part: what is wrong becomes a remark and a masked pixel.
    scheduler, workers
        Where tiles are converted; see :mod:`msicube.scheduling`.
    storage_options
        What fsspec needs for a remote study, or for sources in an object store.
    downloads
        Where sources go that are addresses; ``<study>.downloads`` by default.
    connections
        Downloads at once.
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
    AxisMismatch
        Infrared sources on different axes and no ``wavenumber_axis``, or a study on another axis than the one asked
        for. Nothing is written.
    CorruptSource
        A source is damaged or contradicts itself. Nothing of this slide becomes visible in the study.
    SlideExists
        A slide of this name is in the study from another source.
    StudyLocked
        Another process is writing to the study.
    RemoteError, DiskSpaceError
        A source that is an address cannot be downloaded.

    Notes
    -----
    Running it again goes on where it stopped. Finished shards are verified, not rewritten.
    """
    location = Location.of(study, storage_options)
    here = sources_here(sources, location, downloads, connections, storage_options, progress)
    if here.errors and on_error == "stop":
        raise DownloadError(next(iter(here.errors.values())))
    found = find_sources(here.paths)
    options = Options.of(
        location,
        samples=samples if samples is None or isinstance(samples, Mapping) else read_samples(samples),
        origins=here.origins,
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
    wish = AxisWish.of(mz_axis, mz_range, crop, wavenumber_axis, interpolation)
    with write_lock(location), Checks(options.on_error, enabled=verify) as checks:
        existing = find_study(location)
        # Whatever it holds is new to a new study: the first source is hashed while its index is read.
        if existing is None and found:
            checks.begin(found[0])
        items = survey_sources(found, existing, options, on_error)
        plan = plan_axes(surveys_of(items), axes_of(items), one_modality(items, existing), wish, existing)
        rows = tuple(convert_all(items, plan, existing, options, on_error, checks))
    missing = tuple(SlideReport(Path(path).stem, path, "failed", error=e) for path, e in here.errors.items())
    return ConversionReport(location.url, rows + missing, (*here.remarks, *sample_remarks(items, options)))


def convert_all(
    items: Sequence[Source],
    axis: AxisPlan,
    study: Study | None,
    options: Options,
    on_error: str,
    checks: Checks,
) -> Iterator[SlideReport]:
    """Write sources into the study, or check that they are there; yield a row for each.

    While one is written the next one's checksum is on its way, no further: what is hashed is still in the page cache
    when its tiles are read.
    """
    for number, item in enumerate(items):
        for source in items[number : number + 2]:
            if source.error is None and not (study is not None and source.name in study):
                checks.begin(source.path)
        write = partial(_write, item, axis, study, options, checks)
        row = guarded(item, on_error, write) if item.error is None else None
        row = row or SlideReport(item.name, str(item.path), "failed")
        yield replace(row, seconds=item.seconds, error=str(item.error) if item.error else None)


def _write(
    item: Source, axis: AxisPlan, study: Study | None, options: Options, checks: Checks
) -> SlideReport:
    reader = item.open()
    row = SlideReport(item.name, str(item.path), "present", source_bytes=reader.info.source_bytes)
    sample = dict((options.samples or {}).get(item.name, {}))
    if study is not None and item.name in study:
        check_present(item, study)
        if options.samples is not None and item.name in options.samples:
            update_attrs(study, item.name, sample=sample)
        if "origin" not in study.slide_attrs[item.name] and item.name in options.origins:
            update_attrs(study, item.name, origin=dict(options.origins[item.name]))
        return replace(row, **stored_counts(study.slide_attrs[item.name]["conversion"]))
    plan = plan_slide(
        item.name,
        axis.apply(reader, item.survey),
        options,
        sample=sample,
        stamp=item.stamp,
        origin=options.origins.get(item.name, {}),
    )
    with checks.beside(item.path, reader) as verified:
        return write_slide(plan, row, options, verified=verified)


def update_attrs(study: Study, name: str, **changes: Any) -> None:
    """Give a slide that is there other attributes, such as its row of the samples table."""
    attrs = study.slide_attrs[name]
    if any(attrs.get(key) != value for key, value in changes.items()):
        attrs.update(changes)
        (study.location / name / METADATA).put(group_metadata(attrs))
