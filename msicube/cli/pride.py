"""``msicube pride``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msicube.bytesize import format_bytes
from msicube.cli.common import (
    AXIS_LAW,
    SIZE,
    Reporter,
    json_option,
    print_json,
    print_table,
    say,
    scheduler_option,
    workers_option,
)
from msicube.codecs import CODECS, DEFAULT_CODEC

if TYPE_CHECKING:
    from msicube.pride import Archive, ProjectReport

#: Names in a message before the rest is counted.
MAX_NAMED = 10


@click.group("pride")
def command() -> None:
    """List, download and convert projects of the PRIDE Archive, and verify studies that were made of them.

    Another archive that speaks the same interface, such as a mirror, is named by the environment variables
    MSICUBE_PRIDE_API and MSICUBE_PRIDE_FILES. For private data put a token into MSICUBE_PRIDE_TOKEN or a file.
    """


token_option = click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the token of private data.",
)
match_option = click.option("--match", metavar="PATTERN", help="Only slides such as 'crc_*'.")
limit_option = click.option("--limit", type=click.IntRange(min=1), help="At most so many slides.")
connections_option = click.option(
    "--connections", type=click.IntRange(min=1), default=4, show_default=True, help="Downloads at once."
)


@command.command("list")
@click.argument("accession")
@token_option
@json_option
def list_command(accession: str, token_file: Path | None, as_json: bool) -> None:
    """Show a project: title, licence, files by kind and size, imzML pairs, and what is odd about them."""
    from msicube.pride import list_project

    archive = _archive(token_file)
    with archive:
        project = list_project(accession, archive)
    if as_json:
        print_json(project.to_dict())
        return
    print_table(
        f"{project.accession}: {project.title}",
        ("ending", "category", "files", "size"),
        [(kind.ending, kind.category, kind.files, format_bytes(kind.n_bytes)) for kind in project.kinds],
    )
    say(f"Licence: {project.licence or 'not stated'}; DOI: {project.doi or 'none'}")
    say(f"{len(project.pairs)} imzML pairs, {format_bytes(project.n_bytes)}; {len(project.sdrf)} SDRF files")
    for remark in project.odd:
        say(f"Note: {remark}")


@command.command("fetch")
@click.argument("accession")
@click.argument("folder")
@match_option
@limit_option
@click.option("--all", "everything", is_flag=True, help="The files as well that are no imzML pairs.")
@connections_option
@token_option
@json_option
def fetch_command(
    accession: str, folder: str, token_file: Path | None, as_json: bool, **arguments: Any
) -> int:
    """Download the imzML pairs of a project into a folder, resumed and checked against the archive's MD5.

    The same command run again downloads what is missing. The exit code is 1 while something is.
    """
    from msicube.pride import fetch_project

    with Reporter("downloaded") as reporter:
        report = fetch_project(
            accession, folder, archive=_archive(token_file), on_download=reporter.update, **arguments
        )
    return _show(report, as_json=as_json)


@command.command("convert", context_settings={"show_default": True})
@click.argument("accession")
@click.argument("study")
@click.option("--folder", metavar="DIR", help="Where downloads go.  [default: STUDY.downloads]")
@match_option
@limit_option
@click.option(
    "--stream", is_flag=True, help="Remove the files of each slide when it is in the study and compared."
)
@click.option("--disk-limit", type=SIZE, help="Bound on the files that are here, with --stream.")
@click.option("--mz-axis", type=AXIS_LAW, help="Axis law for processed imzML, e.g. ppm:20.")
@click.option("--mz-range", nargs=2, type=float, metavar="LOW HIGH", help="First and last m/z of that axis.")
@click.option("--two-passes", is_flag=True, help="With --stream: download twice, first for the range of m/z.")
@click.option(
    "--samples", metavar="CSV|URL", help="Table with a column slide, and label, patient, split, ..."
)
@click.option(
    "--label-from",
    metavar="REGEX",
    help="Labels from file names, e.g. '(?P<label>tumour|normal)_(?P<patient>P[0-9]+)'.",
)
@connections_option
@click.option("--memory-limit", type=SIZE, default="2 GiB", help="Bound on this process.")
@click.option("--shard-size", type=SIZE, default="64 MiB", help="Bound on one uncompressed shard.")
@click.option("--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC)
@click.option("--peaks/--no-peaks", "keep_peaks", default=True, help="Keep every peak of processed imzML.")
@scheduler_option
@workers_option
@token_option
@json_option
def convert_command(
    accession: str, study: str, token_file: Path | None, as_json: bool, **arguments: Any
) -> int:
    """Turn a project into one study: download what is missing, verify, convert on one axis, and document it.

    The same command run again does only what is left, whatever stopped it. A slide that fails does not stop the others;
    the exit code is 1 while one is missing.
    """
    from msicube.pride import convert_project

    with Reporter("converting") as reporter:
        report = convert_project(
            accession,
            study,
            archive=_archive(token_file),
            on_row=lambda row, done, total: say(f"{done} of {total}: {row.slide} {row.status}"),
            on_tile=reporter.update if reporter.bars else None,
            on_download=reporter.update if reporter.bars else None,
            **arguments,
        )
    return _show(report, as_json=as_json)


@command.command("verify")
@click.argument("study")
@click.option("--files", metavar="DIR", help="Compare with the files in this folder instead of the archive.")
@token_option
@json_option
def verify_command(study: str, files: str | None, token_file: Path | None, as_json: bool) -> int:
    """Say which files every slide came from, and whether the archive still has the same."""
    from msicube.pride import verify_study
    from msicube.pride.verify import catalog_problems
    from msicube.store import open_study

    opened = open_study(study)
    states = verify_study(opened, archive=_archive(token_file), files=files)
    problems = catalog_problems(opened)
    if as_json:
        print_json({"files": [vars(state) for state in states], "catalog": problems})
    else:
        print_table(
            opened.path,
            ("slide", "file", "MD5", "state", ""),
            [(state.slide, state.path, state.md5, state.state, state.detail) for state in states],
        )
    for problem in problems:
        say(f"Error: {problem}")
    bad = [state for state in states if not state.good]
    say(f"{len(states) - len(bad)} of {len(states)} files are what the slides were made of")
    return 1 if bad or problems else 0


def _archive(token_file: Path | None) -> Archive:
    from msicube.pride import Archive

    return Archive.of(token=token_file.read_text(encoding="utf-8").strip() if token_file else None)


def _show(report: ProjectReport, *, as_json: bool) -> int:
    """Print a report and return the exit code: 1 while something is missing."""
    if as_json:
        print_json(report.to_dict())
    else:
        print_table(
            f"{report.accession} -> {report.target}",
            (
                "slide",
                "status",
                "label",
                "spectra",
                "masked",
                "channels",
                "files",
                "stored",
                "download s",
                "convert s",
            ),
            [
                (
                    row.slide,
                    row.status,
                    row.label,
                    row.spectra or "",
                    row.masked or "",
                    row.channels or "",
                    format_bytes(row.source_bytes),
                    format_bytes(row.stored_bytes) if row.stored_bytes else "",
                    f"{row.download_seconds:.1f}" if row.download_seconds else "",
                    f"{row.convert_seconds:.1f}" if row.convert_seconds else "",
                )
                for row in report.rows
            ],
        )
    for row in report.rows:
        for remark in row.remarks:
            say(f"Note: {row.slide}: {remark}")
    for remark in report.remarks:
        say(f"Note: {remark}")
    if report.unlabelled:
        named = ", ".join(report.unlabelled[:MAX_NAMED])
        more = len(report.unlabelled) - MAX_NAMED
        say(
            f"Note: no label for {len(report.unlabelled)} slides: {named}"
            + (f" and {more} more" if more > 0 else "")
        )
    for row in report.failed:
        say(f"Error: {row.slide}: {row.error}")
    done = len(report.rows) - len(report.failed)
    say(f"{done} of {len(report.rows)} are there, {len(report.failed)} are missing")
    return 1 if report.failed else 0
