"""What a conversion would do: slides, tiles, axis, size and memory, with nothing written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from msicube.axis import Range
from msicube.codecs import DEFAULT_CODEC
from msicube.conversion.axis_plan import AxisPlan, AxisWish, plan_axes
from msicube.conversion.slide import SlidePlan
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
from msicube.conversion.work import Options, affordable, memory_needed, plan_slide
from msicube.errors import UsageError
from msicube.readers import find_sources
from msicube.readers.resampled import Interpolation
from msicube.remote import shown
from msicube.remote.listing import is_remote
from msicube.samples import read_samples
from msicube.store import Location, Study
from msicube.store.draft import work_folder
from msicube.store.study import find_study

Status = Literal["new", "unfinished", "present", "failed"]


@dataclass(frozen=True)
class SlideForecast:
    """One slide, as it would be.

    Attributes
    ----------
    slide
        Name.
    source
        Path of the source file.
    status
        ``new``; ``unfinished``, a run that was stopped has left tiles of this very slide; ``present`` in the study
        already; ``failed``, it cannot be converted.
    spectra, masked
        To be read, and to be left out as wrong.
    shape
        ``(y, x, channel)``.
    dtype
        Of the stored intensities.
    axis
        Law, and first and last m/z or wavenumber.
    tile, tiles
        ``(y, x)`` of a tile, and how many there are.
    intensity_bytes, peaks_bytes
        Of the cube, the pixels that were not acquired left out, and of the peaks: before compression.
    workers, memory
        Tiles in flight, and what they and the process take at most.
    remarks
        Oddities that were met, and how they would be taken.
    error
        Why it cannot be converted.
    """

    slide: str
    source: str
    status: Status
    spectra: int = 0
    masked: int = 0
    shape: tuple[int, ...] = ()
    dtype: str = ""
    axis: str = ""
    tile: tuple[int, ...] = ()
    tiles: int = 0
    intensity_bytes: int = 0
    peaks_bytes: int = 0
    workers: int = 0
    memory: int = 0
    remarks: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ConversionPlan:
    """What a ``convert`` would do.

    Attributes
    ----------
    study
        Path or URL.
    slides
        In the order of the sources.
    remarks
        About the command as a whole.
    """

    study: str
    slides: tuple[SlideForecast, ...]
    remarks: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """What would be written, before compression."""
        return sum(row.intensity_bytes + row.peaks_bytes for row in self.slides)

    @property
    def memory(self) -> int:
        """Bound on the process."""
        return max((row.memory for row in self.slides), default=0)

    @property
    def failed(self) -> tuple[SlideForecast, ...]:
        """The slides that cannot be converted."""
        return tuple(row for row in self.slides if row.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {**asdict(self), "n_bytes": self.n_bytes, "memory": self.memory}


def plan(
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
    on_error: Literal["stop", "continue", "report"] = "continue",
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> ConversionPlan:
    """Plan a conversion and write nothing into the study or beside it, not even a lock.

    The sources are opened, and of processed ones the m/z values are looked through, as for the conversion itself. What
    only reading every spectrum shows, such as a wrong checksum, is not known before.

    Parameters
    ----------
    sources, study, mz_axis, mz_range, crop, wavenumber_axis, interpolation, samples
        As for :func:`msicube.convert`.
    memory_limit, shard_size, codec, keep_peaks, workers, storage_options
        As for :func:`msicube.convert`.
    on_error
        As for :func:`msicube.convert`; by default what is wrong with a source is in its row.

    Returns
    -------
    ConversionPlan
        One row per slide: status, shape, axis, tiles, size before compression, memory.
    """
    named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    remote = [str(source) for source in named if is_remote(source)]
    if remote:
        raise UsageError(f"{shown(remote[0])} is not here, and a plan needs the files: download them first")
    found = find_sources(named)
    location = Location.of(study, storage_options)
    options = Options.of(
        location,
        samples=samples if samples is None or isinstance(samples, Mapping) else read_samples(samples),
        memory_limit=memory_limit,
        shard_size=shard_size,
        codec=codec,
        keep_peaks=keep_peaks,
        on_error="report" if on_error == "report" else "stop",
        scheduler="synchronous",
        workers=workers,
        progress=None,
    )
    existing = find_study(location)
    items = survey_sources(found, existing, options, on_error)
    wish = AxisWish.of(mz_axis, mz_range, crop, wavenumber_axis, interpolation)
    axis = plan_axes(surveys_of(items), axes_of(items), one_modality(items, existing), wish, existing)
    rows = tuple(_forecast(item, axis, existing, options, on_error) for item in items)
    return ConversionPlan(location.url, rows, tuple(sample_remarks(items, options)))


def _forecast(
    item: Source, axis: AxisPlan, study: Study | None, options: Options, on_error: str
) -> SlideForecast:
    row = SlideForecast(item.name, str(item.path), "failed")
    if item.error is None:
        row = guarded(item, on_error, lambda: _planned(item, row, axis, study, options)) or row
    return replace(row, error=str(item.error) if item.error else None)


def _planned(
    item: Source, row: SlideForecast, axis: AxisPlan, study: Study | None, options: Options
) -> SlideForecast:
    if study is not None and item.name in study:
        check_present(item, study)
        attrs = study.slide_attrs[item.name]
        return replace(
            row,
            status="present",
            spectra=attrs["conversion"]["spectra"],
            shape=study.cube(item.name).shape,
            axis=attrs["axis"]["law"],
        )
    sample = dict((options.samples or {}).get(item.name, {}))
    reader = axis.apply(item.open(), item.survey)
    slide = plan_slide(item.name, reader, options, sample=sample, stamp=item.stamp)
    return _row(row, slide, options)


def _row(row: SlideForecast, slide: SlidePlan, options: Options) -> SlideForecast:
    """Describe a planned slide.

    Raises
    ------
    MemoryLimitError
        Not even one tile fits.
    """
    info = slide.reader.info
    assert info.axis is not None
    workers = affordable(slide, options)
    stamp = (work_folder(options.study) / f"{slide.name}.tiles" / "plan").get()
    return replace(
        row,
        status="unfinished" if stamp == slide.work_stamp else "new",
        spectra=info.n_spectra,
        masked=info.masked,
        shape=slide.tiles.shape,
        dtype=info.dtype.name,
        axis=f"{info.axis_law}, {info.axis[0]:.6g} to {info.axis[-1]:.6g}",
        tile=slide.tiles.tile,
        tiles=len(slide.tiles.tiles()),
        intensity_bytes=info.n_spectra * slide.tiles.shape[2] * info.dtype.itemsize,
        peaks_bytes=slide.peaks.n_bytes if slide.peaks else 0,
        workers=workers,
        memory=memory_needed(slide, workers),
        remarks=info.remarks,
    )
