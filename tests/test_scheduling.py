"""Where work runs: the same call on threads, on processes, and on a real Dask cluster."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dask.delayed import delayed

import msicube as mc
from msicube.errors import CorruptSource, UsageError
from msicube.scheduling import compute, run_tasks
from msicube.simulate import SimulationReport, simulate_msi


def double(n: int) -> int:
    if n == 13:
        raise CorruptSource("thirteen is damaged")
    return 2 * n


@dataclass(frozen=True)
class Cluster:
    """A real scheduler and its workers, each a process of its own, on loopback."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    file = tmp_path / "scheduler.json"
    # The workers import this module for its functions, as a user's workers import the user's.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    common = ["--no-dashboard", "--scheduler-file", str(file), "--host", "127.0.0.1"]

    def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *arguments, *common],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    scheduler = start("dask_scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    deadline = time.monotonic() + 60
    while not file.exists():
        assert scheduler.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [start("dask_worker", "--nthreads", "1", "--no-nanny") for _ in range(2)]
    yield Cluster(json.loads(file.read_text())["address"], workers)
    for process in (*workers, scheduler):
        process.kill()
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
    cluster: Cluster, simulation: SimulationReport, tmp_path: Path
) -> None:
    address = cluster.address
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


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    source = simulate_msi(tmp_path / "in", slides=1, shape=(64, 64), channels=300).slides[0].path

    def kill_one(_: str, done: int, total: int) -> None:
        if done >= 3 and cluster.workers[0].poll() is None:
            cluster.workers[0].kill()
            cluster.workers[0].wait()

    mc.convert(source, tmp_path / "local.zarr", shard_size="64 KiB", scheduler="synchronous")
    mc.convert(
        source, tmp_path / "killed.zarr", shard_size="64 KiB", scheduler=cluster.address, progress=kill_one
    )
    assert cluster.workers[0].poll() is not None, "no worker was lost"
    assert hashes(tmp_path / "local.zarr") == hashes(tmp_path / "killed.zarr")
