"""Where work runs: the same call on threads, on processes, and on a real Dask cluster."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask.delayed import delayed

import msicube as mc
from msicube.errors import CorruptSource, UsageError
from msicube.scheduling import compute, run_tasks
from msicube.simulate import SimulationReport


def double(n: int) -> int:
    if n == 13:
        raise CorruptSource("thirteen is damaged")
    return 2 * n


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own, on loopback."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    # The workers import this module for its functions, as a user's workers import the user's.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    common = ["--no-dashboard", "--scheduler-file", str(file), "--host", "127.0.0.1"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", *common], **quiet
        )  # type: ignore[call-overload]
    ]
    deadline = time.monotonic() + 60
    while not file.exists():
        assert processes[0].poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes += [
        subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *common],
            **quiet,
        )
        for _ in range(2)
    ]
    yield json.loads(file.read_text())["address"]
    for process in reversed(processes):
        process.terminate()
        process.wait()


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_every_item_gives_one_result(scheduler: str) -> None:
    found: list[int] = []
    run_tasks(double, range(12), scheduler=scheduler, workers=2, on_result=found.append)
    assert sorted(found) == [2 * n for n in range(12)]
    assert compute([delayed(double)(n) for n in range(5)], scheduler=scheduler) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_an_error_is_raised_as_it_was(scheduler: str) -> None:
    with pytest.raises(CorruptSource, match="thirteen"):
        run_tasks(double, [1, 13, 2], scheduler=scheduler, on_result=lambda _: None)


@pytest.mark.parametrize(
    ("scheduler", "message"), [("fibres", "unknown scheduler"), ("tcp://127.0.0.1:1", "no Dask")]
)
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there_is_said(
    scheduler: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msicube.scheduling.CONNECT_TIMEOUT", "1s")
    with pytest.raises(UsageError, match=message):
        run_tasks(double, [1], scheduler=scheduler, on_result=lambda _: None)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / "zarr.json"
    }


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_does_the_whole_job_with_the_same_result(
    address: str, simulation: SimulationReport, tmp_path: Path
) -> None:
    found: list[int] = []
    run_tasks(double, range(9), scheduler=address, on_result=found.append)
    assert sorted(found) == [2 * n for n in range(9)]
    with pytest.raises(CorruptSource, match="thirteen"):
        run_tasks(double, [1, 13, 2], scheduler=address, on_result=lambda _: None)

    fingerprints = []
    for name, scheduler in (("local", "synchronous"), ("cluster", address)):
        path = tmp_path / f"{name}.zarr"
        mc.convert(
            simulation.folder, path, samples=simulation.samples, shard_size="256 KiB", scheduler=scheduler
        )
        study = mc.open_study(path)
        steps = [mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.SelectChannels(k=20), mc.PCA(3)]
        pipe = mc.Pipeline(steps).fit(study, scheduler=scheduler)
        pipe.save(study, name="paper")
        fingerprints.append(pipe.fingerprint())
        mc.apply(study, name="paper", scheduler=scheduler)
        assert mc.validate(study, sources=[simulation.folder], scheduler=scheduler) == []
    assert fingerprints[0] == fingerprints[1]
    local, cluster = hashes(tmp_path / "local.zarr"), hashes(tmp_path / "cluster.zarr")
    pipelines = {key for key in local if key.startswith("_pipelines")}  # their attributes hold the time
    assert {k: v for k, v in local.items() if k not in pipelines} == {
        k: v for k, v in cluster.items() if k not in pipelines
    }
