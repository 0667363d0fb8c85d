"""Run msicube's commands, each as a process of its own, and keep a receipt of what they cost."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class CommandFailed(Exception):
    """A command ended with an error; the message has its last words."""


@dataclass(frozen=True)
class Cost:
    """What commands cost, one after the other.

    Attributes
    ----------
    seconds
        Wall time.
    cpu_seconds
        Of all their threads, imports included.
    peak_bytes
        Largest resident set of any.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


def run_commands(lines: Iterable[str], log: Path) -> Cost:
    """Run commands of msicube one after the other.

    Parameters
    ----------
    lines
        What follows ``msicube``, each as it would be typed.
    log
        Grows by what they say.

    Raises
    ------
    CommandFailed
        One of them failed; those after it are not run.
    """
    total = Cost()
    for line in lines:
        total += _run(line, log)
    return total


def _run(line: str, log: Path) -> Cost:
    # One thread of BLAS and torch each: a seed means the same result on one number of threads only.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _python_path()}
    started = time.perf_counter()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ msicube {line}\n")
        file.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "msicube.cli", *shlex.split(line)],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = "\n".join(log.read_text("utf-8").splitlines()[-12:])
        raise CommandFailed(f"msicube {line}\nended with {process.returncode}; {log} ends with:\n{last}")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _python_path() -> str:
    """Return a path on which the processes find the msicube that this one runs."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def receipt(path: Path) -> dict[str, Any]:
    """Return a receipt; empty where there is none."""
    if not path.is_file():
        return {}
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def write_receipt(path: Path, document: Mapping[str, Any], cost: Cost) -> None:
    """Write a receipt, whole or not at all."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {**document, "cost": asdict(cost), "commit": commit(), "finished": now}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(whole, indent=1), "utf-8")
    partial.replace(path)


def commit() -> str | None:
    """Return the commit of the source, with a ``+`` where it has been changed since; None without git."""
    try:
        found = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "msicube"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0].strip() + ("+" if found[1].strip() else "")
