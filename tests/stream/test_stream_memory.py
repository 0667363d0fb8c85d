"""The process stays within the budget, on a study ten times as large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import msicube as mc
from msicube.bytesize import parse_bytes
from msicube.simulate import simulate_msi

BUDGET = "8 MiB"
#: What a process takes beyond the budget: stacks of threads, the allocator's free lists, code loaded on first use.
CONSTANT = 16 * 2**20

PROBE = """
import json, sys, psutil, threading, time
import msicube as mc

kind, path, budget = sys.argv[1:]
study, process = mc.open_study(path), psutil.Process()
next(iter(mc.SpectrumStream(study, slides=study.slides[:1], memory="1 GiB", limit=64, batch_size=64)))
if kind == "pool":
    mc.pool(study, path + ".warm", limit=64, memory=budget)
before = process.memory_info().rss
if kind == "pool":
    most, done = 0, False
    def watch():
        global most
        while not done:
            most = max(most, process.memory_info().rss)
            time.sleep(0.002)
    thread = threading.Thread(target=watch)
    thread.start()
    pool = mc.pool(study, path + ".pool", memory=budget)
    done = True
    thread.join()
    n = int(pool.acquired("pool").sum())
    print(json.dumps({"growth": most - before, "taken": 2 * n, "samples": n}))
    sys.exit()
if kind == "spectra":
    stream = mc.SpectrumStream(study, memory=budget, batch_size=64)
else:
    stream = mc.PatchStream(study, memory=budget, size=8, stride=8, batch_size=8)
most = taken = 0
for epoch in range(2):
    stream.set_epoch(epoch)
    for step, batch in enumerate(stream):
        taken += int(batch["weight"].sum())
        if step % 8 == 0:
            most = max(most, process.memory_info().rss)
print(json.dumps({"growth": most - before, "taken": taken, "samples": stream.n_samples}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of more than ten times the budget."""
    folder = tmp_path_factory.mktemp("large")
    simulation = simulate_msi(folder / "slides", slides=3, seed=3, shape=(108, 108), channels=1024)
    mc.convert(
        simulation.folder,
        folder / "study.zarr",
        samples=simulation.samples,
        shard_size="256 KiB",
        verify=False,
    )
    study = mc.open_study(folder / "study.zarr")
    sizes = [study.acquired(name).sum() * 1024 * 4 for name in study.slides]
    assert sum(sizes) > 10 * parse_bytes(BUDGET)
    return folder / "study.zarr"


@pytest.mark.parametrize("kind", ["spectra", "patches", "pool"])
def test_memory_stays_within_the_budget(large: Path, kind: str) -> None:
    arguments = [sys.executable, "-c", PROBE, kind, str(large), BUDGET]
    result = json.loads(
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300).stdout
    )
    assert result["taken"] == 2 * result["samples"]
    assert result["growth"] < parse_bytes(BUDGET) + CONSTANT, result
