"""``msicube simulate``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from msicube.bytesize import format_bytes
from msicube.cli.common import Reporter, json_option, print_json, say

if TYPE_CHECKING:
    from msicube.simulate import SimulationReport

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
    _show(report, as_json, f"at most {report.n_channels} channels")


@command.command("ftir", context_settings={"show_default": True})
@click.argument("out")
@click.option("--slides", type=COUNT, default=16, help="Cores of all patients.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option(
    "--shape", nargs=2, type=COUNT, default=(320, 320), metavar="Y X", help="Of each slide, in pixels."
)
@click.option(
    "--wavenumbers",
    nargs=2,
    type=float,
    default=(900.0, 1800.0),
    metavar="LOW HIGH",
    help="In cm^-1; 850 3900 holds paraffin's strongest bands.",
)
@click.option(
    "--class-difference", type=float, default=1.0, help="Factor on the effects of the classes; 0: none."
)
@click.option("--cores", type=COUNT, default=2, help="Of each patient; the last one is adjacent tissue.")
@click.option(
    "--patient-effect",
    type=AMOUNT,
    default=1.0,
    help="Factor on the differences between patients and between slides.",
)
@click.option("--scatter", type=AMOUNT, default=1.0, help="Factor on scatter and baselines.")
@click.option("--noise", type=AMOUNT, default=1.0, help="Factor on the noise.")
@click.option(
    "--dead-pixels", type=click.FloatRange(0, 1), default=0.002, help="Share of the detector's elements."
)
@click.option("--holes", type=click.IntRange(min=0), default=2, help="Holes in the tissue of each slide.")
@click.option("--pixel-size", type=AMOUNT, default=5.5, help="In micrometres.")
@click.option("--tile-size", type=COUNT, help="Edge in pixels.  [default: the largest up to 64 that fits]")
@click.option("--overwrite", is_flag=True, help="Replace slides of the same names.")
@json_option
def ftir(out: str, as_json: bool, **arguments: Any) -> None:
    """Write a micro-FTIR study of breast tissue: Agilent mosaics, samples.csv and truth.json.

    Memory does not grow with the size of the study, and the same arguments give the same bytes.
    """
    from msicube.simulate import simulate_ftir

    with Reporter("simulated") as reporter:
        report = simulate_ftir(out, progress=reporter.finished, **arguments)
    _show(report, as_json, f"{report.n_channels} channels")


def _show(report: SimulationReport, as_json: bool, channels: str) -> None:
    if as_json:
        print_json(asdict(report))
        return
    say(
        f"{len(report.slides)} slides, {report.n_spectra} spectra of {channels}, "
        f"{format_bytes(report.n_bytes)} in {report.folder}"
    )
