"""``msicube convert``."""

from __future__ import annotations

from typing import Any

import click

from msicube.cli.common import AXIS_LAW, RANGE, SIZE, Reporter, json_option, scheduler_option, workers_option
from msicube.cli.conversion_report import show, show_plan
from msicube.codecs import CODECS, DEFAULT_CODEC

#: What a plan has no use for.
NOT_PLANNED = ("verify", "scheduler", "downloads", "connections")


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("study")
@click.option("--mz-axis", type=AXIS_LAW, help="Axis law for processed imzML, e.g. ppm:20.")
@click.option("--crop", type=RANGE, metavar="LOWER:UPPER", help="Keep these channels only, e.g. 900:1800.")
@click.option(
    "--wavenumber-axis",
    metavar="AXIS",
    help="Interpolate infrared images to START:STOP:STEP, first, slide:NAME, or a FILE of wavenumbers.",
)
@click.option("--interpolation", type=click.Choice(["linear", "cubic"]), default="linear", show_default=True)
@click.option(
    "--mz-range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="First and last m/z of that axis.  [default: of the sources]",
)
@click.option("--samples", metavar="CSV", help="Table with a column slide, and label, patient, split, ...")
@click.option("--memory-limit", type=SIZE, default="2 GiB", show_default=True, help="Bound on this process.")
@click.option(
    "--shard-size", type=SIZE, default="64 MiB", show_default=True, help="Bound on one uncompressed shard."
)
@click.option("--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC, show_default=True)
@click.option(
    "--peaks/--no-peaks",
    "keep_peaks",
    default=True,
    show_default=True,
    help="Keep every peak of processed imzML beside the binned cube, losslessly.",
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check declared checksums.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "continue", "report"]),
    default="continue",
    show_default=True,
    help="At a source that is wrong: stop, go on with the others, or mask what is wrong and name it in the report.",
)
@click.option(
    "--downloads", metavar="DIR", help="Where sources go that are addresses.  [default: STUDY.downloads]"
)
@click.option(
    "--connections", type=click.IntRange(min=1), default=4, show_default=True, help="Downloads at once."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@scheduler_option
@workers_option
@json_option
def command(dry_run: bool, as_json: bool, **arguments: Any) -> int:
    """Convert mass-spectrometry or infrared images, or folders of them, into a study.

    Each source becomes one slide. A source can be an address, and is downloaded first then: the URL of a file or of a
    folder that a web server lists, a prefix of an object store (s3://bucket/prefix), a .txt file with one URL a line.

    The same command run again goes on where it stopped. A source that fails does not stop the others; the exit code is
    1 then.
    """
    from msicube.conversion import convert, plan

    sources, study = arguments.pop("sources"), arguments.pop("study")
    if dry_run:
        needed = {name: value for name, value in arguments.items() if name not in NOT_PLANNED}
        return show_plan(plan(sources, study, **needed), as_json=as_json)
    with Reporter("converting") as reporter:
        report = convert(sources, study, progress=reporter.update, **arguments)
    return show(report, as_json=as_json)
