"""Cross-validation, splits by patch, and runs side by side, on real small runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import UsageError
from msicube.experiments import Run, TrainingEvent, compare, load_recipe, open_run, train
from msicube.experiments.metrics import METRICS, table_metrics
from msicube.preprocess.recipes import build_pipeline
from msicube.simulate import simulate_msi

OPTIONS = {"train.epochs": 1, "train.threads": 1, "train.batch_size": 64, "spectra.limit": 1000}
CLASSES = ("normal", "tumour")


def command_line(line: str, **changes: object) -> None:
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(cli, [*line.split(), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of twelve slides whose patients differ much more than the classes do."""
    folder = tmp_path_factory.mktemp("folds")
    made = simulate_msi(
        folder / "slides",
        slides=12,
        seed=2,
        shape=(20, 20),
        channels=120,
        class_difference=0.7,
        patient_effect=2.0,
    )
    mc.convert(made.folder, folder / "study.zarr", samples=made.samples)
    return folder / "study.zarr"


@pytest.fixture(scope="module")
def folded(many: Path) -> tuple[Run, list[TrainingEvent]]:
    events: list[TrainingEvent] = []
    run = train(
        "colorectal-cnn1d",
        many,
        many.parent / "folded",
        overrides={**OPTIONS, "data.split": "folds", "data.folds": 3},
        progress=events.append,
    )
    return run, events


def test_figures_of_all_folds_are_drawn(folded: tuple[Run, list[TrainingEvent]]) -> None:
    run, _ = folded
    drawn = {path.stem for path in (run.path / "figures").glob("*.svg")}
    assert {
        "confusion",
        "roc",
        "embedding",
        "slides",
    } <= drawn  # the folds selected different m/z: no examples


def test_every_slide_is_held_out_once_by_a_fold_that_did_not_see_its_patient(
    folded: tuple[Run, list[TrainingEvent]], many: Path
) -> None:
    run, events = folded
    study = mc.open_study(many)
    assert [one.path.name for one in run.folds] == ["fold_1", "fold_2", "fold_3"]
    assert {event.fold for event in events} == {1, 2, 3}
    table = run.predictions
    assert len(table) == sum(study.acquired(slide).sum() for slide in study.slides)
    assert not table.duplicated(["slide", "y", "x"]).any()
    fingerprints = set()
    for number, fold in enumerate(run.folds, start=1):
        assert fold.recipe.data.fold == number
        info = fold.info
        assert info["state"] == "finished"
        train_patients, test_patients = (
            {row["patient"] for row in info["split"][part]} for part in ("train", "test")
        )
        assert not train_patients & test_patients
        assert set(table["patient"][table["fold"] == number]) == test_patients
        pipeline = mc.Pipeline.load(fold.path / "pipeline.zarr", name=fold.recipe.pipeline.name)
        assert sorted(pipeline.slides_) == [row["slide"] for row in info["split"]["train"]]
        assert set(study.samples["patient"][pipeline.slides_]) == train_patients
        fingerprints.add(info["pipeline"]["fingerprint"])
    assert len(fingerprints) == 3, "each fold fits a pipeline of its own"


def test_pooled_and_per_fold_results_follow_from_the_predictions(folded: tuple[Run, Any]) -> None:
    run = folded[0]
    table, summary = run.predictions, run.summary
    assert summary["samples"]["metrics"] == pytest.approx(table_metrics(table, CLASSES, 1), abs=1e-9)
    assert summary["slides"]["n"] == table["slide"].nunique() == 12
    assert summary["patients"]["n"] == len(table.groupby(["patient", "label"]))
    for number, found in enumerate(summary["folds"]["samples"]["each"], start=1):
        expected = table_metrics(table[table["fold"] == number], CLASSES, 1)
        assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
    for name in METRICS:
        values = [one[name] for one in summary["folds"]["samples"]["each"]]
        if None not in values:
            assert summary["folds"]["samples"]["mean"][name] == pytest.approx(np.mean(values))
            assert summary["folds"]["samples"]["deviation"][name] == pytest.approx(np.std(values, ddof=1))
        low, high = summary["samples"]["intervals"][name]
        assert low <= summary["samples"]["metrics"][name] <= high


def test_a_saved_pipeline_that_saw_other_slides_is_not_taken(many: Path, tmp_path: Path) -> None:
    """Fitted on the training slides of the samples table, it would have seen what a fold holds out."""
    recipe = load_recipe("colorectal-cnn1d")
    build_pipeline(recipe.pipeline).fit(mc.open_study(many)).save(many, name=recipe.pipeline.name)
    run = train(
        "colorectal-cnn1d",
        many,
        tmp_path / "one",
        overrides={**OPTIONS, "data.split": "folds", "data.folds": 3, "data.fold": 2},
        figures=False,
    )
    assert run.info["pipeline"]["origin"].startswith("Fitted in this run")
    assert not run.folds


def test_a_split_by_patch_is_told_from_one_by_patient(folded: tuple[Run, Any], many: Path) -> None:
    out = many.parent / "leaky"
    command_line(
        f"train colorectal-cnn1d {many} --out {out} --split patch",
        **OPTIONS | {"pipeline.name": "own", "data.test_fraction": 0.25},
    )
    leaky = open_run(out)
    study = mc.open_study(many)
    n = sum(study.acquired(slide).sum() for slide in study.slides)
    assert 0.2 * n < len(leaky.predictions) < 0.3 * n
    assert set(leaky.predictions["slide"]) == set(study.slides)
    page = mc.report(leaky).read_text("utf-8")
    assert "of the same patients that were trained on" in page
    with pytest.raises(UsageError, match="do not show what a split by patch is worth"):
        mc.report(leaky, against=folded[0])  # the pipelines have different names


def test_the_report_says_what_the_leak_is_worth(folded: tuple[Run, Any], many: Path, tmp_path: Path) -> None:
    pipeline = {"pipeline.name": "own"}
    patch, patient = (
        train(
            "colorectal-cnn1d",
            many,
            tmp_path / split,
            overrides={**OPTIONS, **pipeline, "data.split": split},
            figures=False,
        )
        for split in ("patch", "patient")
    )
    values = [run.summary["samples"]["metrics"]["accuracy"] for run in (patch, patient)]
    expected = f"accuracy {values[0] - values[1]:+.3f} ({values[0]:.3f} against {values[1]:.3f})"
    for run, other in ((patch, patient), (patient, patch)):
        assert expected in mc.report(run, against=other).read_text("utf-8")
    found = compare([patient.path, patch.path])
    assert [row["split"] for row in found.rows] == ["patient", "patch"]
    assert len(found.remarks) == 1
    assert expected in found.remarks[0]
    shown = CliRunner().invoke(cli, ["compare", str(patient.path), str(patch.path)])
    assert shown.exit_code == 0
    assert expected in shown.output.replace("\n", " ")
    with pytest.raises(UsageError, match="give at least two"):
        compare([patch])


def test_the_report_of_folds_has_their_table(folded: tuple[Run, Any]) -> None:
    run = folded[0]
    text = mc.report(run).read_text("utf-8")
    assert "Results by fold" in text
    for one in run.summary["folds"]["samples"]["each"]:
        assert f"{one['accuracy']:.3f}" in text
    low, high = run.summary["samples"]["intervals"]["accuracy"]
    assert f"{low:.3f} to {high:.3f}" in text
    assert "None" not in text


def test_a_network_of_ones_own_is_one_option(many: Path, tmp_path: Path) -> None:
    command_line(
        f"train colorectal-cnn1d {many} --out {tmp_path / 'run'} --split patient "
        "--model msicube.models.carenet:CaReNet",
        **OPTIONS
        | {"model.hidden": 8, "spectra.limit": 64, "spectra.test_limit": 300, "pipeline.name": "own"},
    )
    run = open_run(tmp_path / "run")
    assert run.info["model"]["class"] == "msicube.models.carenet:CaReNet"
    assert run.recipe.model.options == {"hidden": 8}, "the options of the recipe's own network are gone"
    assert isinstance(run.predictions, pd.DataFrame)
