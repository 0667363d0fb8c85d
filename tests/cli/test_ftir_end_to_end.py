"""The breast tissue study from Agilent files to a report, in the commands that the documentation gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.experiments import Run, open_run, parse_overrides

#: A network that is small enough for a test, on few spectra.
FEW = "--set data.folds=2 --set train.threads=1 --set spectra.test_limit=2000"
SMALL = (
    f"{FEW} --set train.epochs=8 --set train.batch_size=25 --set spectra.limit=800 --set model.width=[8,16,16] "
    "--set model.hidden=16 --set model.momentum=0.05 --set train.renew_statistics=false"
)


def msicube(line: str) -> str:
    done = CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def quick(folder: Path, out: str, line: str, *, shuffle_labels: bool = False, **changes: Any) -> Run:
    """Train as the command does, without figures."""
    overrides = changes | parse_overrides(line.replace("--set ", "").split())
    return mc.train(
        "breast-ftir-binary",
        folder / "study.zarr",
        folder / out,
        overrides=overrides,
        shuffle_labels=shuffle_labels,
        figures=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("breast")
    msicube(
        f"simulate ftir {path}/cores --slides 16 --shape 16 16 --seed 1 --wavenumbers 900 3100 "
        "--class-difference 5 --patient-effect 0.3 --noise 0.5"
    )
    msicube(f"convert {path}/cores {path}/study.zarr --samples {path}/cores/samples.csv")
    for name, where in (("tissue", "acquired"), ("paraffin", "~tissue")):
        msicube(f"mask {path}/study.zarr {name} --method {name} --per-slide --where {where}")
    return path


@pytest.fixture(scope="module")
def binary(folder: Path) -> Run:
    return quick(folder, "binary", SMALL)


@pytest.fixture(scope="module")
def plsda(folder: Path) -> Run:
    """The same folds, by another classifier: one line."""
    return quick(folder, "plsda", FEW, model={"name": "plsda"})


def test_everything_that_is_learned_is_learned_from_training_slides(binary: Run, folder: Path) -> None:
    study = mc.open_study(folder / "study.zarr")
    for fold in binary.folds:
        train, test = ({row["slide"] for row in fold.info["split"][part]} for part in ("train", "test"))
        loaded = {
            name: mc.Pipeline.load(fold.path / "pipeline.zarr", name=name)
            for name in ("breast_emsc", "outlier")
        }
        assert all(set(pipeline.slides_) == train for pipeline in loaded.values())
        emsc, outlier = loaded["breast_emsc"], loaded["outlier"]
        assert (emsc.where_, outlier.where_) == ("tissue & ~outlier", "tissue")
        assert len(emsc.get_feature_names_out()) == 467
        # One pass over the tissue that is left, one over the paraffin of the same slides.
        held = fold.info["pipeline"]["masks"]["outlier"]["held"]
        left = sum(study.mask(slide, "tissue").sum() - held[slide] for slide in train)
        paraffin = sum(study.mask(slide, "paraffin").sum() for slide in train)
        assert [one.n_spectra for one in emsc.passes_] == [left, paraffin]
        assert fold.predictions["slide"].isin(test).all()
        assert set(held) == train | test


def test_only_tissue_without_outliers_is_told_apart(binary: Run, folder: Path) -> None:
    study = mc.open_study(folder / "study.zarr")
    outlier = mc.Pipeline.load(binary.folds[0].path / "pipeline.zarr", name="outlier")
    for slide, rows in binary.folds[0].predictions.groupby("slide"):
        mask = study.mask(str(slide), "tissue")
        spectra = study[str(slide)]["intensity"].to_numpy()
        mask[mask] = outlier.transform_block(spectra[mask])[:, 0] == 0
        expected = set(zip(*np.nonzero(mask), strict=True))
        assert set(zip(rows["y"], rows["x"], strict=True)) == expected


def test_held_out_patients_are_told_apart_and_not_by_chance(binary: Run, folder: Path) -> None:
    """The effects of the classes are five times as large as by default: eight patients have to do."""
    found = binary.summary["samples"]
    assert found["metrics"]["accuracy"] > found["chance"] + 0.2
    assert binary.summary["slides"]["metrics"]["roc_auc"] > 0.9
    control = quick(folder, "shuffled", f"{SMALL} --set data.fold=1", shuffle_labels=True).summary["samples"]
    true = binary.folds[0].summary["samples"]
    assert control["metrics"]["accuracy"] < control["chance"] + 0.15
    assert control["metrics"]["accuracy"] < true["metrics"]["accuracy"] - 0.15


def test_another_classifier_is_one_option_and_is_compared_patient_by_patient(
    binary: Run, plsda: Run, folder: Path
) -> None:
    patients = [
        [{row["patient"] for row in fold.info["split"]["test"]} for fold in run.folds]
        for run in (binary, plsda)
    ]
    assert patients[0] == patients[1]
    (entry,) = plsda.folds[0].metrics
    # Balanced: as many of the larger class as there are of the smaller.
    info, left = plsda.folds[0].info, {"adjacent": 0, "cancer": 0}
    study = mc.open_study(folder / "study.zarr")
    for row in info["split"]["train"]:
        held = info["pipeline"]["masks"]["outlier"]["held"][row["slide"]]
        left[row["label"]] += study.mask(row["slide"], "tissue").sum() - held
    assert entry["train"]["n_spectra"] == 2 * min(left.values())
    assert plsda.recipe.train.epochs == 1
    assert plsda.summary["slides"]["metrics"]["roc_auc"] > 0.9
    found = json.loads(msicube(f"compare {binary.path} {plsda.path} --json"))
    (row,) = found["differences"]
    low, high = row["samples"]["accuracy"]["interval"]
    runs = [run.summary["samples"]["metrics"]["accuracy"] for run in (plsda, binary)]
    assert row["samples"]["accuracy"]["difference"] == pytest.approx(runs[0] - runs[1])
    assert low <= runs[0] - runs[1] <= high
    assert "the same patients drawn for both" in msicube(f"compare {binary.path} {plsda.path}")


def test_a_run_judges_outliers_of_new_slides_as_it_learned_to(plsda: Run, folder: Path) -> None:
    """Predicted again on the map, a held-out slide has the probabilities that the run was evaluated by."""
    fold = plsda.folds[0]
    slide = fold.predictions["slide"].iloc[0]
    msicube(f"predict {fold.path} {folder}/study.zarr --slide {slide} --where tissue&~outlier --name p_plsda")
    table = fold.predictions[fold.predictions["slide"] == slide]
    found = mc.open_study(folder / "study.zarr")[slide]["p_plsda"].to_numpy()
    assert (found.sum(axis=2) > 0).sum() == len(table)
    np.testing.assert_allclose(found[table["y"], table["x"], 1], table["p_cancer"], atol=1e-5)


def test_a_step_is_taken_away_in_one_assignment(folder: Path) -> None:
    msicube(
        f"train breast-ftir-subtypes {folder}/study.zarr --out {folder}/subtypes --model plsda {FEW} "
        "--set data.fold=1 --set pipeline.without=['EMSC'] --where tissue"
    )
    run = open_run(folder / "subtypes")
    assert run.info["classes"] == ["HER2", "luminal A", "luminal B", "triple-negative"]
    assert len(run.info["split"]["unused"]) == 8, "the tissue beside has no subtype"
    assert run.info["pipeline"]["steps"].startswith("Blank(")
    assert run.info["pipeline"]["masks"] == {}, "nothing names the mask of outliers, so it is not made"


def test_the_map_finds_the_bands_that_the_simulation_changed(binary: Run, folder: Path) -> None:
    msicube(f"explain {binary.path} --spectra 10 --method integrated_gradients")
    msicube(f"report {binary.path}")
    page = (binary.path / "report.html").read_text("utf-8")
    assert "What the network looks at" in page
    assert "Results by fold" in page
    table = pd.read_csv(binary.path / "explanation" / "attributions.csv")
    truth = json.loads((folder / "cores" / "truth.json").read_text())
    telling = [band["interval"] for band in truth["bands"] if band["discriminates"]]
    silent = [band["interval"] for band in truth["bands"] if not band["discriminates"]]
    blank = table["wavenumber"].between(1350, 1500)
    inside, beside = (
        np.any([table["wavenumber"].between(low, high) for low, high in intervals], axis=0) & ~blank
        for intervals in (telling, silent)
    )
    size = table["integrated_gradients"].abs()
    assert not size[blank].any(), "what is blanked cannot be looked at"
    assert size[inside].mean() > 1.2 * size[~inside & beside].mean()
