"""``msicube simulate``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from msicube.bytesize import format_bytes
from msicube.cli.common import Reporter, json_option, print_json, say


@click.group("simulate")
def command() -> None:
    """Write a realistic study with a known truth, as the real files that instruments write."""


@command.command("msi")
@click.argument("out")
@click.option("--slides", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--shape", nargs=2, type=click.IntRange(min=1), default=(96, 96), show_default=True, metavar="Y X"
)
@click.option("--channels", type=click.IntRange(min=1), default=1000, show_default=True, help="m/z values.")
@click.option(
    "--mz-range", nargs=2, type=float, default=(700.0, 900.0), show_default=True, metavar="LOW HIGH"
)
@click.option(
    "--mode", type=click.Choice(["continuous", "processed"]), default="continuous", show_default=True
)
@click.option(
    "--representation", type=click.Choice(["profile", "centroid"]), default="profile", show_default=True
)
@click.option(
    "--class-difference",
    type=float,
    default=1.0,
    show_default=True,
    help="Scale of the tumour's log fold changes; 0 makes the classes alike.",
)
@click.option(
    "--patients", type=click.IntRange(min=1), help="Number of patients.  [default: one for two slides]"
)
@click.option(
    "--markers", type=click.IntRange(min=0), default=12, show_default=True, help="m/z that mark tumour."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@json_option
def msi(out: str, as_json: bool, **arguments: Any) -> None:
    """Write a MALDI-TOF study of tumour and normal tissue: imzML pairs, samples.csv and truth.json.

    Memory does not grow with the size of the study.
    """
    from msicube.simulate import simulate_msi

    with Reporter("simulated") as reporter:
        report = simulate_msi(out, progress=reporter.finished, **arguments)
    if as_json:
        print_json(asdict(report))
        return
    say(
        f"{len(report.slides)} slides, {report.n_spectra} spectra of at most {report.n_channels} channels, "
        f"{format_bytes(report.n_bytes)} in {report.folder}"
    )
