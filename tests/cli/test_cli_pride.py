"""The commands for projects: exit codes, streams, tokens, and that the same command again ends the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_server import ACCESSION, Answer, Archive, serve

from msicube.cli import main
from msicube.simulate import SimulationReport, simulate_msi


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    return simulate_msi(tmp_path_factory.mktemp("pride") / "in", slides=3, shape=(8, 8), channels=20)


@pytest.fixture
def archive(slides: SimulationReport) -> Iterator[Archive]:
    with serve(Archive.of(slides.folder)) as found:
        yield found


def pride(archive: Archive, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "msicube.cli", "pride", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **archive.environment(), **variables},
    )


def test_list_fetch_convert_verify(archive: Archive, tmp_path: Path) -> None:
    done = pride(archive, "list", ACCESSION)
    assert done.returncode == 0, done.stderr
    assert "3 imzML pairs" in done.stderr
    assert "CC0" in done.stderr
    assert "imzml" in done.stdout
    document = json.loads(pride(archive, "list", ACCESSION, "--json").stdout)
    assert [pair["slide"] for pair in document["pairs"]] == ["slide_001", "slide_002", "slide_003"]

    done = pride(archive, "fetch", ACCESSION, tmp_path / "in", "--match", "*_002", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in json.loads(done.stdout)["rows"]] == ["downloaded"]
    assert sorted(p.name for p in (tmp_path / "in").glob("*.*")) == [
        ".receipts",
        "slide_002.ibd",
        "slide_002.imzML",
    ]

    whole = archive.files.pop("slide_003.ibd")
    archive.unlisted = set()
    archive.checksums["slide_001.ibd"] = ("slide_001.ibd", "0" * 32, len(archive.files["slide_001.ibd"]))
    study = tmp_path / "s.zarr"
    rule = "(?P<label>slide)_(?P<patient>00[12])"
    done = pride(archive, "convert", ACCESSION, study, "--folder", tmp_path / "in", "--label-from", rule)
    assert done.returncode == 1
    assert "Error: slide_001: slide_001.ibd: its MD5 is" in done.stderr
    assert "Note: slide_003.imzML has no .ibd beside it" in done.stderr
    assert "1 of 2 are there, 1 are missing" in done.stderr
    archive.files["slide_003.ibd"] = whole
    archive.checksums.clear()
    done = pride(
        archive, "convert", ACCESSION, study, "--folder", tmp_path / "in", "--label-from", rule, "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["status"] for row in report["rows"]] == ["converted", "present", "converted"]
    assert report["unlabelled"] == ["slide_003"]
    assert "3 of 3: slide_00" in done.stderr

    done = pride(archive, "verify", study)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 files are what the slides were made of" in done.stderr
    archive.files["slide_001.ibd"] += b"!"
    done = pride(archive, "verify", study, "--json")
    assert done.returncode == 1
    assert [f["state"] for f in json.loads(done.stdout)["files"]].count("changed") == 1


def test_a_token_from_a_file_or_a_variable_is_never_printed(archive: Archive, tmp_path: Path) -> None:
    archive.fault = lambda path, number, headers, answer: (
        answer if headers.get("authorization") == "Bearer s3cret" else Answer(401)
    )
    (tmp_path / "token").write_text("s3cret\n")
    for arguments, variables in (
        (("--token-file", tmp_path / "token"), {}),
        ((), {"MSICUBE_PRIDE_TOKEN": "s3cret"}),
    ):
        done = pride(archive, "list", ACCESSION, *arguments, **variables)
        assert done.returncode == 0, done.stderr
        assert "s3cret" not in done.stdout + done.stderr
    archive.fault = lambda path, number, headers, answer: Answer(403)
    done = subprocess.run(
        [sys.executable, "-m", "msicube.cli", "--debug", "pride", "list", ACCESSION],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **archive.environment(), "MSICUBE_PRIDE_TOKEN": "s3cret"},
    )
    assert "Traceback" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("convert", ACCESSION, "x.zarr", "--mz-axis", "furlong:1"),
        ("convert", ACCESSION, "x.zarr", "--disk-limit", "much"),
        ("fetch", ACCESSION, "x", "--connections", "0"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pride", *arguments])
    assert end.value.code == 2


def test_what_is_no_accession_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pride", "list", "MTBLS1"])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: 'MTBLS1' is no accession of PRIDE")
    assert error.count("\n") == 1
