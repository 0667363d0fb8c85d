"""The whole job on a real Dask cluster: the same bytes as in one process, with little memory, and when a worker dies.

Scheduler and workers are processes of their own on loopback, started by Dask's own programs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import CorruptSource
from msicube.scheduling import run_tasks
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Location, Study
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.tiling import plan_tiles

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]

#: A worker needs about 200 MiB before it has done anything. One that is over 80 % of its limit takes no more tasks.
MEMORY_LIMIT = "420 MiB"
WAIT = 90

RECIPE = """
[pipeline]
name = "paper"
steps = [
    { step = "TICNormalize" },
    { step = "Log1p" },
    { step = "Standardize" },
    { step = "SelectChannels", k = 20 },
    { step = "PCA", n_components = 3 },
]
"""


def double(n: int) -> int:
    if n == 13:
        raise CorruptSource("thirteen is damaged")
    return 2 * n


class Cluster:
    """A scheduler and two workers.

    Attributes
    ----------
    address
        Of the scheduler.
    workers
        Those that are meant to be alive.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        arguments = ("--port", "0", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
        self._scheduler = self._start("dask_scheduler", *arguments)
        deadline = time.monotonic() + WAIT
        while not self._file.exists():
            assert self._scheduler.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address: str = json.loads(self._file.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def complete(self) -> None:
        """Start workers until there are two, and wait for them."""
        from distributed import Client

        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            limits = ("--nthreads", "1", "--no-nanny", "--memory-limit", MEMORY_LIMIT, "--no-dashboard")
            self.workers.append(self._start("dask_worker", *limits))
        with Client(self.address) as client:
            client.wait_for_workers(2, timeout=WAIT)

    def kill_one(self, *_: object) -> None:
        """Kill a worker as the kernel would; only the first call does."""
        if len(self.workers) == 2:
            victim = self.workers.pop(0)
            victim.send_signal(signal.SIGKILL)
            victim.wait()

    def close(self) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # The workers import this module for its functions, as a user's workers import the user's.
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        common = ("--scheduler-file", str(self._file), "--host", "127.0.0.1")
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *arguments, *common],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """Two workers, whatever became of them in the test before."""
    _cluster.complete()
    return _cluster


def steps() -> list[Any]:
    return [mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.SelectChannels(k=20), mc.PCA(3)]


def hashes(folder: Path) -> dict[str, str]:
    """Return a hash of every object but the attributes that hold the time."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / "zarr.json" and path.parent != folder / "_pipelines" / "paper"
    }


def run(*arguments: object) -> None:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


def test_the_commands_give_the_same_bytes(
    cluster: Cluster, simulation: SimulationReport, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    for name, scheduler in (("here", "synchronous"), ("there", cluster.address)):
        study, where = tmp_path / f"{name}.zarr", ("--scheduler", scheduler)
        samples = ("--samples", simulation.samples, "--shard-size", "256 KiB")
        run("convert", simulation.folder, study, *samples, *where)
        run("fit", tmp_path / "recipe.toml", study, *where)
        run("apply", study, "--name", "paper", *where)
        run("mask", study, "bright", "--method", "tic", "--per-slide", *where)
        run("mask", study, "odd", "--method", "outliers", "--where", "bright", "--images", *where)
        run("validate", study, "--source", simulation.folder, *where)
    assert hashes(tmp_path / "here.zarr") == hashes(tmp_path / "there.zarr")
    found = [mc.Pipeline.load(tmp_path / f"{name}.zarr", name="paper") for name in ("here", "there")]
    assert found[0].fingerprint() == found[1].fingerprint()


def test_results_and_errors_come_back(cluster: Cluster) -> None:
    found: list[int] = []
    run_tasks(double, range(9), scheduler=cluster.address, on_result=found.append)
    assert sorted(found) == [2 * n for n in range(9)]
    with pytest.raises(CorruptSource, match="thirteen"):
        run_tasks(double, [1, 13, 2], scheduler=cluster.address, on_result=lambda _: None)


def after(count: int, action: Callable[[], None]) -> Callable[..., None]:
    """Return a progress callback that acts when it was called so often."""
    calls = iter(range(10**6))
    return lambda *_: action() if next(calls) == count else None


def test_a_conversion_survives_its_worker(cluster: Cluster, tmp_path: Path) -> None:
    source = simulate_msi(tmp_path / "in", slides=1, shape=(64, 64), channels=300).slides[0].path
    mc.convert(source, tmp_path / "here.zarr", shard_size="64 KiB", scheduler="synchronous")
    mc.convert(
        source,
        tmp_path / "there.zarr",
        shard_size="64 KiB",
        scheduler=cluster.address,
        progress=after(3, cluster.kill_one),
    )
    assert len(cluster.workers) == 1, "no worker was lost"
    assert hashes(tmp_path / "here.zarr") == hashes(tmp_path / "there.zarr")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two slides of twelve tiles of 16 MiB: more than what the limit leaves to the workers."""
    study = create_study(Location.of(tmp_path_factory.mktemp("large") / "study.zarr"), modality="msi")
    shape = (192, 256, 1024)
    plan = plan_tiles(shape, 4, shard_bytes=16 * 2**20)
    (ty, tx), n_tiles = plan.tile, len(plan.tiles())
    assert n_tiles >= 12
    rng = np.random.default_rng(0)
    for number in range(2):
        draft = SlideDraft.of(study.location, f"slide_{number}", "msi")
        writer = draft.cube_writer(plan, np.dtype(np.float32), "zstd")
        pattern = rng.poisson(2.0 + number, (64, shape[2])).astype(np.float32)
        writer.write(plan.tiles()[0], np.resize(pattern, (ty, tx, shape[2])))
        data = writer.shard(plan.tiles()[0]).get()
        assert data is not None
        for window in plan.tiles()[1:]:
            writer.shard(window).put(data)
        draft.write("acquired", np.ones(shape[:2], bool))
        draft.write("mz", np.arange(shape[2]) + 1.0)
        draft.write("y", np.arange(shape[0]))
        draft.write("x", np.arange(shape[1]))
        draft.commit({"sample": {"label": "ab"[number]}})
    mc.Pipeline(steps()).fit(mc.open_study(study.path), workers=2).save(study, name="paper")
    return mc.open_study(study.path)


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_a_fit_in_little_memory_survives_its_worker(cluster: Cluster, large: Study, killed: bool) -> None:
    pipeline = mc.Pipeline(steps())
    progress = after(5, cluster.kill_one) if killed else None
    pipeline.fit(large, scheduler=cluster.address, progress=progress)
    assert len(cluster.workers) == 2 - killed, "no worker was lost"
    assert all(worker.poll() is None for worker in cluster.workers)
    assert pipeline.fingerprint() == mc.Pipeline.load(large, name="paper").fingerprint()


def test_a_fit_that_lost_a_worker_keeps_the_same_statistics(
    cluster: Cluster, study: Study, tmp_path: Path
) -> None:
    found = []
    for name in ("here", "there"):
        shutil.copytree(study.path, tmp_path / name)
        there = name == "there"
        mc.Pipeline([mc.Standardize(), mc.SelectChannels(9)]).fit(
            mc.open_study(tmp_path / name),
            cache=True,
            scheduler=cluster.address if there else "synchronous",
            progress=after(5, cluster.kill_one) if there else None,
        )
        kept = hashes(tmp_path / name / "_statistics")  # the worker may have died in the middle of a write
        found.append({path: digest for path, digest in kept.items() if not path.endswith(".tmp")})
    assert len(cluster.workers) == 1, "no worker was lost"
    assert found[0] == found[1]
    assert len(found[0]) == 4 + 1  # and the metadata of the entries


def test_features_are_applied_though_a_worker_dies(cluster: Cluster, large: Study) -> None:
    written = {}
    for scheduler in ("threads", cluster.address):
        progress = None if scheduler == "threads" else after(5, cluster.kill_one)
        mc.apply(large, name="paper", scheduler=scheduler, progress=progress)
        for slide in large.slides:
            variable = Path(large.path, slide, "paper")
            written[scheduler, slide] = hashes(variable)
            shutil.rmtree(variable)
    assert len(cluster.workers) == 1, "no worker was lost"
    for slide in large.slides:
        assert written["threads", slide] == written[cluster.address, slide]
        assert len(written["threads", slide]) == 12  # the shards


@pytest.mark.parametrize("per_slide", [False, True], ids=["together", "per slide"])
def test_masks_are_made_though_a_worker_dies(
    cluster: Cluster, study: Study, tmp_path: Path, per_slide: bool
) -> None:
    found = []
    for name in ("here", "there"):
        shutil.copytree(study.path, tmp_path / name)
        there = name == "there"
        made = mc.make_mask(
            tmp_path / name,
            mc.OutlierMask(n_components=3),
            name="odd",
            per_slide=per_slide,
            images=True,
            scheduler=cluster.address if there else "synchronous",
            progress=after(5, cluster.kill_one) if there else None,
        )
        assert {one.status for one in made} == {"made"}
        found.append(hashes(tmp_path / name))
    assert len(cluster.workers) == 1, "no worker was lost"
    assert found[0] == found[1]


def test_a_mask_in_little_memory_survives_its_worker(cluster: Cluster, large: Study) -> None:
    """It dies while pixels are decided on; those of the test before die in the fit."""
    held = {}
    for name, scheduler in (("here", "threads"), ("there", cluster.address)):
        progress = None if name == "here" else after(40, cluster.kill_one)
        mask = mc.TICMask(log=True)
        made = mc.make_mask(large, mask, name=name, scheduler=scheduler, progress=progress)
        held[name] = [one.held for one in made]
    assert len(cluster.workers) == 1, "no worker was lost"
    assert held["here"] == held["there"]
    for slide in large.slides:
        np.testing.assert_array_equal(large.mask(slide, "here"), large.mask(slide, "there"))
