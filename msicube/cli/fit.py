"""``msicube fit``."""

from __future__ import annotations

import click

from msicube.cli.common import Reporter, say, scheduler_option


@click.command("fit")
@click.argument("recipe")
@click.argument("study")
@click.option("--name", help="Name of the pipeline in the study.  [default: the recipe's]")
@click.option(
    "--slide", "slides", multiple=True, help="Fit on this slide; may be repeated.  [default: training slides]"
)
@click.option("--allow-test", is_flag=True, help="Also take slides whose split is test.")
@click.option(
    "--add-slides", is_flag=True, help="Let steps that work by slide also learn of all other slides."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."
)
@click.option("--overwrite", is_flag=True, help="Replace a pipeline of this name.")
@scheduler_option
def command(
    recipe: str,
    study: str,
    name: str | None,
    slides: tuple[str, ...],
    allow_test: bool,
    add_slides: bool,
    assignments: tuple[str, ...],
    overwrite: bool,
    scheduler: str,
) -> None:
    """Fit the pipeline of a recipe and save it in the study.

    RECIPE is a TOML file with a [pipeline] section, or the name of a recipe that comes with msicube.
    """
    from msicube.experiments.pipelines import build_pipeline
    from msicube.experiments.recipe_files import load_pipeline_recipe, parse_overrides
    from msicube.store import open_study

    section = load_pipeline_recipe(recipe, overrides=parse_overrides(assignments))
    opened = open_study(study)
    pipeline = build_pipeline(section)
    with Reporter("fitting") as reporter:
        pipeline.fit(
            opened,
            slides=list(slides) or None,
            allow_test=allow_test,
            scheduler=scheduler,
            progress=reporter.update,
        )
        if add_slides:
            pipeline.add_slides(opened, scheduler=scheduler, progress=reporter.update)
    saved = name or section.name
    pipeline.save(opened, name=saved, overwrite=overwrite)
    say(
        f"{saved}: {pipeline.n_passes_} passes over {len(pipeline.slides_)} slides, {pipeline.n_spectra_} spectra, "
        f"{pipeline.n_features_in_} channels -> {pipeline.n_features_out_} features"
    )
