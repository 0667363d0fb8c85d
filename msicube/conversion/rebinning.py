"""A new spectral axis for slides whose peaks are kept, without their files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from msicube import schema
from msicube.codecs import DEFAULT_CODEC
from msicube.conversion.axis_plan import AxisPlan, plan_axis
from msicube.conversion.report import ConversionReport, SlideReport
from msicube.conversion.slide import Progress
from msicube.conversion.verification import Verified
from msicube.conversion.work import Options, plan_slide, stored_counts, write_slide
from msicube.errors import UsageError
from msicube.scheduling import SchedulerLike
from msicube.store import Location, Study, open_study
from msicube.store.draft import METADATA, work_folder
from msicube.store.lock import write_lock
from msicube.store.peaks import PEAKS
from msicube.store.slide import SlideDraft
from msicube.store.stored_reader import StoredReader, stored_bins


def rebin(
    study: Study | str | os.PathLike[str],
    *,
    mz_axis: str,
    slides: Iterable[str] | None = None,
    memory_limit: str | int = "2 GiB",
    shard_size: str | int = "64 MiB",
    codec: str = DEFAULT_CODEC,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Bin the peaks that are kept in a study again, on another axis.

    The axis is planned over all chosen slides. Each slide is written beside the study and takes the place of the old
    one by one rename; what it holds then is what converting its source on that axis gives, byte for byte. Features that
    a pipeline had left in a slide belong to the old axis and go with it.

    Parameters
    ----------
    study
        A local study.
    mz_axis
        Axis law, e.g. ``"ppm:20"``.
    slides
        Which; all that have peaks by default.
    memory_limit, shard_size, codec, scheduler, workers, progress
        As for :func:`msicube.convert`.

    Returns
    -------
    ConversionReport
        One row per slide, with the peaks out of range and the relative TIC error on the new axis; ``present`` for one
        that is on it already.

    Raises
    ------
    UsageError
        A slide without peaks, or a study in an object store, where nothing can take another's place at once.
    StudyLocked
        Another process is writing to the study.

    Notes
    -----
    Running it again goes on where it stopped.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    if opened.location.local is None:
        raise UsageError(
            f"{opened.path} is in an object store, where a slide cannot take the place of another at once: convert the "
            f"sources into another study"
        )
    options = Options.of(
        opened.location,
        memory_limit=memory_limit,
        shard_size=shard_size,
        codec=codec,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )
    with write_lock(opened.location):
        opened = open_study(opened.location)
        names = _chosen(opened, slides)
        readers = {name: StoredReader.open(opened, name) for name in names}
        plan = plan_axis(
            {name: (partial(StoredReader.open, opened, name), r.survey()) for name, r in readers.items()},
            mz_axis,
            None,
        )
        rows = tuple(_rebin_one(opened, name, readers[name], plan, options) for name in names)
    left = [name for name in opened.slides if name not in names]
    remarks = (f"left on the axis that they have: {', '.join(left)}",) if left else ()
    return ConversionReport(opened.path, rows, remarks)


def _chosen(study: Study, slides: Iterable[str] | None) -> list[str]:
    """Return the slides to bin again."""
    names = list(slides) if slides is not None else [name for name in study if study.peaks(name)]
    if not names:
        raise UsageError(
            f"no slide of {study.path} has peaks: only processed sources that were converted with peaks kept have them"
        )
    return names


def _rebin_one(
    study: Study, name: str, reader: StoredReader, axis: AxisPlan, options: Options
) -> SlideReport:
    started = time.perf_counter()
    attrs = study.slide_attrs[name]
    row = SlideReport(name, str(reader.info.source.get("imzml", {}).get("name", name)), "present")
    if _is_on(study, name, axis):
        _clear(study.location, name, study.modality)
        row = replace(row, **stored_counts(attrs["conversion"]))
    else:
        assert axis.bins is not None
        assert axis.law is not None
        plan = plan_slide(
            name,
            reader.with_axis(axis.bins, axis.law),
            options,
            sample=dict(attrs["sample"]),
            origin=attrs.get("origin", {}),
        )
        gone = _features(study, name)
        row = write_slide(plan, row, options, verified=lambda: Verified(reader.verify()))
        if gone:
            remark = f"the features {', '.join(gone)} belonged to the old axis and have gone: fit their pipeline again"
            row = replace(row, remarks=(*row.remarks, remark))
    return replace(row, seconds=time.perf_counter() - started)


def _is_on(study: Study, name: str, axis: AxisPlan) -> bool:
    """Return whether a slide is on an axis already."""
    assert axis.bins is not None
    if study.slide_attrs[name]["axis"]["law"] != axis.law:
        return False
    have, want = stored_bins(study, name), axis.bins
    return all(
        np.array_equal(getattr(have, edge), getattr(want, edge)) for edge in ("centres", "lower", "upper")
    )


def _clear(study: Location, name: str, modality: str) -> None:
    """Remove what a run that was killed just after a slide's change of place left of the old one."""
    SlideDraft.of(study, name, modality).discard()
    (work_folder(study) / f"{name}.tiles").remove()


def _features(study: Study, name: str) -> list[str]:
    """Return the variables of a slide that a pipeline made."""
    known = {spec.name for spec in schema.SPECS} | {METADATA, PEAKS}
    return [child for child in (study.location / name).children() if child not in known]
