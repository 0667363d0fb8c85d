"""``msicube report``."""

from __future__ import annotations

import click


@click.command("report")
@click.argument("run")
def command(run: str) -> None:
    """Make one self-contained HTML page of a run, and print its path."""
    from msicube.experiments import report

    click.echo(report(run))
