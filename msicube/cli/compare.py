"""``msicube compare``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from msicube.cli.common import json_option, print_json, print_table
from msicube.cli.train import metric_text

#: Level and metric of the columns of differences.
_SHOWN = (("samples", "accuracy"), ("samples", "roc_auc"), ("slides", "accuracy"))


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@json_option
def command(runs: tuple[str, ...], as_json: bool) -> None:
    """Put the held-out results of runs side by side, with confidence intervals over patients.

    A second table has how much better each further run is than the first, with intervals of the difference.
    """
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
    if found.differences:
        rows = [(row["run"], *(_difference(row, *place) for place in _SHOWN)) for row in found.differences]
        title = f"more than {found.differences[0]['against']}, the same patients drawn for both"
        print_table(title, ("run", "accuracy", "ROC AUC", "slides: accuracy"), rows)
    for remark in found.remarks:
        click.echo(remark)


def _difference(row: dict[str, Any], level: str, name: str) -> str:
    """Return a difference with its interval."""
    value, interval = row[level][name]["difference"], row[level][name]["interval"]
    if value is None:
        return ""
    return f"{value:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")
