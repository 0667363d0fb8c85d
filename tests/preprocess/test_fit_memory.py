"""Fitting and applying take memory that does not grow with the study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msicube.store import Location
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.tiling import plan_tiles

#: Two workers, each with a strip of 16 MiB, a tile's mask and features, blocks and statistics (measured: 37 to 49 MiB).
#: What is freed stays with glibc's arenas for a while: a freed strip raises its threshold for mapped memory to the size
#: of a strip, so that the next one comes from an arena. The bound holds with that and, at 45 MiB, without it.
BUDGET = 64 * 2**20

MEASURE = """
import sys
from pathlib import Path
import msicube as mc

def steps():
    return [mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.SelectChannels(50), mc.PCA(3)]

def kilobytes(field):
    # The high-water mark of getrusage would be that of the parent, which the child is forked from.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def main(path, small):
    def run(study):
        mc.Pipeline(steps()).fit(study, workers=2).save(study, name="paper")
        mc.apply(study, name="paper", workers=2)
    run(mc.open_study(small))
    before = kilobytes("VmRSS")
    run(mc.open_study(path))
    print(1024 * (kilobytes("VmHWM") - before))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def build(path: Path, shape: tuple[int, int, int], n_slides: int) -> int:
    """Write slides whose tiles are copies of one, and return the bytes of their intensities."""
    study = create_study(Location.of(path), modality="msi")
    plan = plan_tiles(shape, 4)
    ty, tx = plan.tile
    pattern = np.random.default_rng(0).poisson(2.0, (8, shape[2])).astype(np.float32)
    tile = np.resize(pattern, (ty * tx, shape[2])).reshape(ty, tx, -1)
    data: bytes | None = None
    for number in range(n_slides):
        name = f"slide_{number}"
        draft = SlideDraft.of(study.location, name, "msi")
        writer = draft.cube_writer(plan, np.dtype(np.float32), "zstd")
        for window in plan.tiles():
            if data is None or number > 1:
                writer.write(window, tile + number)
                data = writer.shard(window).get()
            assert data is not None
            writer.shard(window).put(data)
        draft.write("acquired", np.ones(shape[:2], bool))
        draft.write("mz", np.arange(shape[2]) + 1.0)
        draft.write("y", np.arange(shape[0]))
        draft.write("x", np.arange(shape[1]))
        draft.commit({"sample": {"label": "ab"[number % 2]}})
    return n_slides * int(np.prod(shape)) * 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_study_of_ten_budgets_is_fitted_and_applied_within_one(tmp_path: Path) -> None:
    size = build(tmp_path / "large.zarr", (256, 704, 1024), 2)
    build(tmp_path / "small.zarr", (32, 32, 1024), 2)
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    paths = [str(tmp_path / name) for name in ("large.zarr", "small.zarr")]
    found = subprocess.run([sys.executable, str(script), *paths], capture_output=True, text=True, check=True)
    assert size > 10 * BUDGET
    assert int(found.stdout) < BUDGET
