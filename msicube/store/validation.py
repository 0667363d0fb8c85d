"""Checking a study: against the schema, against itself, and against the files it came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.axis import OBSERVED, SpectralBins
from msicube.errors import CorruptStore, MSICubeError, UsageError
from msicube.readers import CubeReader, TileSource, find_sources, open_sources
from msicube.readers.independent import independent_tile, release
from msicube.readers.resampled import resampled
from msicube.scheduling import SchedulerLike, run_tasks
from msicube.store.cube import CubeArray
from msicube.store.draft import location_metadata
from msicube.store.mask_checks import mask_problems, mask_schema_problems
from msicube.store.peak_checks import PeakCheck, peak_checks, peak_problems, peak_schema_problems
from msicube.store.stored_reader import StoredReader, stored_bins
from msicube.store.study import Study
from msicube.tiling import Window

#: Called with the slide's name, the tiles that are checked, and the tiles there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes
    ----------
    slide
        Name.
    message
        What was found and what was expected.
    """

    slide: str
    message: str

    def __str__(self) -> str:
        return f"{self.slide}: {self.message}"


@dataclass(frozen=True)
class _TileCheck:
    """One tile to check; picklable."""

    cube: CubeArray
    window: Window
    acquired: NDArray[np.bool_]
    total: NDArray[np.float64]
    source: TileSource | None
    origin: str = "the source"


def validate(
    study: Study,
    *,
    slides: Iterable[str] | None = None,
    sources: Iterable[str | os.PathLike[str]] | None = None,
    independent: bool = False,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Check a study.

    Every variable is checked against the schema, every shard is decoded and its checksum met, unmeasured pixels must
    hold the fill value, and the total ion current must be the sum of the stored spectra. Where peaks are kept, the
    stored spectra must be what they give on the stored channels, bit for bit.

    Parameters
    ----------
    study
        An open study.
    slides
        Which; all by default.
    sources
        Files or folders to compare with: every stored spectrum and every peak with the source, bit for bit.
        A slide is compared with the source file of its name.
    independent
        Read the sources through somebody else's library (imzML: pyimzML; Agilent: agilent_format) instead of ours:
        slower, and it finds what both our reader and our store would have got wrong.
    scheduler, workers
        Where tiles are checked; see :mod:`msicube.scheduling`.
    progress
        Called with slide, tiles done and tiles in all.

    Returns
    -------
    list of Finding
        Empty where all is well.

    Raises
    ------
    UsageError
        A source without a slide, or a slide without a source when sources are given.
    """
    names = list(slides) if slides is not None else study.slides
    readers = _match(study, names, sources) if sources is not None else {}
    findings: list[Finding] = []
    for name in names:
        before = len(findings)
        findings += [Finding(name, problem) for problem in _schema_problems(study, name)]
        if len(findings) > before:
            continue
        try:
            reader = _on_stored_axis(study, name, readers[name]) if name in readers else None
            findings += [
                Finding(name, problem)
                for problem in _tile_problems(study, name, reader, independent, scheduler, workers, progress)
            ]
        except MSICubeError as error:
            findings.append(Finding(name, str(error)))
    return findings


def _match(
    study: Study, names: list[str], sources: Iterable[str | os.PathLike[str]]
) -> dict[str, CubeReader]:
    """Open the source of each slide."""
    readers: dict[str, CubeReader] = {}
    for path in find_sources(sources):
        # What is wrong with a source was masked when it was converted, or it was not: then the masks differ.
        planes = {reader.info.name: reader for reader in open_sources(path, on_error="report")}
        if not set(planes) & set(study):
            raise UsageError(f"{path} has no slide in {study.path}: convert it, or leave it out")
        readers |= planes
    missing = [name for name in names if name not in readers]
    if missing:
        raise UsageError(
            f"no source is given for {', '.join(missing)}: name the files, or choose slides with --slide"
        )
    return readers


def _schema_problems(study: Study, name: str) -> Iterator[str]:
    """Yield where a slide departs from the schema."""
    for spec in schema.specs_for(study.modality):
        metadata = location_metadata(study.location / name / spec.name)
        if metadata is None:
            if spec.required:
                yield f"the variable {spec.name} is missing"
            continue
        yield from spec.problems(
            dims=tuple(metadata.get("dimension_names") or ()), dtype=np.dtype(metadata["data_type"])
        )
    yield from peak_schema_problems(study, name)
    yield from mask_schema_problems(study, name)
    law = study.slide_attrs[name].get("axis", {}).get("law")
    binned = study.modality == "msi" and law != OBSERVED
    for edge in ("channel_lower", "channel_upper"):
        if binned and location_metadata(study.location / name / edge) is None:
            yield f"the variable {edge} is missing: the slide was binned ({law})"
    missing = set(schema.SLIDE_ATTRS) - set(study.slide_attrs[name])
    if missing:
        yield f"the attributes {', '.join(sorted(missing))} are missing"


def _tile_problems(
    study: Study,
    name: str,
    reader: CubeReader | None,
    independent: bool,
    scheduler: SchedulerLike,
    workers: int | None,
    progress: Progress | None,
) -> list[str]:
    """Check the numbers of a slide."""
    cube, acquired = study.cube(name), study.acquired(name)
    index, total = study.small(name, "spectrum_index"), study.small(name, "total_ion_current")
    problems = list(_plane_problems(study, name, cube, acquired, index))
    if reader is not None:
        problems += _source_problems(study, name, cube, index, reader)
    problems += peak_problems(study, name, reader)
    problems += mask_problems(study, name, acquired)
    if problems:
        return problems
    expected, origin = (reader, "the source") if reader else (_from_peaks(study, name), "the slide's peaks")
    tiles = [
        _TileCheck(
            cube, w, acquired[w.slices], total[w.slices], _source_tile(expected, w, independent), origin
        )
        for w in cube.tiles()
    ]
    checks: list[_TileCheck | PeakCheck] = [*tiles, *peak_checks(study, name, reader)]
    done = 0

    def advance(found: list[str]) -> None:
        nonlocal done
        done += 1
        problems.extend(found)
        if progress:
            progress(name, done, len(checks))

    try:
        run_tasks(_check, checks, scheduler=scheduler, workers=workers, on_result=advance)
    finally:
        release()
    return sorted(problems)


def _source_tile(reader: CubeReader | None, window: Window, independent: bool) -> TileSource | None:
    if reader is None:
        return None
    return independent_tile(reader, window) if independent else reader.tile(window)


def _plane_problems(
    study: Study, name: str, cube: CubeArray, acquired: NDArray[np.bool_], index: NDArray[np.int64]
) -> Iterator[str]:
    axis = study.axis(name)
    if cube.shape != (*acquired.shape, len(axis)):
        yield f"intensity has shape {cube.shape}, acquired and the axis make {(*acquired.shape, len(axis))}"
    if not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        yield "the spectral axis is not finite and strictly ascending"
    fill = schema.intensity_fill(study.modality, cube.dtype)
    if not np.array_equal(cube.layout.fill, fill, equal_nan=True):
        yield f"intensity has the fill value {cube.layout.fill:g}, expected {fill:g}"
    if not np.array_equal(acquired, index >= 0):
        yield f"acquired and spectrum_index disagree at {int((acquired != (index >= 0)).sum())} pixels"


def _source_problems(
    study: Study, name: str, cube: CubeArray, index: NDArray[np.int64], reader: CubeReader
) -> Iterator[str]:
    info = reader.info
    if not np.array_equal(info.axis, study.axis(name)):  # type: ignore[arg-type]
        yield "the stored axis is not the axis of the source"
    if info.dtype != cube.dtype:
        yield f"stored as {cube.dtype}, the source gives {info.dtype}"
    if not np.array_equal(info.spectrum_index, index):
        yield "the spectra do not lie where the source has them"


def _check(check: _TileCheck | PeakCheck) -> list[str]:
    """Return what is wrong with one part of a slide."""
    return check.problems() if isinstance(check, PeakCheck) else _check_tile(check)


def _check_tile(check: _TileCheck) -> list[str]:
    try:
        values = check.cube.read(check.window)
    except CorruptStore as error:
        return [str(error)]
    problems = []
    fill = check.cube.layout.fill
    unmeasured = values[~check.acquired]
    if not np.array_equal(unmeasured, np.full_like(unmeasured, fill), equal_nan=True):
        problems.append(f"unmeasured pixels of {check.window} are not {fill:g}")
    total = np.where(check.acquired, values.sum(axis=2, dtype=np.float64), 0)
    if not np.allclose(total, check.total, rtol=1e-9, atol=0, equal_nan=True):
        problems.append(f"total_ion_current of {check.window} is not the sum of the stored spectra")
    if check.source is not None:
        try:
            expected = check.source.read().values
        except CorruptStore as error:
            return [*problems, str(error)]
        differs = (expected.view(np.uint8) != values.view(np.uint8)).any(axis=2)
        if differs.any():
            y, x = np.argwhere(differs)[0]
            problems.append(
                f"{int(differs.sum())} spectra of {check.window} differ from {check.origin}, the first at "
                f"y={check.window.y0 + int(y)}, x={check.window.x0 + int(x)}"
            )
    return problems


def _on_stored_axis(study: Study, name: str, reader: CubeReader) -> CubeReader:
    """Return the source on the axis that the slide was stored with."""
    origin: dict[str, Any] = study.slide_attrs[name]["axis"]
    if "interpolation" in origin:
        return resampled(reader, study.axis(name), origin["interpolation"])
    if reader.info.axis is None and origin["law"] != OBSERVED:
        return reader.with_axis(stored_bins(study, name), origin["law"])
    if reader.info.axis is None:
        survey = reader.survey()
        if survey is None or survey.common_axis is None:
            raise CorruptStore("the spectra of the source do not share the m/z axis that is stored")
        reader = reader.with_axis(SpectralBins.observed(survey.common_axis), OBSERVED)
    return reader.crop(*origin["crop"]) if "crop" in origin else reader


def _from_peaks(study: Study, name: str) -> CubeReader | None:
    """Return a slide's own peaks on its own channels."""
    if study.peaks(name) is None:
        return None
    law = study.slide_attrs[name]["axis"]["law"]
    return StoredReader.open(study, name).with_axis(stored_bins(study, name), law)
