"""Making masks takes memory that does not grow with the study."""

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

#: Two workers, each with a strip of 16 MiB, blocks of it in float64 and a sample; the masks of a slide; and what the
#: allocator keeps for its threads.
BUDGET = 104 * 2**20

MEASURE = """
import sys
from pathlib import Path
import msicube as mc

def kilobytes(field):
    # The high-water mark of getrusage would be that of the parent, which the child is forked from.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def run(study, what):
    if what == "fit":
        mc.TissueMask(band=None, max_iter=1).fit(study, workers=2)
    else:
        # Two slides at a time, each fitted on by itself.
        mc.make_mask(study, mc.TICMask(), name="tissue", per_slide=True, workers=2)

def main(path, small, what):
    run(mc.open_study(small), what)
    before = kilobytes("VmRSS")
    run(mc.open_study(path), what)
    print(1024 * (kilobytes("VmHWM") - before))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def build(path: Path, edge: int, n_channels: int, n_slides: int) -> int:
    """Write slides whose tiles are copies of one, and return the bytes of their intensities."""
    study = create_study(Location.of(path), modality="msi")
    shape = (edge, edge, n_channels)
    plan = plan_tiles(shape, 4)
    rng = np.random.default_rng(0)
    # Drawn anew for each pixel, but from few distinct spectra, so that it is written quickly.
    spectra = rng.gamma(2.0, 0.2, (999, n_channels)) + 2.0 * (rng.random((999, 1)) < 0.4)
    tile = spectra[rng.integers(999, size=plan.tile)].astype(np.float32)
    data: bytes | None = None
    for number in range(n_slides):
        draft = SlideDraft.of(study.location, f"slide_{number}", "msi")
        writer = draft.cube_writer(plan, np.dtype(np.float32), "zstd")
        for window in plan.tiles():
            if data is None:
                writer.write(window, tile)
                data = writer.shard(window).get()
            assert data is not None
            writer.shard(window).put(data)
        draft.write("acquired", np.ones(shape[:2], bool))
        draft.write("mz", np.arange(n_channels) + 1.0)
        draft.write("y", np.arange(edge))
        draft.write("x", np.arange(edge))
        draft.commit({"sample": {}})
    return n_slides * edge * edge * n_channels * 4


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A study of more than ten budgets, and a small one to warm up with."""
    folder = tmp_path_factory.mktemp("masks")
    assert build(folder / "large.zarr", 416, 288, 6) > 10 * BUDGET
    build(folder / "small.zarr", 64, 288, 2)
    (folder / "measure.py").write_text(MEASURE)
    return [str(folder / name) for name in ("measure.py", "large.zarr", "small.zarr")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("what", ["fit", "make"])
def test_a_study_of_ten_budgets_is_clustered_and_masked_within_one(studies: list[str], what: str) -> None:
    found = subprocess.run([sys.executable, *studies, what], capture_output=True, text=True, check=True)
    assert int(found.stdout) < BUDGET, f"{int(found.stdout) / 2**20:.0f} MiB"
