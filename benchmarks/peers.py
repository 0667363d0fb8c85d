"""Other people's tools, each in an environment of its own, so that none changes what msicube runs with."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Measurement

ENVIRONMENTS = Path(__file__).parent / "results" / "environments"
#: What msicube itself is tested with: peers that bring torch get the same one, not gigabytes of another.
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

#: A command that runs a newer Python with pip, for peers that this one is too old for, such as
#: ``/opt/python3.13/bin/python3`` or ``chroot /opt/trixie python3``; it has to see the same files.
OTHER_PYTHON = "MSICUBE_PEER_PYTHON"

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
    environment
        Of which name; peers that get along may share a large one.
    """

    name: str
    requirements: tuple[str, ...]
    python: tuple[int, int] = (3, 9)
    environment: str = ""

    def measure(
        self, what: str, code: str, *arguments: object, amount: float, unit: str, fresh: Path | None = None
    ) -> Measurement | str:
        """Run code that ends by calling ``report(seconds)``; the better of two runs, or why there is none.

        What the code writes to ``fresh`` is removed before each run.
        """
        try:
            python, variables = self._environment()
        except LookupError as reason:
            return str(reason.args[0])
        found = []
        for _ in range(2):
            if fresh is not None:
                shutil.rmtree(fresh, ignore_errors=True)
            done = _run([*python, "-c", PROLOGUE + code, *map(str, arguments)], variables)
            if done.returncode:
                return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:100]
            found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        seconds, peak, cpu_seconds = min(found)
        return Measurement(f"{what}: {self.name}", seconds, amount, unit, int(peak), cpu_seconds)

    def _environment(self) -> tuple[list[str], dict[str, str]]:
        """Return the Python of the peer's environment, which is made where needed, and the variables it takes.

        Raises
        ------
        LookupError
            There is none; the message says why.
        """
        folder = ENVIRONMENTS / (self.environment or self.name).replace("=", "-")
        if sys.version_info[:2] >= self.python:
            python = [str(folder / "bin" / "python")]
            if not (folder / ".installed").exists():
                _run([sys.executable, "-m", "venv", str(folder)])
                self._install([*python, "-m", "pip", "install"], folder)
            return python, {}
        python = shlex.split(os.environ.get(OTHER_PYTHON, ""))
        version = f"import sys; sys.exit(sys.version_info < {self.python})"
        if not python or _run([*python, "-c", version]).returncode:
            needed = ".".join(map(str, self.python))
            raise LookupError(f"needs Python {needed}, this is {sys.version.split()[0]} (see {OTHER_PYTHON})")
        folder = folder.with_name(f"{folder.name}-other")
        if not (folder / ".installed").exists():
            self._install([*python, "-m", "pip", "install", "--target", str(folder)], folder)
        return python, {"PYTHONPATH": str(folder)}

    def _install(self, pip: list[str], folder: Path) -> None:
        done = _run([*pip, "--quiet", "-c", str(CONSTRAINTS), *self.requirements])
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LookupError(f"pip could not install it: {last[:100]}")
        (folder / ".installed").touch()


def _run(command: list[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(variables or {})}
    )


PYIMZML = Peer("pyimzML", ("pyimzml", "lxml", "numpy"))
IMZY = Peer("imzy", ("imzy",))
AGILENT = Peer("agilent-format", ("agilent-format", "numpy", "zarr>=3"))
THYRA = Peer("thyra==4.6.0", ("thyra==4.6.0",), python=(3, 12))
