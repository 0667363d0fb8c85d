"""``msicube explain``."""

from __future__ import annotations

import click

from msicube.cli.common import json_option, print_json, print_table, say


@click.command("explain")
@click.argument("run")
@click.option("--study", metavar="STUDY", help="Where the study is now, if it has moved.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(["gradcam", "integrated_gradients", "occlusion"]),
    help="May be repeated.  [default: all]",
)
@click.option(
    "--spectra", type=click.IntRange(min=1), default=100, show_default=True, help="Of each class and fold."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def command(
    run: str, study: str | None, methods: tuple[str, ...], spectra: int, seed: int, as_json: bool
) -> None:
    """Show which channels the network of a run looks at, by class, in held-out spectra that it tells right.

    Writes explanation/attributions.csv and the figure explanation into the run's folder.
    """
    from msicube.experiments import explain
    from msicube.experiments.attribution import METHODS

    chosen = [method for method in METHODS if not methods or method in methods]
    found = explain(run, study=study, methods=chosen, n_spectra=spectra, seed=seed)
    if as_json:
        print_json(found.table().to_dict("records"))
    elif found.kind == "wavenumber":
        rows = [
            (row.pop("band"), row.pop("class"), *(f"{value:.3f}" for value in row.values()))
            for row in found.bands().to_dict("records")
        ]
        print_table(f"{run}: shares of the attributions", ("band", "class", "channels", *found.maps), rows)
    say(f"Next: msicube report {run}")
