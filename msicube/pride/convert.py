"""A project into a study: what is left is downloaded, checked, converted on one axis, and documented."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from msicube.bytesize import parse_bytes
from msicube.codecs import DEFAULT_CODEC
from msicube.conversion import SlideReport, SlideWriter
from msicube.conversion.downloads import downloads_folder
from msicube.conversion.run import update_attrs
from msicube.conversion.slide import Progress as TileProgress
from msicube.conversion.work import Options
from msicube.errors import UsageError
from msicube.pride.actions import Convert
from msicube.pride.archive import Archive
from msicube.pride.axis import axis_of
from msicube.pride.card import write_card
from msicube.pride.cluster import flow_on_cluster
from msicube.pride.fetch import read_sdrf
from msicube.pride.flow import Handled, Plan, Runner, drop, flow
from msicube.pride.labels import Labels, read_labels
from msicube.pride.project import Project, list_project
from msicube.pride.report import ProjectReport, ProjectRow
from msicube.remote import Servers
from msicube.remote.pairs import RemotePair
from msicube.remote.pool import DEFAULT_CONNECTIONS
from msicube.remote.transfer import RECEIPTS, Progress
from msicube.scheduling import LOCAL, SchedulerLike
from msicube.store import Location, Study
from msicube.store.lock import write_lock
from msicube.store.study import find_study

#: Called with the row of each slide when it is finished, the number of the finished and of all.
OnRow = Callable[[ProjectRow, int, int], None]


@dataclass(frozen=True)
class _Sorted:
    """The slides of a project, by what is left to do."""

    left: tuple[RemotePair, ...]
    rows: tuple[ProjectRow, ...]


def convert_project(
    accession: str,
    study: str | os.PathLike[str],
    *,
    archive: Archive | None = None,
    folder: str | os.PathLike[str] | None = None,
    match: str | None = None,
    limit: int | None = None,
    stream: bool = False,
    disk_limit: str | int | None = None,
    two_passes: bool = False,
    mz_axis: str | None = None,
    mz_range: tuple[float, float] | None = None,
    samples: str | os.PathLike[str] | Mapping[str, Mapping[str, Any]] | None = None,
    label_from: str | None = None,
    connections: int = DEFAULT_CONNECTIONS,
    memory_limit: str | int = "2 GiB",
    shard_size: str | int = "64 MiB",
    codec: str = DEFAULT_CODEC,
    keep_peaks: bool = True,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    on_download: Progress | None = None,
    on_tile: TileProgress | None = None,
    on_row: OnRow | None = None,
) -> ProjectReport:
    """Download what is missing of a project and convert it into one study.

    Parameters
    ----------
    accession
        Such as ``"PXD001283"``.
    study
        Path or URL; made where there is none, added to where there is one.
    archive
        Which; PRIDE by default, see :meth:`msicube.pride.Archive.of`.
    folder
        Where downloads go; ``<study>.downloads`` by default.
    match, limit
        Only slides of this pattern (``crc_*``), and at most so many.
    stream
        Remove the files of a slide when it has been converted and what was stored was compared with them.
    disk_limit
        Bound on the bytes of files in ``folder``, with ``stream``.
    two_passes
        With ``stream``, an axis law and no ``mz_range``: download every file twice, the first time for the range of
        m/z.
    mz_axis, mz_range
        Axis law of processed imzML, and the m/z range of the axis; see :func:`msicube.convert`.
    samples, label_from
        What is known of each slide: a table (CSV, or its URL), and a rule on file names; see
        :func:`msicube.pride.labels.read_labels`. An SDRF file of the project is read in any case.
    connections
        Downloads at once; over all workers where ``scheduler`` is a cluster.
    memory_limit, shard_size, codec, keep_peaks, scheduler, workers, storage_options
        As for :func:`msicube.convert`. On a cluster a task is one slide, which its worker downloads and converts.
    on_download, on_tile, on_row
        Called as files, tiles and slides advance.

    Returns
    -------
    ProjectReport
        One row a slide. One that failed did not stop the others; the same call goes on with what is left.

    Raises
    ------
    UsageError
        Nothing of the project can be converted; or slides are to be removed before the axis of all is known.
    RemoteError
        The archive cannot be reached, or has no such project.
    DiskSpaceError
        The disk has no room for the files, and ``stream`` was not asked for.
    StudyLocked
        Another process is writing to the study.
    """
    location = Location.of(study, storage_options)
    place = Path(folder) if folder is not None else downloads_folder(location)
    archive = archive or Archive.of()
    if disk_limit is not None and not stream:
        raise UsageError("a limit on the disk (--disk-limit, disk_limit=) needs --stream (stream=True)")
    plan = Plan(
        place,
        Servers(archive.client),
        connections,
        keep=not stream,
        disk_limit=parse_bytes(disk_limit) if disk_limit is not None else None,
        in_flight=1 + max(1, connections // 2),
    )
    options = Options.of(
        location,
        memory_limit=memory_limit,
        shard_size=shard_size,
        codec=codec,
        keep_peaks=keep_peaks,
        scheduler=scheduler,
        workers=workers,
        progress=on_tile,
    )
    with archive, write_lock(location):
        project = list_project(accession, archive)
        pairs = project.chosen(match, limit)
        remarks: list[str] = []
        labels = read_labels(
            pairs,
            sdrf=read_sdrf(project, place, plan.servers, remarks),
            label_from=label_from,
            samples=samples,
            client=archive.client,
        )
        existing = find_study(location)
        todo = _sort_out(pairs, project, existing, labels, plan)
        runner = _runner(scheduler, on_download)
        axis = axis_of(todo.left, plan, runner, mz_axis, mz_range, existing, two_passes=two_passes)
        writer = SlideWriter(options, axis)
        on_cluster = not (isinstance(scheduler, str) and scheduler in LOCAL)
        action = Convert(writer.on_worker() if on_cluster else writer, labels, project.accession, stream)
        rows = [*todo.rows, *_run(todo.left, len(pairs), plan, runner, action, on_row)]
        rows.sort(key=lambda row: row.slide)
        report = ProjectReport(
            project.accession,
            location.url,
            tuple(replace(row, label=str(labels.of(row.slide).get("label", ""))) for row in rows),
            tuple(labels.unlabelled([pair.slide for pair in pairs])),
            (*project.odd, *remarks, *labels.remarks),
        )
        write_card(location, project, labels, report)
        if stream:
            _sweep(place, [pair for pair in pairs if pair.slide not in {row.slide for row in report.failed}])
    return report


def _sweep(folder: Path, done: Sequence[RemotePair]) -> None:
    """Remove what killed runs left of slides that are done, and the folder of downloads where nothing else is in it."""
    for pair in done:
        drop(pair, folder)
    for place in (folder / RECEIPTS, folder):
        with suppress(OSError):
            place.rmdir()


def _runner(scheduler: SchedulerLike, on_download: Progress | None) -> Runner:
    """Return what gives slides to an action: threads of this process, or a cluster."""
    if isinstance(scheduler, str) and scheduler in LOCAL:
        return partial(flow, progress=on_download)
    return partial(flow_on_cluster, scheduler=scheduler)


def _sort_out(
    pairs: Sequence[RemotePair], project: Project, study: Study | None, labels: Labels, plan: Plan
) -> _Sorted:
    """Tell the slides that are there, made of the very files that the archive has, from those that are left."""
    made: dict[str, list[str]] = {}
    for name, attrs in (study.slide_attrs if study is not None else {}).items():
        origin = attrs.get("origin", {})
        if origin.get("accession") == project.accession:
            made.setdefault(str(origin.get("slide")), []).append(name)
    left, rows = [], []
    for pair in pairs:
        slides = made.get(pair.slide, [])
        origins = [study.slide_attrs[name]["origin"] for name in slides] if study is not None else []
        if not slides or len(slides) < int(origins[0].get("planes", 1)):
            left.append(pair)
            continue
        assert study is not None
        for name in slides:
            if labels.of(pair.slide):
                update_attrs(study, name, sample=labels.of(pair.slide))
        changed = _changed(pair, origins[0])
        if changed:
            rows.append(ProjectRow(pair.slide, "failed", error=changed))
        elif not plan.keep and all(target.is_file() for _, target in pair.places(plan.folder)):
            left.append(pair)  # killed before its files were compared, for then they are removed
        else:
            rows.append(_present(pair, [study.slide_attrs[name] for name in slides]))
    return _Sorted(tuple(left), tuple(rows))


def _changed(pair: RemotePair, origin: Mapping[str, Any]) -> str | None:
    """Return what differs between the files that a slide was made of and those that the archive has now."""
    stored = {file["path"]: file for file in origin["files"]}
    for file in pair.files:
        was = stored.get(file.path)
        if was is None:
            return f"the slide was made of {', '.join(stored)}, the archive has {file.path}: remove the slide first"
        if file.md5 and was["md5"] not in file.md5:
            return (
                f"the archive's {file.path} (MD5 {' or '.join(file.md5)}) is not the one that the slide was made of "
                f"(MD5 {was['md5']}): remove the slide to convert it again"
            )
    return None


def _present(pair: RemotePair, attrs: Sequence[Mapping[str, Any]]) -> ProjectRow:
    counts = [a["conversion"] for a in attrs]
    return ProjectRow(
        pair.slide,
        "present",
        spectra=sum(c["spectra"] for c in counts),
        masked=sum(c["masked"] for c in counts),
        channels=counts[0]["channels"],
        source_bytes=sum(file["size"] for file in attrs[0]["origin"]["files"]),
        remarks=tuple(remark for c in counts for remark in c["remarks"]),
    )


def _run(
    left: Sequence[RemotePair], total: int, plan: Plan, runner: Runner, action: Convert, on_row: OnRow | None
) -> Iterator[ProjectRow]:
    """Convert what is left, and yield the row of each slide as it ends."""
    done = total - len(left)
    for handled in runner(left, plan, action):
        row = _row(handled)
        done += 1
        if on_row:
            on_row(row, done, total)
        yield row


def _row(handled: Handled) -> ProjectRow:
    pair = handled.pair
    row = ProjectRow(
        pair.slide,
        "failed",
        source_bytes=pair.size,
        download_seconds=handled.download_seconds,
        convert_seconds=handled.handle_seconds,
        error=None if handled.error is None else str(handled.error),
    )
    if handled.error is not None:
        return row
    slides: tuple[SlideReport, ...] = handled.result
    errors = [slide.error or "failed" for slide in slides if slide.status == "failed"]
    return replace(
        row,
        status="failed" if errors else "present" if slides[0].status == "present" else "converted",
        spectra=sum(slide.spectra for slide in slides),
        masked=sum(slide.masked for slide in slides),
        channels=slides[0].channels,
        stored_bytes=sum(slide.stored_bytes for slide in slides),
        remarks=tuple(remark for slide in slides for remark in slide.remarks),
        error="; ".join(errors) or None,
    )
