"""Two processes that torchrun starts train what one trains, and fail together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from msicube.errors import RecipeError
from msicube.experiments import Run, TrainingEvent, open_run, train
from msicube.experiments.ranks import Ranks, synchronise_statistics
from msicube.models import build_model
from msicube.store import Study

#: A network without dropout and batch normalisation, which each process does for its own part of a batch.
MODULE = """
import os
import torch

class Plain(torch.nn.Module):
    def __init__(self, *, n_channels, n_classes):
        super().__init__()
        self.layer = torch.nn.Linear(n_channels, n_classes)
        self.steps = 0

    def forward(self, spectra):
        if self.training:
            self.steps += 1
        if os.environ.get("RANK") == "1" and self.steps == int(os.environ.get("FAIL_IN", "0")):
            raise ArithmeticError("the second process has failed on purpose")
        return self.layer(spectra)
"""
OPTIONS: dict[str, Any] = {
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.checkpoint_seconds": 0,
    "train.device": "cpu",
    "spectra.limit": 1000,  # no multiple of the batch
    "model": {"name": "plain_network:Plain"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    (folder / "plain_network.py").write_text(MODULE)
    return folder


@pytest.fixture(scope="module")
def alone(study_path: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        out = tmp_path_factory.mktemp("alone") / "run"
        return train("colorectal-cnn1d", study_path, out, overrides=OPTIONS, figures=False)


def torchrun(folder: Path, study: Study, out: Path, *more: str, **environment: str) -> Any:
    changes = {key: value for key, value in OPTIONS.items() if key != "model"}
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += ["-m", "msicube", "train", "colorectal-cnn1d", study.path, "--out", str(out)]
    line += ["--model", "plain_network:Plain", *words, *more]
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        line,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_close(run: Run, other: Run) -> None:
    weights = [torch.load(one.path / "weights.pt", weights_only=True) for one in (run, other)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-6)
    pd.testing.assert_frame_equal(run.predictions, other.predictions, rtol=1e-3)
    for ours, theirs in zip(run.metrics, other.metrics, strict=True):
        for part in ("train", "test"):
            assert ours[part] == pytest.approx(theirs[part], rel=1e-3)


def test_two_processes_train_what_one_trains(alone: Run, folder: Path, study: Study, tmp_path: Path) -> None:
    done = torchrun(folder, study, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.info["state"] == "finished"
    assert run.info["processes"] == 2
    assert done.stdout.count("held out") == 1, "one process speaks"
    assert_close(run, alone)
    assert not (run.path / "checkpoint.pt").exists()


def test_one_that_fails_ends_both_and_another_goes_on(
    alone: Run, folder: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = torchrun(folder, study, tmp_path / "run", FAIL_IN="20")
    assert done.returncode != 0
    assert "the second process has failed on purpose" in done.stderr
    run = open_run(tmp_path / "run")
    assert run.info["state"] in ("failed", "interrupted")
    assert len(run.metrics) == 1
    events: list[TrainingEvent] = []
    monkeypatch.syspath_prepend(folder)
    options: dict[str, Any] = {"overrides": OPTIONS, "figures": False, "resume": True}
    train("colorectal-cnn1d", study, run.path, progress=events.append, **options)
    resumed = next(event for event in events if event.stage == "resumed")
    assert (resumed.epoch, resumed.done) == (2, 4), "after the last step that both had taken"
    assert_close(run, alone)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    assert Ranks(1, 4).batch_size(64) == 16
    with pytest.raises(
        RecipeError, match=r"batch_size = 30 .* 4 cannot share it evenly: take a multiple of 4"
    ):
        Ranks(0, 4).batch_size(30)


def test_only_statistics_that_are_trained_are_shared_between_gpus() -> None:
    model = build_model("resnet18", n_channels=3, n_classes=2, weights="random")
    frozen = model.network.layer1
    frozen.requires_grad_(False)
    before = model.state_dict()
    synchronise_statistics(model)
    kinds = {type(part) for part in model.network.layer4.modules()}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert nn.SyncBatchNorm not in {type(part) for part in frozen.modules()}
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(np.array_equal(before[name], after[name]) for name in before)
