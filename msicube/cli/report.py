"""``msicube report``."""

from __future__ import annotations

import click


@click.command("report")
@click.argument("run")
@click.option(
    "--against", metavar="RUN", help="A run with another split: says what a split by patch is worth."
)
def command(run: str, against: str | None) -> None:
    """Make one self-contained HTML page of a run, and print its path."""
    from msicube.experiments import report

    click.echo(report(run, against=against))
