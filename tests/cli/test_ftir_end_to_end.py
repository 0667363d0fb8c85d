"""The breast tissue study from Agilent files to a report, in the commands that the documentation gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.experiments import Run, open_run

#: A network that is small enough for a test, on few spectra.
SMALL = (
    "--set train.epochs=4 --set train.batch_size=25 --set train.threads=1 --set spectra.limit=500 "
    "--set spectra.test_limit=400 --set model.width=[4,8,16] --set model.hidden=16 --set data.folds=2"
)


def msicube(line: str) -> None:
    done = CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("breast")
    msicube(
        f"simulate ftir {path}/cores --slides 16 --shape 16 16 --seed 1 --class-difference 5 "
        "--patient-effect 0.3 --noise 0.5"
    )
    msicube(f"convert {path}/cores {path}/study.zarr --crop 900:1800 --samples {path}/cores/samples.csv")
    command = ["mask", f"{path}/study.zarr"]
    for name, more in (("tissue", []), ("paraffin", ["--where", "~tissue"])):
        line = [*command, name, "--method", name, "--per-slide", *more]
        assert CliRunner().invoke(cli, line, catch_exceptions=False).exit_code == 0
    return path


@pytest.fixture(scope="module")
def binary(folder: Path) -> Run:
    msicube(f"train breast-ftir-binary {folder}/study.zarr --out {folder}/run {SMALL}")
    return open_run(folder / "run")


def test_only_tissue_is_told_apart(binary: Run, folder: Path) -> None:
    study = mc.open_study(folder / "study.zarr")
    assert len(study.axis(study.slides[0])) == 467
    for slide, rows in binary.predictions.groupby("slide"):
        assert study.mask(str(slide), "tissue")[rows["y"], rows["x"]].all()
    for fold in binary.folds:
        pipeline = mc.Pipeline.load(fold.path / "pipeline.zarr", name="breast_emsc")
        assert pipeline.where_ == "tissue"
        assert pipeline.n_spectra_ == sum(study.mask(slide, "tissue").sum() for slide in pipeline.slides_)


def test_it_learns_what_it_is_shown(binary: Run) -> None:
    """Of the held-out patients nothing is claimed: four patients cannot show what four subtypes look like."""
    for fold in binary.folds:
        first, *_, last = fold.metrics
        assert last["train"]["loss"] < 0.85 * first["train"]["loss"]
        assert last["train"]["accuracy"] > 0.75
    assert binary.info["classes"] == ["adjacent", "cancer"]
    assert binary.info["classes"][binary.info["positive"]] == "cancer"


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
    inside, beside = (
        np.any([table["wavenumber"].between(low, high) for low, high in intervals], axis=0)
        for intervals in (telling, silent)
    )
    size = table["integrated_gradients"].abs()
    # The changed bands hold 62 % of the axis; a channel of the others counts for half as much.
    assert size[inside].mean() > 1.4 * size[~inside & beside].mean()


def test_the_tissue_beside_has_no_subtype(folder: Path) -> None:
    msicube(
        f"train breast-ftir-subtypes {folder}/study.zarr --out {folder}/subtypes {SMALL} "
        "--set train.epochs=1 --set data.fold=1"
    )
    run = open_run(folder / "subtypes")
    assert run.info["classes"] == ["HER2", "luminal A", "luminal B", "triple-negative"]
    assert len(run.info["split"]["unused"]) == 8
