"""Peak memory of a conversion, measured on a slide ten times the budget, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agilent_files import master_bytes, random_cube, tile_bytes
from pyimzml.ImzMLWriter import ImzMLWriter

import msicube as mc
from msicube.bytesize import parse_bytes
from msicube.conversion.work import BASE_MEMORY, STRIP_COPIES, TILE_COPIES
from msicube.readers.resampled import STRIP_BYTES
from msicube.simulate import simulate_msi

#: What the tiles in flight may take; the process itself takes up to BASE_MEMORY besides.
BUDGET = parse_bytes("16 MiB")

CODE = """
import sys
from pathlib import Path
import msicube as mc
source, study, limit, *axis = sys.argv[1:]
axis = dict(option.split("=") for option in axis)
mc.convert(source, study, **{"memory_limit": int(limit), "shard_size": "2 MiB", "workers": 2} | axis)
mc.validate(mc.open_study(study), workers=2)
# Not getrusage: its high-water mark is inherited from the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(1024 * int(peak.split()[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("mode", ["continuous", "processed"])
def test_a_slide_of_ten_times_the_budget_stays_within_the_limit(tmp_path: Path, mode: str) -> None:
    channels, law = (2400, "") if mode == "continuous" else (5000, "ppm:150")
    slide = simulate_msi(
        tmp_path / "in",
        slides=1,
        shape=(190, 190),
        channels=channels,
        mode=mode,  # type: ignore[arg-type]
    ).slides[0]
    size = slide.n_bytes
    assert size > 10 * BUDGET
    assert_within(BASE_MEMORY + BUDGET, slide.path, tmp_path / "s.zarr", *([f"mz_axis={law}"] if law else []))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("option", ["crop=910:3000", "wavenumber_axis=910:3000:2.1"])
def test_a_mosaic_larger_than_the_limit_stays_within_it(tmp_path: Path, option: str) -> None:
    edge, n_points, grid = 64, 1200, 5
    tile = tile_bytes(random_cube((edge, edge, n_points)))
    (tmp_path / "one").write_bytes(tile)
    for row, column in np.ndindex(grid, grid):
        (tmp_path / f"Big_{column:04d}_{row:04d}.dmd").hardlink_to(tmp_path / "one")
    (tmp_path / "big.dmt").write_bytes(master_bytes(n_points))
    # Interpolation takes strips of its own, of two tiles at once.
    limit = BASE_MEMORY + BUDGET + (2 * STRIP_COPIES * STRIP_BYTES if "axis" in option else 0)
    assert len(tile) * grid**2 > max(10 * BUDGET, limit)
    assert_within(limit, tmp_path / "big.dmt", tmp_path / "s.zarr", option)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_peaks_in_every_channel_take_no_more_than_the_tile(tmp_path: Path) -> None:
    n_channels, shape, shard = 1000, (96, 128), parse_bytes("32 MiB")
    rng = np.random.default_rng(0)
    mz = np.arange(500, 500 + n_channels, dtype=np.float64)
    with ImzMLWriter(str(tmp_path / "full.imzML"), mode="processed", intensity_dtype=np.float32) as writer:
        for y, x in np.ndindex(shape):
            noise = rng.random(n_channels, np.float32)
            writer.addSpectrum(mz + 0.1 * noise, noise, (x + 1, y + 1, 1))
    limit = BASE_MEMORY + int(TILE_COPIES * shard)
    options = ("mz_axis=da:1", f"shard_size={shard}")
    assert_within(limit, tmp_path / "full.imzML", tmp_path / "s.zarr", *options)
    slide = mc.open_study(tmp_path / "s.zarr")["full"]
    assert slide["intensity"].dtype == np.float32
    assert bool((slide["intensity"] > 0).mean() > 0.99)


def assert_within(limit: int, source: Path, study: Path, *options: str) -> None:
    """Convert and validate in a process of its own, and look at its peak."""
    command = [sys.executable, "-c", CODE, str(source), str(study), str(limit), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < limit
