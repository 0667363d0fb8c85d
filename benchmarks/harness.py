"""Running a piece of work in a process of its own, and saying how long it took and how much memory it held."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One piece of work.

    Attributes
    ----------
    name
        What was done.
    seconds
        Wall time, the imports and the set-up left out.
    amount, unit
        How much was done: bytes, spectra, patches.
    peak_bytes
        Largest resident set of the process, the interpreter included.
    cpu_seconds
        Of all threads of the process, imports and set-up included.
    """

    name: str
    seconds: float
    amount: float
    unit: str
    peak_bytes: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.amount / self.seconds


def _child(work: Callable[..., float], arguments: tuple[Any, ...], channel: Any) -> None:
    seconds = work(*arguments)
    channel.send((seconds, peak_bytes(), time.process_time()))


def peak_bytes() -> int:
    """Return the largest resident set of this process; getrusage would also count the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(
    name: str, work: Callable[..., float], *arguments: Any, amount: float, unit: str, runs: int = 3
) -> Measurement:
    """Run ``work(*arguments)``, which returns its seconds, in new processes; the median of the runs counts."""
    context = multiprocessing.get_context("spawn")
    found = []
    for _ in range(runs):
        here, there = context.Pipe()
        process = context.Process(target=_child, args=(work, arguments, there))
        process.start()
        there.close()
        found.append(here.recv())
        process.join()
    found.sort()
    seconds, _, cpu_seconds = found[len(found) // 2]
    return Measurement(name, seconds, amount, unit, max(peak for _, peak, _ in found), cpu_seconds)


class Clock:
    """Measures the seconds of a ``with`` block."""

    seconds: float

    def __enter__(self) -> Clock:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start


class CpuClock:
    """Measures the processor seconds of this process, all threads together, in a ``with`` block."""

    seconds: float

    def __enter__(self) -> CpuClock:
        self._start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self._start


def machine() -> str:
    """Name the machine: processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.system()}"
    )


def save(name: str, rows: list[Measurement]) -> Path:
    """Write the rows as JSON into ``benchmarks/results``."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    document = {"machine": machine(), "rows": [{**row.__dict__, "rate": row.rate} for row in rows]}
    path.write_text(json.dumps(document, indent=2))
    return path
