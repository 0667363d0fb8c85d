"""Other people's tools, each in an environment of its own, so that none changes what msicube runs with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Measurement

ENVIRONMENTS = Path(__file__).parent / "results" / "environments"

#: Prepended to a peer's code, which ends by reporting its seconds; the peak memory is added.
PROLOGUE = """
import json, sys, time
from pathlib import Path
def report(seconds):
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(json.dumps([seconds, peak, time.process_time()]))
path = sys.argv[1]
target = sys.argv[2]
"""


@dataclass(frozen=True)
class Peer:
    """A package to compare with.

    Attributes
    ----------
    name
        Of the package, with a version where it matters.
    requirements
        For pip.
    python
        The least Python version it runs on.
    """

    name: str
    requirements: tuple[str, ...]
    python: tuple[int, int] = (3, 9)

    def interpreter(self) -> tuple[Path | None, str]:
        """Return the Python of its environment, made where needed, or None and why there is none."""
        if sys.version_info[:2] < self.python:
            return None, f"needs Python {'.'.join(map(str, self.python))}, this is {sys.version.split()[0]}"
        folder = ENVIRONMENTS / self.name.replace("=", "-")
        python = folder / "bin" / "python"
        if not (folder / ".installed").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            done = subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", *self.requirements],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                return None, "pip could not install it: " + done.stderr.strip().splitlines()[-1][:100]
            (folder / ".installed").touch()
        return python, ""

    def measure(
        self, what: str, code: str, *arguments: object, amount: float, unit: str, fresh: Path | None = None
    ) -> Measurement | str:
        """Run code that ends by calling ``report(seconds)``; the better of two runs, or why there is none.

        What the code writes to ``fresh`` is removed before each run.
        """
        python, reason = self.interpreter()
        if python is None:
            return reason
        found = []
        for _ in range(2):
            if fresh is not None:
                shutil.rmtree(fresh, ignore_errors=True)
            done = subprocess.run(
                [str(python), "-c", PROLOGUE + code, *map(str, arguments)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:100]
            found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        seconds, peak, cpu_seconds = min(found)
        return Measurement(f"{what}: {self.name}", seconds, amount, unit, int(peak), cpu_seconds)


PYIMZML = Peer("pyimzML", ("pyimzml", "lxml", "numpy"))
IMZY = Peer("imzy", ("imzy",))
AGILENT = Peer("agilent-format", ("agilent-format", "numpy", "zarr>=3"))
THYRA = Peer("thyra==4.6.0", ("thyra==4.6.0",), python=(3, 12))
