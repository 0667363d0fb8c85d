"""Runs that are killed, interrupted and taken up again end as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import UsageError
from msicube.experiments import Run, TrainingEvent, open_run, train
from msicube.experiments.resuming import differences
from msicube.store import Study

SPECTRA: dict[str, Any] = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.checkpoint_seconds": 0,
    "spectra.limit": 320,
    "spectra.test_limit": 640,
}
PATCHES: dict[str, Any] = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 8,
    "train.checkpoint_seconds": 0,
    "patches.size": 12,
    "patches.limit": 32,
    "model": {"name": f"{__name__}:Window"},
}


class Window(nn.Module):
    """A network of patches that draws random numbers and keeps statistics."""

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(n_channels, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(4, n_classes)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(patches).flatten(1))


def left_by(run: Run) -> dict[str, Any]:
    """What a run leaves, but for what the clock says."""
    weights = torch.load(run.path / "weights.pt", weights_only=True)
    return {
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
        "metrics": [
            {key: value for key, value in entry.items() if key != "seconds"} for entry in run.metrics
        ],
        "predictions": (run.path / "predictions.csv").read_bytes(),
        "summary": (run.path / "summary.json").read_bytes(),
        "recipe": (run.path / "recipe.toml").read_bytes(),
        "pipeline": run.info["pipeline"],
        "files": sorted(path.name for path in run.path.iterdir()),
    }


def live(recipe: str, study: str, out: str, overrides: dict[str, Any], n_writes: int, before: bool) -> None:
    """Train in this process, which is killed just before or after it puts its n-th file in place."""
    replace, written = Path.replace, 0

    def count(self: Path, target: Path) -> Path:
        nonlocal written
        written += 1
        if written == n_writes and before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = replace(self, target)
        if written == n_writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Path.replace = count  # type: ignore[method-assign,assignment]
    train(recipe, study, out, overrides=overrides, figures=False, resume=True)


@pytest.mark.parametrize(
    ("recipe", "overrides"), [("colorectal-cnn1d", SPECTRA), ("colorectal-resnet18", PATCHES)]
)
def test_killed_again_and_again_it_ends_the_same(
    recipe: str, overrides: dict[str, Any], study: Study, tmp_path: Path
) -> None:
    undisturbed = train(recipe, study, tmp_path / "undisturbed", overrides=overrides, figures=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["msicube.experiments.training"])
    codes = []
    for life in range(1, 40):
        arguments = (recipe, study.path, str(tmp_path / "killed"), overrides, 3 * life, bool(life % 2))
        process = context.Process(target=live, args=arguments)
        process.start()
        process.join()
        codes.append(process.exitcode)
        if process.exitcode != -signal.SIGKILL:
            break
    assert codes == [*[-signal.SIGKILL] * (len(codes) - 1), 0]
    assert len(codes) > 4
    killed = open_run(tmp_path / "killed")
    assert killed.info["state"] == "finished"
    assert len(killed.info["resumed"]) >= len(codes) - 2, "the first lives may end before there is a run"
    assert left_by(killed) == left_by(undisturbed)


def command(study: Study, out: Path, *more: str, **changes: object) -> list[str]:
    words = [word for key, value in (SPECTRA | changes).items() for word in ("--set", f"{key}={value}")]
    return ["train", "colorectal-cnn1d", study.path, "--out", str(out), *words, *more]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    line = [sys.executable, "-m", "msicube.cli", *arguments]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


LONG = {"train.epochs": 3, "spectra.limit": 3200, "train.batch_size": 32}


@pytest.fixture(scope="module")
def undisturbed(study_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    return train("colorectal-cnn1d", study_path, out, overrides=SPECTRA | LONG)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_goes_on_after_a_signal(
    number: signal.Signals, study: Study, undisturbed: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = started(command(study, out, **LONG))
    wait_for(out / "metrics.jsonl", process)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    run = open_run(out)
    assert process.returncode == 130
    assert "the same command with --resume goes on with it" in said
    assert run.info["state"] == "interrupted"
    assert torch.load(out / "checkpoint.pt", weights_only=True)["place"]["epoch"] > 1
    assert not (out / ".lock").exists()
    assert 1 <= len(run.metrics) < 3
    assert len(run.predictions) == run.summary["samples"]["n"]
    assert "This run is" in mc.report(run).read_text("utf-8")
    (out / "report.html").unlink()
    again = CliRunner().invoke(cli, command(study, out, "--resume", **LONG), catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert "going on in epoch" in again.output
    assert left_by(open_run(out)) == left_by(undisturbed)


def test_a_finished_run_is_left_alone(undisturbed: Run, study: Study, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed.path, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = CliRunner().invoke(cli, command(study, out, "--resume", **LONG), catch_exceptions=False)
    assert "was finished already" in again.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    refused = CliRunner().invoke(cli, command(study, out, "--resume", "--overwrite"))
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "is another run: seed was 0 and is 1;"),
        (
            {"overrides": SPECTRA | LONG | {"train.epochs": 4}},
            r"train\.epochs was 3 and is 4; give the command",
        ),
        ({"overrides": SPECTRA | LONG | {"model.dropout": 0.1}}, r"model\.dropout was 0\.5 and is 0\.1"),
        ({"shuffle_labels": True}, "shuffled_labels was False and is True, train.slide_"),
        ({"resume": False}, r"holds a run: pass resume=True \(--resume\)"),
        ({"overwrite": True}, "give one of the two"),
    ],
)
def test_another_run_is_refused(
    options: dict[str, Any], message: str, undisturbed: Run, study: Study
) -> None:
    given = {"overrides": SPECTRA | LONG, "resume": True, "figures": False, **options}
    with pytest.raises(UsageError, match=message):
        train("colorectal-cnn1d", study, undisturbed.path, **given)


def test_another_study_is_refused(undisturbed: Run, study: Study, tmp_path: Path) -> None:
    moved = tmp_path / "study.zarr"
    shutil.copytree(study.path, moved)
    options: dict[str, Any] = {"overrides": SPECTRA | LONG, "resume": True, "figures": False}
    assert train("colorectal-cnn1d", moved, undisturbed.path, **options).info["state"] == "finished"
    slide = study.slides[0]
    shard = next(path for path in sorted((moved / slide / "intensity" / "c").rglob("*")) if path.is_file())
    shard.write_bytes(shard.read_bytes() + b"\0")
    with pytest.raises(UsageError, match=rf"{slide}\.digest was '\w+' and is '\w+'"):
        train("colorectal-cnn1d", moved, undisturbed.path, **options)


def test_a_run_that_is_being_written_is_not_touched(undisturbed: Run, study: Study) -> None:
    with undisturbed.locked(), pytest.raises(UsageError, match="is being written by another process"):
        train("colorectal-cnn1d", study, undisturbed.path, overrides=SPECTRA, overwrite=True)
    assert open_run(undisturbed.path).info["state"] == "finished"


def test_folds_that_are_finished_are_not_trained_again(study_path: Path, tmp_path: Path) -> None:
    folds = {"data.split": "folds", "data.folds": 2}
    options: dict[str, Any] = {"overrides": SPECTRA | folds, "figures": False, "resume": True}
    whole = train("colorectal-cnn1d", study_path, tmp_path / "whole", **options)

    def stop(event: TrainingEvent) -> None:
        if event.fold == 2 and event.stage == "train" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("colorectal-cnn1d", study_path, tmp_path / "stopped", progress=stop, **options)
    stopped = open_run(tmp_path / "stopped")
    assert [run.info["state"] for run in (stopped, *stopped.folds)] == [
        "interrupted",
        "finished",
        "interrupted",
    ]
    first = stopped.folds[0].info
    events: list[TrainingEvent] = []
    train("colorectal-cnn1d", study_path, tmp_path / "stopped", progress=events.append, **options)
    assert {event.stage for event in events if event.fold == 1} == {"kept"}
    resumed = next(event for event in events if event.stage == "resumed")
    assert (resumed.fold, resumed.epoch, resumed.done) == (2, 1, 3)
    assert stopped.folds[0].info == first
    for one, other in zip(stopped.folds, whole.folds, strict=True):
        assert left_by(one) == left_by(other)
    assert (stopped.path / "summary.json").read_bytes() == (whole.path / "summary.json").read_bytes()
    assert stopped.info["state"] == "finished"


def test_differences_are_named_by_their_place() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
    assert differences(before, {"a": {"b": 2, "c": (1, 2)}, "e": "y"}) == [
        "a.b was 1 and is 2",
        "d was 'x' and is None",
        "e was None and is 'y'",
    ]
