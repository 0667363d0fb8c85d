"""Peak memory of a conversion, measured on a slide ten times the budget, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from msicube.bytesize import parse_bytes
from msicube.conversion.work import BASE_MEMORY
from msicube.simulate import simulate_msi

#: What the tiles in flight may take; the process itself takes up to BASE_MEMORY besides.
BUDGET = parse_bytes("16 MiB")

CODE = """
import sys
from pathlib import Path
import msicube as mc
source, study, limit, law = sys.argv[1:]
mc.convert(source, study, memory_limit=int(limit), shard_size="2 MiB", workers=2, mz_axis=law or None)
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
    limit = BASE_MEMORY + BUDGET
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(slide.path), str(tmp_path / "s.zarr"), str(limit), law],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < limit
