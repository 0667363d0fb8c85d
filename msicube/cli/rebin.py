"""``msicube rebin``."""

from __future__ import annotations

from typing import Any

import click

from msicube.cli.common import AXIS_LAW, SIZE, Reporter, json_option, scheduler_option, workers_option
from msicube.cli.conversion_report import show
from msicube.codecs import CODECS, DEFAULT_CODEC


@click.command("rebin")
@click.argument("study")
@click.option("--mz-axis", type=AXIS_LAW, required=True, help="Axis law, e.g. ppm:20.")
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@click.option("--memory-limit", type=SIZE, default="2 GiB", show_default=True, help="Bound on this process.")
@click.option(
    "--shard-size", type=SIZE, default="64 MiB", show_default=True, help="Bound on one uncompressed shard."
)
@click.option("--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC, show_default=True)
@scheduler_option
@workers_option
@json_option
def command(study: str, slides: tuple[str, ...], as_json: bool, **arguments: Any) -> int:
    """Bin the peaks kept in a study again, on another axis, without the original files.

    The axis is planned over all chosen slides. Each slide is replaced at once; the same command run again goes on where
    it stopped.
    """
    from msicube.conversion import rebin

    with Reporter("binning") as reporter:
        report = rebin(study, slides=slides or None, progress=reporter.update, **arguments)
    return show(report, as_json=as_json)
