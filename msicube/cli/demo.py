"""``msicube demo``: the main job on data that it makes itself, in the commands that a user would type."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import click

from msicube.cli.common import print_table, say
from msicube.errors import UsageError

#: Recipe -> what the demo changes in it: the study is small, so more epochs of few patches, and fewer pixels.
RECIPES = {
    "colorectal-resnet18": "--set train.epochs=20 --set patches.stride=16",
    "colorectal-cnn1d": "--set train.epochs=6 --set spectra.limit=12000 --set spectra.test_limit=20000",
}
PARTS = ("slides", "study.zarr", "study.zarr.partial", "runs")


@click.command("demo")
@click.argument("out", default="demo", type=click.Path(path_type=Path))
@click.option("--slides", type=click.IntRange(min=8), default=40, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def command(out: Path, slides: int, seed: int) -> None:
    """Simulate a study, convert it, preprocess it, train both networks and report, in a folder OUT.

    Run again, it replaces what it made before.
    """
    started = time.perf_counter()
    _clear(out)
    source, study, runs = out / "slides", out / "study.zarr", out / "runs"
    _run(f"simulate msi {source} --slides {slides} --seed {seed} --channels 400 --class-difference 1.5")
    _run(f"convert {source} {study} --samples {source / 'samples.csv'}")
    _run(f"validate {study} --source {source}")
    for recipe in RECIPES:
        _run(f"fit {recipe} {study}")
    _run(f"apply {study} --name colorectal_pca")
    for recipe, changes in RECIPES.items():
        _run(f"train {recipe} {study} --out {runs / recipe} {changes}")
        _run(f"train {recipe} {study} --out {runs / (recipe + '-shuffled')} {changes} --shuffle-labels")
        _run(f"report {runs / recipe}")
    print_table(
        "Held-out patients", ("network", "labels", "accuracy", "ROC AUC", "slides right"), _results(runs)
    )
    say(f"\nDone in {time.perf_counter() - started:.0f} s.")
    for recipe in RECIPES:
        click.echo(f"Report: {runs / recipe / 'report.html'}")
    say(
        "\nNow with your own files (samples.csv: slide, label, patient, split):\n"
        "  msicube info your.imzML\n"
        "  msicube convert your_folder your.zarr --samples samples.csv     # --mz-axis ppm:20 for processed imzML\n"
        "  msicube train colorectal-resnet18 your.zarr --out run && msicube report run"
    )


def _clear(out: Path) -> None:
    """Remove what an earlier demo made; anything else in the folder is not ours to touch."""
    if out.exists() and (strangers := sorted({p.name for p in out.iterdir()} - set(PARTS))):
        raise UsageError(f"{out} holds {strangers[0]}, which no demo made: choose another folder")
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)


def _run(line: str) -> None:
    """Say a command as a user would type it, and do it."""
    from msicube.cli.main import cli

    say(f"\n$ msicube {line}")
    code: Any = cli.main(args=shlex.split(line), prog_name="msicube", standalone_mode=False)
    if code:
        raise click.exceptions.Exit(code)


def _results(runs: Path) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for recipe in RECIPES:
        for suffix, labels in (("", "true"), ("-shuffled", "shuffled")):
            summary = json.loads((runs / f"{recipe}{suffix}" / "summary.json").read_text())
            samples, slides = summary["samples"]["metrics"], summary["slides"]["metrics"]
            rows.append(
                (
                    recipe,
                    labels,
                    f"{samples['accuracy']:.3f}",
                    f"{samples['roc_auc']:.3f}",
                    f"{slides['accuracy']:.3f}",
                )
            )
    return rows
