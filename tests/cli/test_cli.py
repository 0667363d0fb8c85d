"""The command line: exit codes, what goes to which stream, and JSON where output is data."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Study


def msicube(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "msicube.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_simulate_ftir(tmp_path: Path) -> None:
    options = ["--slides", 3, "--shape", 16, 24, "--wavenumbers", 1000, 1100]
    done = msicube("simulate", "ftir", tmp_path / "in", *options, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [slide["label"] for slide in report["slides"]] == ["luminal A", "adjacent", "luminal B"]
    assert report["n_channels"] == 52
    assert len(list((tmp_path / "in/slide_002").glob("*.dmd"))) == 6
    again = msicube("simulate", "ftir", tmp_path / "in", *options)
    assert (again.returncode, again.stdout) == (1, "")
    assert "allow overwriting" in again.stderr
    again = msicube("simulate", "ftir", tmp_path / "in", *options, "--overwrite", "--tile-size", 4)
    assert again.returncode == 0
    assert "3 slides, 1152 spectra of 52 channels" in again.stderr
    assert len(list((tmp_path / "in/slide_002").glob("*.dmd"))) == 24


def test_simulate_convert_info_validate(tmp_path: Path) -> None:
    done = msicube(
        "simulate", "msi", tmp_path / "in", "--slides", 2, "--shape", 12, 14, "--channels", 40, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert [slide["name"] for slide in json.loads(done.stdout)["slides"]] == ["slide_001", "slide_002"]

    done = msicube(
        "convert", tmp_path / "in", tmp_path / "s.zarr", "--samples", tmp_path / "in/samples.csv", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in json.loads(done.stdout)["slides"]} == {"converted"}
    assert "converting slide_001" in done.stderr

    done = msicube("info", tmp_path / "s.zarr", "--json")
    assert json.loads(done.stdout)["slides"][0]["channels"] == 40
    assert done.stderr == ""
    done = msicube("info", tmp_path / "in/slide_001.imzML", "--json")
    assert json.loads(done.stdout)["source"]["mode"] == "continuous"

    done = msicube("validate", tmp_path / "s.zarr", "--source", *sorted((tmp_path / "in").glob("*.imzML")))
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 slides are valid and equal to their sources" in done.stderr


def test_tables_are_for_people(study: Study) -> None:
    done = msicube("info", study.path)
    assert done.returncode == 0
    assert "slide_003" in done.stdout
    assert "tumour" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr, "colours where there is no terminal"


def test_a_failed_job_exits_with_1_and_one_line(tmp_path: Path, simulation: SimulationReport) -> None:
    done = msicube("info", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" in msicube("--debug", "info", tmp_path).stderr

    (tmp_path / "bad.imzML").write_text("<mzML/>")
    done = msicube("convert", simulation.slides[0].path, tmp_path / "bad.imzML", tmp_path / "s.zarr")
    assert done.returncode == 1
    assert "Error: bad: " in done.stderr
    assert "converted" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["nonsense"],
        ["convert", "a", "b", "--mz-axis", "furlong:1"],
        ["convert", "a", "b", "--memory-limit", "much"],
        ["convert", "a", "b", "--codec", "rar"],
        ["simulate", "msi", "x", "--slides", "0"],
        ["simulate", "ftir", "x", "--dead-pixels", "2"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    done = msicube(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_findings_exit_with_1(study: Study, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(study.path, tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / study.slides[0] / "intensity" / "c" / "0" / "0" / "0").unlink()
    done = msicube("validate", tmp_path / "s.zarr", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["slide"] == study.slides[0]


def test_help_lists_the_commands() -> None:
    done = msicube("--help")
    assert done.returncode == 0
    for name in (
        "simulate",
        "convert",
        "info",
        "validate",
        "fit",
        "apply",
        "mask",
        "train",
        "report",
        "rebin",
        "export",
    ):
        assert name in done.stdout


def test_a_disk_that_is_full_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source = simulate_msi(tmp_path / "in", slides=1, shape=(64, 64), channels=400).slides[0].path
    command = [sys.executable, "-m", "msicube.cli", "convert", str(source), str(tmp_path / "s.zarr")]
    command += ["--shard-size", "1 MiB"]

    def nearly_full() -> None:
        # No file may grow past this: the kernel then refuses to write as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=nearly_full, check=False)
    assert done.returncode == 1
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.zarr" / source.stem).exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert msicube("validate", tmp_path / "s.zarr", "--source", source).returncode == 0
    assert not (tmp_path / "s.zarr.partial").exists()


#: A disk of 2 MB, a conversion, more room, the same conversion; in a namespace of its own, so nothing stays mounted.
SMALL_DISK = """
mkdir disk && mount -t tmpfs -o size=2m tmpfs disk || exit 99
$CONVERT in disk/s.zarr --shard-size "256 KiB"
echo first $?
mount -o remount,size=200m disk
$CONVERT in disk/s.zarr --shard-size "256 KiB"
echo second $?
cp -r disk/s.zarr copy.zarr
"""


def test_a_disk_without_space_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    simulate_msi(tmp_path / "in", slides=2, shape=(64, 64), channels=400)
    environment = {**os.environ, "CONVERT": f"{sys.executable} -m msicube.cli convert"}
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody mount a small disk")
    assert "first 1" in done.stdout
    assert "second 0" in done.stdout
    assert "No space left on device: make room and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    done = msicube("validate", tmp_path / "copy.zarr", "--source", tmp_path / "in")
    assert done.returncode == 0, done.stdout
