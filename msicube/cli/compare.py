"""``msicube compare``."""

from __future__ import annotations

from dataclasses import asdict

import click

from msicube.cli.common import json_option, print_json, print_table
from msicube.cli.train import metric_text


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@json_option
def command(runs: tuple[str, ...], as_json: bool) -> None:
    """Put the held-out results of runs side by side, with confidence intervals over patients."""
    from msicube.experiments import compare

    found = compare(runs)
    if as_json:
        print_json(asdict(found))
        return
    columns = ("run", "network", "split", "labels", "patients", "accuracy", "ROC AUC", "slides: accuracy")
    rows = [
        (
            *(row[key] for key in ("run", "network", "split", "labels", "n_patients")),
            metric_text(row["samples"], "accuracy"),
            metric_text(row["samples"], "roc_auc"),
            metric_text(row["slides"], "accuracy"),
        )
        for row in found.rows
    ]
    print_table("held out", columns, rows)
    for remark in found.remarks:
        click.echo(remark)
