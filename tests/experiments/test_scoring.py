"""A finished run on slides that it has not seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import AxisMismatch, LeakageError, RecipeError, UsageError
from msicube.experiments import Run
from msicube.experiments.metrics import table_metrics
from msicube.experiments.prediction import load_network
from msicube.simulate import simulate_msi
from msicube.store import Study

Pixels = tuple[Run, list[Any]]


@pytest.fixture(scope="module")
def hospital(study_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides of patients of another place, on the axis of the study."""
    folder = tmp_path_factory.mktemp("hospital")
    made = simulate_msi(folder / "slides", slides=4, seed=11, shape=(24, 20), channels=160)
    table = pd.read_csv(made.samples)
    table["patient"] = "other-" + table["patient"].astype(str)
    table.drop(columns="split").to_csv(made.samples, index=False)
    mc.convert(made.folder, folder / "hospital.zarr", samples=made.samples)
    return folder / "hospital.zarr"


def edit_sample(path: Path, slide: str, **values: object) -> None:
    """Change a slide's row of the samples table."""
    file = path / slide / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["sample"] |= values
    file.write_text(json.dumps(document))


def test_another_study_is_scored_with_weights_and_pipeline_as_they_are(
    pixels: Pixels, hospital: Path
) -> None:
    run = pixels[0]
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    found = mc.evaluate(run, hospital)
    study = mc.open_study(hospital)
    network = load_network(run, torch.device("cpu"))
    table = pd.read_csv(found.path / "predictions.csv")
    assert found.path == run.path / "evaluation" / "hospital"
    assert sorted(set(table["slide"])) == study.slides
    for slide in study.slides:
        rows, acquired = table[table["slide"] == slide], study.acquired(slide)
        assert rows[["y", "x"]].to_numpy().tolist() == np.argwhere(acquired).tolist()
        features = network.pipeline.transform_block(study.cube(slide)[...][acquired], slide=slide)
        with torch.inference_mode():
            expected = torch.softmax(network.model(torch.from_numpy(features)), dim=1).numpy()
        np.testing.assert_allclose(rows[["p_normal", "p_tumour"]], expected, rtol=1e-4, atol=1e-5)
        assert set(rows["label"]) == {study.samples["label"][slide]}
    metrics = table_metrics(found.predictions, ("normal", "tumour"), 1)
    assert found.summary["samples"]["metrics"] == metrics
    assert set(found.summary["patients"]["intervals"]) == set(metrics)
    assert json.loads((found.path / "summary.json").read_text()) == found.summary
    info = json.loads((found.path / "evaluation.json").read_text())
    assert info["pipeline"] == run.info["pipeline"]["fingerprint"]
    assert info["weights"] == run.info["weights"]
    assert [row["slide"] for row in info["slides"]] == study.slides
    assert info["seen"] == []
    assert all(path.read_bytes() == data for path, data in before.items()), "the run is as it was"


def test_its_own_held_out_slides_give_its_own_results(pixels: Pixels, study: Study, tmp_path: Path) -> None:
    run = pixels[0]
    held_out = [row["slide"] for row in run.info["split"]["test"]]
    found = mc.evaluate(run, study, slides=held_out, out=tmp_path / "own")
    assert found.summary == run.summary
    assert (tmp_path / "own" / "predictions.csv").read_bytes() == (run.path / "predictions.csv").read_bytes()


def test_patches_are_scored_as_well(patches: Run, study: Study, tmp_path: Path) -> None:
    held_out = [row["slide"] for row in patches.info["split"]["test"]]
    found = mc.evaluate(patches, study, slides=held_out, out=tmp_path / "own")
    assert found.summary == patches.summary


def test_patients_that_were_trained_on_are_refused(pixels: Pixels, study: Study, tmp_path: Path) -> None:
    run = pixels[0]
    trained = run.info["split"]["train"][0]
    with pytest.raises(
        LeakageError, match=rf"patient '{trained['patient']}' was in training.*--slide.*--allow-seen"
    ):
        mc.evaluate(run, study)
    found = mc.evaluate(run, study, slides=[trained["slide"]], out=tmp_path / "seen", allow_seen=True)
    assert found.info["seen"] == [f"patient {trained['patient']!r} was in training"]


def test_a_slide_under_another_name_and_patient_is_known_again(
    pixels: Pixels, study_path: Path, tmp_path: Path
) -> None:
    run = pixels[0]
    trained = run.info["split"]["train"][0]["slide"]
    copy = tmp_path / "copy.zarr"
    shutil.copytree(study_path, copy)
    (copy / trained).rename(copy / "stranger")
    edit_sample(copy, "stranger", patient="stranger")
    with pytest.raises(
        LeakageError, match=f"'stranger' holds the spectra of '{trained}', which was in training"
    ):
        mc.evaluate(run, copy, slides=["stranger"], out=tmp_path / "out")


def test_what_does_not_fit_the_run_is_refused(
    pixels: Pixels, hospital: Path, study: Study, tmp_path: Path
) -> None:
    run = pixels[0]
    other = tmp_path / "other.zarr"
    shutil.copytree(hospital, other)
    slide = mc.open_study(other).slides[0]
    edit_sample(other, slide, label="polyp")
    with pytest.raises(
        RecipeError, match=f"slide '{slide}' has the label 'polyp', and .* tells normal, tumour apart"
    ):
        mc.evaluate(run, other, out=tmp_path / "out")
    edit_sample(other, slide, label=None)
    found = mc.evaluate(run, other, out=tmp_path / "out")
    assert found.info["unused"] == [slide]
    with pytest.raises(RecipeError, match="nothing to score"):
        mc.evaluate(run, other, slides=[slide], out=tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds no evaluation"):
        mc.evaluate(run, hospital, out=tmp_path / "mine")
    made = simulate_msi(tmp_path / "s", slides=2, shape=(12, 12), channels=160, mz_range=(300.0, 600.0))
    mc.convert(made.folder, tmp_path / "s.zarr", samples=made.samples)
    with pytest.raises(AxisMismatch):
        mc.evaluate(run, tmp_path / "s.zarr", allow_seen=True, out=tmp_path / "axis")


def test_weights_that_were_changed_are_refused(pixels: Pixels, hospital: Path, tmp_path: Path) -> None:
    shutil.copytree(pixels[0].path, tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "weights.pt", weights_only=True)
    next(iter(weights.values())).add_(1)
    torch.save(weights, tmp_path / "run" / "weights.pt")
    with pytest.raises(UsageError, match=r"the weights in .* are not those that the run recorded"):
        mc.evaluate(tmp_path / "run", hospital)


def test_the_command_prints_what_it_wrote(pixels: Pixels, hospital: Path, tmp_path: Path) -> None:
    line = ["evaluate", str(pixels[0].path), str(hospital), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert "4 patients" in shown.output
    assert "roc_auc" in shown.output
    printed = CliRunner().invoke(cli, [*line, "--json"], catch_exceptions=False)
    assert json.loads(printed.stdout) == json.loads((tmp_path / "out" / "summary.json").read_text())
