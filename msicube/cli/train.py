"""``msicube train``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from msicube.cli.common import MASKS, json_option, print_json, print_table, say, scheduler_option

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from msicube.experiments.events import TrainingEvent


@click.command("train")
@click.argument("recipe")
@click.argument("study")
@click.option("--out", required=True, metavar="RUN", help="Folder of the run.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."
)
@click.option(
    "--model",
    metavar="NAME|PACKAGE.MODULE:CLASS",
    help="Another network, with its own defaults; see --set model.*.",
)
@click.option("--folds", type=click.IntRange(min=2), help="Cross-validate by patient, in so many folds.")
@click.option(
    "--split",
    type=click.Choice(["auto", "samples", "patient", "patch"]),
    help="Who is held out: as the samples table says, patients drawn, or single patches of all patients. auto: the "
    "samples table where it has a column split, else patients.",
)
@click.option(
    "--where", type=MASKS, help='Only these pixels: masks joined by & | ~, such as "tissue & ~dead".'
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--shuffle-labels", is_flag=True, help="The control: train on labels that say nothing of the truth."
)
@click.option("--tensorboard", is_flag=True, help="Write the course of the training for TensorBoard as well.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is there.")
@click.option(
    "--resume", is_flag=True, help="Go on with a run that was stopped; a finished one is left as it is."
)
@scheduler_option
@json_option
def command(
    recipe: str,
    study: str,
    out: str,
    assignments: tuple[str, ...],
    model: str | None,
    folds: int | None,
    split: str | None,
    where: str | None,
    seed: int,
    shuffle_labels: bool,
    tensorboard: bool,
    overwrite: bool,
    resume: bool,
    scheduler: str,
    as_json: bool,
) -> None:
    """Train the network of a recipe on a study, and evaluate it on held-out patients.

    RECIPE is a TOML file, or the name of a recipe that comes with msicube. The other options are short for --set.
    """
    from msicube.experiments import parse_overrides, train

    if folds and split:
        raise click.UsageError("--folds holds out each patient once, so it does not go with --split")
    if overwrite and resume:
        raise click.UsageError(
            "--overwrite starts a run anew and --resume goes on with it: give one of the two"
        )
    chosen: dict[str, Any] = {"model": {"name": model}} if model else {}
    chosen |= {"data.split": "folds", "data.folds": folds} if folds else {}
    chosen |= {"data.split": split} if split else {}
    chosen |= {"data.where": where} if where else {}
    chosen |= {"train.tensorboard": True} if tensorboard else {}
    try:
        with _TrainingProgress() as progress:
            run = train(
                recipe,
                study,
                out,
                overrides=chosen | parse_overrides(assignments),
                shuffle_labels=shuffle_labels,
                seed=seed,
                scheduler=scheduler,
                overwrite=overwrite,
                resume=resume,
                progress=progress.show,
            )
    except KeyboardInterrupt:
        say(f"{out} is a run as far as it came; the same command with --resume goes on with it.")
        raise
    if int(os.environ.get("RANK", "0")) > 0:
        return  # torchrun's first process says it
    if as_json:
        print_json(run.summary)
    else:
        print_summary(out, run.summary)
    say(f"Next: msicube report {out}")


def print_summary(title: str, summary: dict[str, Any]) -> None:
    """Print the metrics of held-out samples, slides and patients as a table."""
    levels = [level for level in ("samples", "slides", "patients") if summary.get(level)]
    names = summary[levels[0]]["metrics"]
    rows = [(name, *(metric_text(summary[level], name) for level in levels)) for name in names]
    print_table(f"{title}: held out", ("metric", *(f"{summary[one]['n']} {one}" for one in levels)), rows)


def metric_text(level: dict[str, Any], name: str) -> str:
    """Return a metric with its confidence interval."""
    value, interval = level["metrics"][name], level.get("intervals", {}).get(name)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


class _TrainingProgress:
    """A bar for each stage on a terminal; a line an epoch either way."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _TrainingProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(stderr=True), transient=True)
            self._bars.start()
            self._task = self._bars.add_task("starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, event: TrainingEvent) -> None:
        """Take a training event."""
        fold = f"fold {event.fold} of {event.folds}, " if event.fold else ""
        if event.stage == "kept":
            self._say(f"{fold or 'the run '}was finished already: nothing to do")
            return
        if event.stage == "resumed":
            self._say(f"{fold}going on in epoch {event.epoch}, after {event.done} of {event.total} steps")
        if self._bars is not None and self._task is not None:
            stage = fold + (f"epoch {event.epoch} of {event.epochs}" if event.epoch else event.stage)
            self._bars.update(self._task, description=stage, completed=event.done, total=event.total)
        if event.stage == "epoch":
            train, test = event.metrics["train"], event.metrics["test"]
            sample = f" on {train['n_spectra']} spectra" if "n_spectra" in train else ""
            self._say(
                f"{fold}epoch {event.epoch}/{event.epochs}: training loss {train['loss']:.3f}, accuracy "
                f"{train['accuracy']:.3f}{sample}; held-out loss {test['loss']:.3f}, accuracy {test['accuracy']:.3f}"
            )

    def _say(self, message: str) -> None:
        if self._bars is not None:
            self._bars.console.print(message, highlight=False)
        else:
            say(message)
