"""``msicube mask`` as it is typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import msicube as mc
from msicube.store import Study


def mask(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "msicube.cli", "mask", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_masks_from_the_command_line(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    shutil.copytree(study.path, path)
    done = mask(path, "bright", "--method", "tic", "--log", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    opened = mc.open_study(path)
    assert [row["slide"] for row in rows] == opened.slides
    for row in rows:
        held = opened.mask(row["slide"], "bright")
        assert (row["status"], row["held"]) == ("made", held.sum())
        assert row["fraction"] == pytest.approx(held.sum() / opened.acquired(row["slide"]).sum())
    assert "masking slide_001" in done.stderr

    done = mask(path, "odd", "--method", "outliers", "--components", 3, "--where", "bright", "--images")
    assert done.returncode == 0, done.stderr
    assert "slide_006" in done.stdout
    assert "odd_t2" in mc.open_study(path)["slide_006"]
    done = mask(
        path, "tidy", "--method", "coverage", "--of", "bright & ~odd", "--min-area", 4, "--slide", "slide_002"
    )
    assert done.returncode == 0, done.stderr
    assert mc.open_study(path).masks("slide_002") == ["acquired", "bright", "odd", "tidy"]
    assert mc.validate(mc.open_study(path)) == []
    info = subprocess.run(
        [sys.executable, "-m", "msicube.cli", "info", path], capture_output=True, text=True, check=True
    )
    assert "bright, odd, tidy" in info.stdout

    done = mask(path, "bright", "--method", "tic", "--threshold", 3)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: slide slide_001 has a mask 'bright' that was made in another way")
    assert mask(path, "bright", "--method", "tic", "--threshold", 3, "--overwrite").returncode == 0
    assert mask(path, "none", "--method", "dead", "--where", "bone").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "tic", "--band", "1500", "1700"],
            "--band does not belong to --method tic",
        ),
        (["--method", "outliers", "--alpha", "1.5"], "--alpha"),
        (["--method", "tic", "--threshold", "much"], "--threshold"),
        (["--method", "tic", "--where", "a and b"], "is no expression of masks"),
        (["--method", "magic"], "--method"),
        ([], "--method"),
    ],
)
def test_wrong_usage_of_mask_exits_with_2(study: Study, arguments: list[str], message: str) -> None:
    done = mask(study.path, "name", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
