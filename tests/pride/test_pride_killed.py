"""Killed at random moments and started again until it is done: the result is that of a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from archive_server import ACCESSION, Answer, Archive, ask, serve
from test_convert_project import hashes

import msicube as mc
from msicube.pride import convert_project
from msicube.simulate import simulate_msi

SLIDES = {"": 60, "stream": 24}

#: One process that starts the command again and again would be quicker and prove less: each is a new one.
CODE = """
import sys
from msicube.pride import Archive, convert_project
from msicube.remote import Patience
api, files, study, stream = sys.argv[1:]
print("ready", flush=True)
report = convert_project(
    "PXD019653", study, archive=Archive.of(api=api, files=files, patience=Patience(pause=0.01)),
    stream=bool(stream), disk_limit="300 KiB" if stream else None,
    on_row=lambda row, done, total: print(row.slide, flush=True),
)
sys.exit(1 if report.failed else 0)
"""


@pytest.mark.parametrize("stream", ["", "stream"])
def test_the_result_does_not_depend_on_when_it_was_killed(tmp_path: Path, stream: str) -> None:
    rng = random.Random(len(stream))
    source = simulate_msi(tmp_path / "in", slides=SLIDES[stream], shape=(8, 8), channels=16, seed=11)

    def slow(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.delay = 0.003
        return answer

    with serve(Archive.of(source.folder)) as archive:
        archive.fault = slow
        command = [sys.executable, "-c", CODE, archive.api, archive.url, str(tmp_path / "a.zarr"), stream]
        kills = 0
        while True:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if kills < 3:
                # In the listing, after a number of slides, or somewhere in between.
                for _ in range(rng.choice([0, 0, 3, 8])):
                    process.stdout.readline()
                try:
                    process.wait(rng.uniform(0.0, 0.3))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            process.stdout.read()
            process.stdout.close()
            if process.wait() == 0:
                break
            study = tmp_path / "a.zarr"
            if kills == 2 and (study / "zarr.json").exists():
                assert mc.validate(mc.open_study(study)) == [], "whatever is visible is whole"
        assert kills >= 2
        archive.fault = None
        convert_project(ACCESSION, tmp_path / "b.zarr", archive=ask(archive))
    assert hashes(tmp_path / "a.zarr") == hashes(tmp_path / "b.zarr")
    left = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("a.zarr"))
    assert left == (["a.zarr"] if stream else ["a.zarr", "a.zarr.downloads"])
    if not stream:
        folder = tmp_path / "a.zarr.downloads"
        assert {p.name for p in folder.iterdir() if p.is_file()} == {
            p.name for p in source.folder.glob("slide_*")
        }
