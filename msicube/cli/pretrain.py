"""``msicube pretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from msicube.cli.common import MASKS, Reporter, json_option, print_json, print_table, say, scheduler_option

if TYPE_CHECKING:
    from msicube.experiments import TrainingEvent

#: What stands in a summary, in words.
GUESSES = {
    "loss": "reconstructed by the network",
    "interpolation": "interpolated from what is visible",
    "mean": "the mean of the channel",
}


@click.command("pretrain")
@click.argument("recipe")
@click.argument("study")
@click.option("--out", required=True, metavar="PRE", help="Folder of the result.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."
)
@click.option(
    "--model",
    metavar="NAME|PACKAGE.MODULE:CLASS",
    help="Another network, with its own defaults; see --set model.*.",
)
@click.option(
    "--where", type=MASKS, help='Only these pixels: masks joined by & | ~, such as "tissue & ~dead".'
)
@click.option(
    "--unlabelled", is_flag=True, help="Slides without a label, not those that the split trains on."
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Held-out slides as well; no run can then start from it that holds them out.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a run that is there.")
@scheduler_option
@json_option
def command(
    recipe: str,
    study: str,
    out: str,
    assignments: tuple[str, ...],
    model: str | None,
    where: str | None,
    unlabelled: bool,
    held_out: bool,
    seed: int,
    overwrite: bool,
    scheduler: str,
    as_json: bool,
) -> None:
    """Learn the network of a recipe without labels, by reconstructing what is masked of its samples.

    RECIPE is a TOML file, or the name of a recipe that comes with msicube. What is held out is not seen. Train on the
    result with --set model.pretrained=PRE.
    """
    from msicube.experiments import parse_overrides, pretrain

    chosen: dict[str, Any] = {"model": {"name": model}} if model else {}
    chosen |= {"data.where": where} if where else {}
    with Reporter("pretraining") as reporter:
        run = pretrain(
            recipe,
            study,
            out,
            overrides=chosen | parse_overrides(assignments),
            unlabelled=unlabelled,
            held_out=held_out,
            seed=seed,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=lambda event: _show(reporter, event),
        )
    if as_json:
        print_json(run.summary)
    else:
        _print_summary(out, run.summary)
    say(f"Next: msicube train {recipe} {study} --out RUN --set model.pretrained={out}")


def _show(reporter: Reporter, event: TrainingEvent) -> None:
    if event.stage == "fit":
        reporter.update(event.what, event.done, event.total)
    elif event.stage == "train":
        if reporter.bars:
            reporter.update(f"epoch {event.epoch} of {event.epochs}", event.done, event.total)
    else:
        loss = {part: event.metrics[part]["loss"] for part in ("train", "test")}
        reporter.finished(
            f"epoch {event.epoch}/{event.epochs}: training loss {loss['train']:.3f}, of other slides {loss['test']:.3f}"
        )


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    """Print the error of masked values, beside what needs no network."""
    part = "other slides" if summary["part"] == "validation" else "training slides"
    rows = [(text, f"{summary['masked_error'][name]:.3f}") for name, text in GUESSES.items()]
    print_table(
        f"{title}: {summary['n_values']:,} masked values of {part}", ("", "squared error / variance"), rows
    )
