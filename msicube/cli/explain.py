"""``msicube explain``."""

from __future__ import annotations

import click

from msicube.cli.common import json_option, print_json, print_table, say

#: Channels of a class in the table.
N_LISTED = 5


@click.command("explain")
@click.argument("run")
@click.option("--study", metavar="STUDY", help="Where the study is now, if it has moved.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(["gradcam", "integrated_gradients", "occlusion"]),
    help="May be repeated.  [default: all that apply]",
)
@click.option(
    "--samples",
    "--spectra",
    type=click.IntRange(min=1),
    help="Of each class and fold.  [default: 100 spectra or 40 patches]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def command(
    run: str, study: str | None, methods: tuple[str, ...], samples: int | None, seed: int, as_json: bool
) -> None:
    """Show which channels the network of a run looks at, by class, in held-out spectra or patches that it tells right.

    Where the pipeline ends in principal components, the channels are those before them. Writes
    explanation/attributions.csv, explanation/strongest.csv and figures into the run's folder.
    """
    from msicube.experiments import explain
    from msicube.experiments.attribution import METHODS

    chosen = [method for method in METHODS if method in methods] or None
    found = explain(run, study=study, methods=chosen, n_samples=samples, seed=seed)
    if as_json:
        print_json(found.table().to_dict("records"))
    elif found.kind == "wavenumber":
        rows = [
            (row.pop("band"), row.pop("class"), *(f"{value:.3f}" for value in row.values()))
            for row in found.bands().to_dict("records")
        ]
        print_table(f"{run}: shares of the attributions", ("band", "class", "channels", *found.maps), rows)
    else:
        method = "integrated_gradients" if "integrated_gradients" in found.maps else next(iter(found.maps))
        shown = [row for row in found.strongest(N_LISTED).to_dict("records") if row["method"] == method]
        rows = [
            (row["class"], f"{row[found.kind]:.4f}", f"{row['attribution']:+.3g}", f"{row['share']:.3f}")
            for row in shown
        ]
        title = f"{run}: the strongest channels by {method.replace('_', ' ')}"
        print_table(title, ("class", "m/z", "attribution", "share"), rows)
    say(f"Next: msicube report {run}")
