"""``msicube export``."""

from __future__ import annotations

from dataclasses import asdict

import click

from msicube.cli.common import json_option, print_json, say


@click.command("export")
@click.argument("study")
@click.argument("slide")
@click.argument("path", metavar="OUT.imzML")
@click.option("--overwrite", is_flag=True, help="Replace a pair that is there already.")
@json_option
def command(study: str, slide: str, path: str, overwrite: bool, as_json: bool) -> None:
    """Give a slide back as an imzML pair with the same numbers.

    Processed data come from the peaks that the study keeps; without them the binned spectra are written, and a note
    says so.
    """
    from msicube.conversion import export

    report = export(study, slide, path, overwrite=overwrite)
    if as_json:
        print_json(asdict(report))
    for remark in report.remarks:
        say(f"Note: {report.slide}: {remark}")
    say(f"{report.path}: {report.spectra} spectra of {report.slide}, from {report.origin}")
