"""``msicube train``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from msicube.cli.common import json_option, print_json, print_table, say, scheduler_option

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from msicube.experiments.training import TrainingEvent


@click.command("train")
@click.argument("recipe")
@click.argument("study")
@click.option("--out", required=True, metavar="RUN", help="Folder of the run.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--shuffle-labels", is_flag=True, help="The control: train on labels that say nothing of the truth."
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is there.")
@scheduler_option
@json_option
def command(
    recipe: str,
    study: str,
    out: str,
    assignments: tuple[str, ...],
    seed: int,
    shuffle_labels: bool,
    overwrite: bool,
    scheduler: str,
    as_json: bool,
) -> None:
    """Train the network of a recipe on a study, and evaluate it on held-out patients.

    RECIPE is a TOML file, or the name of a recipe that comes with msicube.
    """
    from msicube.experiments import parse_overrides, train

    with _TrainingProgress() as progress:
        run = train(
            recipe,
            study,
            out,
            overrides=parse_overrides(assignments),
            shuffle_labels=shuffle_labels,
            seed=seed,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress.show,
        )
    if as_json:
        print_json(run.summary)
    else:
        print_summary(out, run.summary)
    say(f"Next: msicube report {out}")


def print_summary(title: str, summary: dict[str, Any]) -> None:
    """Print the metrics of held-out samples and slides as a table."""
    levels = {level: summary[level]["metrics"] for level in ("samples", "slides") if summary.get(level)}
    names = list(next(iter(levels.values())))
    rows = [
        (name, *("" if metrics.get(name) is None else f"{metrics[name]:.3f}" for metrics in levels.values()))
        for name in names
    ]
    print_table(f"{title}: held-out patients", ("metric", *levels), rows)


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
        if self._bars is not None and self._task is not None:
            stage = f"epoch {event.epoch} of {event.epochs}" if event.epoch else event.stage
            self._bars.update(self._task, description=stage, completed=event.done, total=event.total)
        if event.stage == "epoch":
            train, test = event.metrics["train"], event.metrics["test"]
            self._say(
                f"epoch {event.epoch}/{event.epochs}: training loss {train['loss']:.3f}, accuracy "
                f"{train['accuracy']:.3f}; held-out loss {test['loss']:.3f}, accuracy {test['accuracy']:.3f}"
            )

    def _say(self, message: str) -> None:
        if self._bars is not None:
            self._bars.console.print(message, highlight=False)
        else:
            say(message)
