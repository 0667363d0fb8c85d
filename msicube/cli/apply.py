"""``msicube apply``."""

from __future__ import annotations

import click

from msicube.cli.common import Reporter, say, scheduler_option, workers_option


@click.command("apply")
@click.argument("study")
@click.option("--name", required=True, help="Name of a fitted pipeline in the study.")
@click.option("--slide", "slides", multiple=True, help="Only this slide; may be repeated.")
@click.option("--where", help="Features inside this mask only, or an expression such as 'tissue & ~dead'.")
@click.option(
    "--coefficients",
    is_flag=True,
    help="Also write what the pipeline's EMSC finds: NAME_coefficients and NAME_residual_rms.",
)
@click.option(
    "--residuals", is_flag=True, help="Also write what the EMSC leaves of each spectrum: NAME_residuals."
)
@click.option("--overwrite", is_flag=True, help="Replace what another pipeline of this name left.")
@scheduler_option
@workers_option
def command(
    study: str,
    name: str,
    slides: tuple[str, ...],
    where: str | None,
    coefficients: bool,
    residuals: bool,
    overwrite: bool,
    scheduler: str,
    workers: int | None,
) -> None:
    """Write the features of a fitted pipeline into the slides of its study.

    Slides that have them already are left alone, so the same command run again goes on where it stopped.
    """
    from msicube.preprocess import apply
    from msicube.store import open_study

    opened = open_study(study)
    with Reporter("applying") as reporter:
        written = apply(
            opened,
            name=name,
            slides=slides or None,
            where=where,
            coefficients=coefficients,
            residuals=residuals,
            overwrite=overwrite,
            scheduler=scheduler,
            workers=workers,
            progress=reporter.update,
        )
    present = len(slides or opened.slides) - len(written)
    say(f"{name}: written into {len(written)} slides" + (f", {present} had it already" if present else ""))
