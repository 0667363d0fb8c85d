"""``msicube fit`` and ``msicube apply``: a recipe, a study, and the features in it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import msicube as mc
from msicube.cli.common import FINISHED_BARS, Reporter
from msicube.cli.main import cli
from msicube.store import Study

RECIPE = """
[pipeline]
name = "small"
steps = [{ step = "Log1p" }, { step = "Standardize" }, { step = "PCA", n_components = 2 }]
"""


@pytest.fixture
def own(study: Study, tmp_path: Path) -> Path:
    """A copy of the shared study, with a mask in every slide and a recipe beside it."""
    path = tmp_path / "study.zarr"
    shutil.copytree(study.path, path)
    for slide in study.slides:
        shutil.copytree(path / slide / "acquired", path / slide / "tissue")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_recipe_is_fitted_saved_and_applied(own: Path) -> None:
    recipe = own.parent / "recipe.toml"
    done = run("fit", recipe, own, "--cache", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "fitting pass 1: moments, slide_003" in done.stderr
    assert "small: 2 passes over 4 slides" in done.stderr
    again = run("fit", recipe, own, "--cache", "--name", "again", "--set", "pipeline.name=other")
    assert "again: 2 passes" in again.stderr
    assert "8 of 8 slides were not read again" in again.stderr
    assert "not read again" not in run("fit", recipe, own, "--no-cache", "--name", "third").stderr
    study = mc.open_study(own)
    pipelines = [mc.Pipeline.load(study, name=name) for name in ("small", "again", "third")]
    assert len({pipeline.fingerprint() for pipeline in pipelines}) == 1
    assert study.pipelines() == ["again", "small", "third"]
    applied = run("apply", own, "--name", "small", "--slide", "slide_001")
    assert applied.stderr.endswith("small: written into 1 slides\n")
    assert mc.open_study(own)["slide_001"]["small"].shape[2] == 2


def test_a_mask_is_named(own: Path) -> None:
    done = run("fit", own.parent / "recipe.toml", own, "--where", "tissue", "--slide", "slide_004")
    assert done.exit_code == 0, done.output
    study = mc.open_study(own)
    assert mc.Pipeline.load(study, name="small").where_ == "tissue"
    assert run("apply", own, "--name", "small", "--where", "tissue", "--slide", "slide_004").exit_code == 0
    stored = mc.open_study(own)["slide_004"]["small"]
    np.testing.assert_array_equal(stored.values.any(axis=2), study.mask("slide_004", "tissue"))


def test_what_cannot_be_is_said_before_anything_is_read(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = own.parent / "recipe.toml"
    assert run("fit", recipe, own).exit_code == 0
    monkeypatch.setattr("msicube.store.CubeArray.read", None)
    for arguments, message in (
        ((recipe, own), "has a pipeline 'small' already"),
        ((recipe, own, "--name", "mz"), "'mz' is the name of a variable"),
        ((recipe, own, "--name", "x y"), "is no name for a pipeline"),
        ((recipe, own, "--name", "b", "--slide", "slide_001"), "held out for testing"),
        ((recipe, own, "--name", "b", "--set", "pipeline.steps=3"), "expected a list"),
        (("colorectal", own), "did you mean 'colorectal-"),
    ):
        done = run("fit", *arguments)
        assert done.exit_code == 1
        assert message in str(done.exception)


def test_bars_of_finished_slides_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Reporter("fitting") as reporter:
        assert reporter._bars is not None
        for slide in range(40):
            reporter.update(f"slide_{slide}", 1, 2)
            reporter.update(f"slide_{slide}", 2, 2)
        assert len(reporter._bars.tasks) == FINISHED_BARS
