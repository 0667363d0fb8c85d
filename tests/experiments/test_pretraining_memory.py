"""A pretraining stays within its stream's budget, on training slides more than five times as large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msicube as mc
from msicube.bytesize import parse_bytes
from msicube.simulate import simulate_msi

BUDGET = "10 MiB"
#: What a process takes beyond the budget: a strip of a tile for each thread of the fit, stacks, the allocator's lists.
CONSTANT = 16 * 2**20

PROBE = """
import json, sys, threading, time, psutil
import msicube as mc

path, out, budget = sys.argv[1:]
process, most, done = psutil.Process(), 0, False

def watch():
    global most
    while not done:
        most = max(most, process.memory_info().rss)
        time.sleep(0.002)

def run(where, limit):
    return mc.pretrain("colorectal-cnn1d", path, out + where, figures=False, overrides={
        "train.memory": budget, "train.batch_size": 64, "train.threads": 1, "pretrain.epochs": 1,
        "pretrain.limit": limit, "pretrain.test_limit": limit, "model.width": [4], "model.hidden": 4,
        "pipeline.steps": [{"step": "Log1p"}, {"step": "Standardize"}],
    })

run("warm", 640)
before = process.memory_info().rss
thread = threading.Thread(target=watch)
thread.start()
made = run("all", 0)
done = True
thread.join()
print(json.dumps({"growth": most - before, "n_values": made.summary["n_values"]}))
"""


def test_memory_stays_within_the_budget(tmp_path: Path) -> None:
    made = simulate_msi(tmp_path / "slides", slides=4, seed=3, shape=(108, 108), channels=1024)
    study = tmp_path / "study.zarr"
    mc.convert(made.folder, study, samples=made.samples, shard_size="256 KiB", verify=False)
    opened = mc.open_study(study)
    training = opened.samples.index[opened.samples["split"] == "train"]
    n_pixels = sum(int(opened.acquired(slide).sum()) for slide in training)
    assert n_pixels * 1024 * 4 > 5 * parse_bytes(BUDGET)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(study), str(tmp_path / "run"), BUDGET],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["n_values"] > 1_000_000
    assert result["growth"] < parse_bytes(BUDGET) + CONSTANT, result
