"""``msicube pool`` and ``msicube predict``."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.store import Study


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_pool_from_the_command_line(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "pool.zarr"
    said = run("pool", study.path, out, "--where", "acquired", "--limit", 500, "--memory", "16 MiB")
    assert "500 spectra of 160 channels from 6 slides" in said
    assert len(list(mc.SpectrumStream(mc.open_study(out), batch_size=50, memory="8 MiB"))) == 10


def test_a_prediction_from_the_command_line(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    shutil.copytree(study.path, path)
    changes = ("train.epochs=1", "train.batch_size=64", "spectra.limit=64", "train.threads=1")
    options = [part for change in changes for part in ("--set", change)]
    run("train", "colorectal-cnn1d", path, "--out", tmp_path / "run", *options)
    assert "written into 1 slides" in run("predict", tmp_path / "run", path, "--slide", "slide_002")
    assert "1 had it already" in run("predict", tmp_path / "run", path, "--slide", "slide_002")
    assert mc.open_study(path)["slide_002"]["prediction"].shape[2] == 2
