"""Validation patients choose the epoch, and those held out for testing never do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import msicube as mc
from msicube.errors import RecipeError
from msicube.experiments import Run, TrainingEvent, load_recipe, open_run, train
from msicube.simulate import simulate_msi

OPTIONS: dict[str, Any] = {
    "train.epochs": 12,
    "train.threads": 1,
    "train.batch_size": 32,
    "train.learning_rate": 0.03,  # so high that it overshoots
    "train.patience": 2,
    "train.monitor": "loss",
    "data.validation_fraction": 0.3,
    "spectra.limit": 320,
    "spectra.test_limit": 640,
}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients who differ more than the classes do, so that a network soon learns the patients."""
    folder = tmp_path_factory.mktemp("validation")
    made = simulate_msi(
        folder / "slides",
        slides=12,
        seed=2,
        shape=(16, 16),
        channels=120,
        class_difference=0.7,
        patient_effect=2.0,
    )
    mc.convert(made.folder, folder / "study.zarr", samples=made.samples)
    return folder / "study.zarr"


@pytest.fixture(scope="module")
def stopped(many: Path) -> Run:
    return train("colorectal-cnn1d", many, many.parent / "run", overrides=OPTIONS)


def test_training_ends_when_validation_patients_gain_nothing(stopped: Run, many: Path) -> None:
    info, metrics = stopped.info, stopped.metrics
    losses = [entry["validation"]["loss"] for entry in metrics]
    best = losses.index(min(losses)) + 1
    assert info["stopped_early"]
    assert info["best_epoch"] == best
    assert info["epochs"] == len(metrics) == best + 2 < 12
    assert [entry["best"] for entry in metrics] == [
        loss == min(losses[: i + 1]) for i, loss in enumerate(losses)
    ]
    patients = [{row["patient"] for row in info["split"][part]} for part in ("train", "validation", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert patients[1]
    fitted = mc.Pipeline.load(stopped.path / "pipeline.zarr", name=stopped.recipe.pipeline.name).slides_
    assert sorted(fitted) == [row["slide"] for row in info["split"]["train"]]
    page = mc.report(stopped).read_text("utf-8")
    assert "best loss on validation patients" in page
    assert "choose the epoch" in page


def test_weights_and_results_are_those_of_the_best_epoch(stopped: Run, many: Path, tmp_path: Path) -> None:
    best = stopped.info["best_epoch"]
    assert best < len(stopped.metrics)
    short = {**OPTIONS, "train.epochs": best, "train.patience": 0}
    again = train("colorectal-cnn1d", many, tmp_path / "short", overrides=short, figures=False)
    weights = [torch.load(run.path / "weights.pt", weights_only=True) for run in (stopped, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    pd.testing.assert_frame_equal(stopped.predictions, again.predictions)
    assert stopped.summary == again.summary
    assert "intervals" in stopped.summary["samples"]
    assert stopped.summary["samples"]["metrics"]["accuracy"] == stopped.metrics[best - 1]["test"]["accuracy"]


def test_the_labels_of_the_held_out_patients_decide_nothing(stopped: Run, many: Path, tmp_path: Path) -> None:
    """Were they all wrong, every weight would be the same."""
    study = mc.open_study(many)
    turned = study.samples.copy()
    held_out = turned["split"] == "test"
    turned.loc[held_out, "label"] = turned.loc[held_out, "label"].map(
        {"tumour": "normal", "normal": "tumour"}
    )
    study.__dict__["samples"] = turned
    again = train("colorectal-cnn1d", study, tmp_path / "turned", overrides=OPTIONS, figures=False)
    assert again.info["best_epoch"] == stopped.info["best_epoch"]
    weights = [torch.load(run.path / "weights.pt", weights_only=True) for run in (stopped, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    accuracies = [run.summary["samples"]["metrics"]["accuracy"] for run in (stopped, again)]
    assert sum(accuracies) == pytest.approx(1)


def test_patience_goes_on_where_it_was_interrupted(stopped: Run, many: Path, tmp_path: Path) -> None:
    last = len(stopped.metrics)

    def stop(event: TrainingEvent) -> None:
        if event.stage == "train" and event.epoch == last and event.done == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"overrides": OPTIONS, "figures": False, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        train("colorectal-cnn1d", many, tmp_path / "run", progress=stop, **options)
    assert open_run(tmp_path / "run").info["state"] == "interrupted"
    again = train("colorectal-cnn1d", many, tmp_path / "run", **options)
    assert again.summary == stopped.summary
    assert again.info["best_epoch"] == stopped.info["best_epoch"]
    assert len(again.metrics) == last


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.patience": 3}, r"patience = 3 needs patients to watch: set data\.validation_fraction"),
        ({"data.validation_fraction": 0.2, "data.split": "patch"}, "takes whole patients out of training"),
        ({"train.monitor": "test_loss"}, "expected one of 'loss', 'accuracy'"),
    ],
)
def test_what_would_leak_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("colorectal-cnn1d", overrides=overrides)
