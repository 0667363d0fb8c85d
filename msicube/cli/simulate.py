"""``msicube simulate``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from msicube.bytesize import format_bytes
from msicube.cli.common import Reporter, json_option, print_json, say

COUNT, AMOUNT = click.IntRange(min=1), click.FloatRange(min=0)


@click.group("simulate")
def command() -> None:
    """Write a realistic study with a known truth, as the real files that instruments write."""


@command.command("msi", context_settings={"show_default": True})
@click.argument("out")
@click.option("--slides", type=COUNT, default=20)
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option(
    "--shape", nargs=2, type=COUNT, default=(96, 96), metavar="Y X", help="Of each slide, in pixels."
)
@click.option("--channels", type=COUNT, default=1000, help="m/z values of a profile.")
@click.option("--mz-range", nargs=2, type=float, default=(700.0, 900.0), metavar="LOW HIGH")
@click.option("--resolution", type=AMOUNT, default=2000.0, help="m / FWHM in mid-range.")
@click.option("--mode", type=click.Choice(["continuous", "processed"]), default="continuous")
@click.option("--representation", type=click.Choice(["profile", "centroid"]), default="profile")
@click.option(
    "--class-difference", type=float, default=1.0, help="Factor on the tumour's log fold changes; 0: none."
)
@click.option("--patients", type=COUNT, help="Number of patients.  [default: three for five slides]")
@click.option(
    "--patient-effect", type=AMOUNT, default=1.0, help="Factor on the differences between patients."
)
@click.option("--batch-effect", type=AMOUNT, default=1.0, help="Factor on the differences between slides.")
@click.option("--ions", type=COUNT, default=120, help="Ions in the tissue.")
@click.option("--markers", type=click.IntRange(min=0), default=24, help="How many of them mark the tumour.")
@click.option("--holes", type=click.IntRange(min=0), default=2, help="Holes in the tissue of each slide.")
@click.option("--pixel-size", type=AMOUNT, default=50.0, help="In micrometres.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@json_option
def msi(out: str, as_json: bool, **arguments: Any) -> None:
    """Write a MALDI-TOF study of tumour and normal tissue: imzML pairs, samples.csv and truth.json.

    Memory does not grow with the size of the study, and the same arguments give the same bytes.
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
