"""``msicube fit``."""

from __future__ import annotations

import click

from msicube.cli.common import Reporter, say, scheduler_option, workers_option


@click.command("fit")
@click.argument("recipe")
@click.argument("study")
@click.option("--name", help="Name of the pipeline in the study.  [default: the recipe's]")
@click.option(
    "--slide", "slides", multiple=True, help="Fit on this slide; may be repeated.  [default: training slides]"
)
@click.option(
    "--where",
    help="Fit inside this mask, or an expression such as 'tissue & ~dead'.  [default: the recipe's, or all pixels]",
)
@click.option("--allow-test", is_flag=True, help="Also take slides whose split is test.")
@click.option(
    "--add-slides", is_flag=True, help="Let steps that work by slide also learn of all other slides."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."
)
@click.option("--overwrite", is_flag=True, help="Replace a pipeline of this name.")
@click.option(
    "--cache/--no-cache",
    default=None,
    help="Keep the statistics of each slide in the study, and use those that are there.  [default: cache]",
)
@scheduler_option
@workers_option
def command(
    recipe: str,
    study: str,
    name: str | None,
    slides: tuple[str, ...],
    where: str | None,
    allow_test: bool,
    add_slides: bool,
    assignments: tuple[str, ...],
    overwrite: bool,
    cache: bool | None,
    scheduler: str,
    workers: int | None,
) -> None:
    """Fit the pipeline of a recipe and save it in the study.

    RECIPE is a TOML file with a [pipeline] section, or the name of a recipe that comes with msicube. The statistics of
    each slide are kept in the study, so the same command run again goes on where it stopped, and one on more slides
    reads these only.
    """
    from msicube.experiments.recipe_files import load_pipeline_recipe, parse_overrides
    from msicube.preprocess.persistence import check_free
    from msicube.preprocess.recipes import build_pipeline
    from msicube.store import open_study

    section = load_pipeline_recipe(recipe, overrides=parse_overrides(assignments))
    saved = name or section.name
    opened = open_study(study)
    check_free(opened, saved, overwrite=overwrite)
    pipeline = build_pipeline(section)
    with Reporter("fitting") as reporter:
        pipeline.fit(
            opened,
            slides=list(slides) or None,
            where=where or section.where,
            allow_test=allow_test,
            cache=cache,
            scheduler=scheduler,
            workers=workers,
            progress=reporter.update,
        )
        if add_slides:
            pipeline.add_slides(opened, scheduler=scheduler, workers=workers, progress=reporter.update)
    pipeline.save(opened, name=saved, overwrite=overwrite)
    kept = sum(one.n_kept for one in pipeline.passes_)
    say(
        f"{saved}: {pipeline.n_passes_} passes over {len(pipeline.slides_)} slides, {pipeline.n_spectra_} spectra, "
        f"{pipeline.n_features_in_} channels -> {pipeline.n_features_out_} features"
        + (
            f"; {kept} of {pipeline.n_passes_ * len(pipeline.slides_)} slides were not read again"
            if kept
            else ""
        )
    )
