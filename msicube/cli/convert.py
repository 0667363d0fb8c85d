"""``msicube convert``."""

from __future__ import annotations

from typing import Any

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


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("study")
@click.option("--mz-axis", type=AXIS_LAW, help="Axis law for processed imzML, e.g. ppm:20.")
@click.option("--samples", metavar="CSV", help="Table with a column slide, and label, patient, split, ...")
@click.option("--memory-limit", type=SIZE, default="2 GiB", show_default=True, help="Bound on this process.")
@click.option(
    "--shard-size", type=SIZE, default="64 MiB", show_default=True, help="Bound on one uncompressed shard."
)
@click.option("--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC, show_default=True)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check declared checksums first.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "continue", "report"]),
    default="continue",
    show_default=True,
    help="At a source that is wrong: stop, go on with the others, or mask what is wrong and name it in the report.",
)
@scheduler_option
@workers_option
@json_option
def command(as_json: bool, **arguments: Any) -> int:
    """Convert imzML files or folders of them into a study.

    Each source becomes one slide. The same command run again goes on where it stopped. A source that fails does not
    stop the others; the exit code is 1 then.
    """
    from msicube.conversion import convert

    sources, study = arguments.pop("sources"), arguments.pop("study")
    with Reporter("converting") as reporter:
        report = convert(sources, study, progress=reporter.update, **arguments)
    if as_json:
        print_json(report.to_dict())
    else:
        print_table(
            report.study,
            (
                "slide",
                "status",
                "spectra",
                "masked",
                "channels",
                "empty",
                "non-finite",
                "out of range",
                "TIC error",
                "stored",
                "s",
            ),
            [
                (
                    row.slide,
                    row.status,
                    row.spectra,
                    row.masked or "",
                    row.channels,
                    row.empty,
                    row.nonfinite,
                    f"{row.out_of_range} of {row.peaks}" if row.peaks else "",
                    f"{row.relative_tic_error:.1e}" if row.peaks else "",
                    format_bytes(row.stored_bytes) if row.stored_bytes else "",
                    f"{row.seconds:.1f}",
                )
                for row in report.slides
            ],
        )
    for row in report.slides:
        for remark in row.remarks:
            say(f"Note: {row.slide}: {remark}")
    for remark in report.remarks:
        say(f"Note: {remark}")
    for row in report.failed:
        say(f"Error: {row.slide}: {row.error}")
    return 1 if report.failed else 0
