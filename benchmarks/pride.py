"""A project of 564 slides in miniature, from a server on loopback into one study, and what the full one would take.

The server speaks the interface of the PRIDE Archive and is the one of the tests; it runs in a process of its own. A
large slide gives the rates that count for real ones, where the cost of each file and slide does not.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Clock, machine, measure, save

SLIDES = 564
#: Of each slide in miniature, and of the large one.
SMALL, LARGE = {"shape": (20, 20), "channels": 250}, {"shape": (250, 250), "channels": 3000}
#: Slides that fit into the limit on the disk.
ROOM = 4
SERVER = Path(__file__).resolve().parents[1] / "tests" / "remote"
ACCESSION = "PXD019653"
#: What a project may have, to reckon with: slides of so many GB, and Mbit/s from the archive.
SIZES, LINES = (0.1, 1.0, 4.0), (100, 1000)


def _serve(folder: Path, channel: Any) -> None:
    sys.path.insert(0, str(SERVER))
    from archive_server import Archive, serve

    with serve(Archive.of(folder)) as archive:
        channel.send((archive.api, archive.url))
        channel.recv()
        channel.send((len(archive.asked), sum(archive.sent.values()), archive.most_connections))


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str, list[Any]]]:
    """Serve the pairs of a folder from another process; what it counted is there when the block ends."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, there))
    process.start()
    counted: list[Any] = []
    api, url = here.recv()
    try:
        yield api, url, counted
    finally:
        here.send(None)
        counted.extend(here.recv())
        process.join()


def simulate(folder: Path, slides: int, **size: Any) -> int:
    """Make the slides where they are not there, and return their bytes."""
    from msicube.simulate import simulate_msi

    if not (folder / "samples.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        simulate_msi(folder, slides=slides, seed=564, **size)
    return sum(path.stat().st_size for path in folder.glob("slide_*"))


def convert(api: str, url: str, study: Path, limit: int | None, notes: Path) -> float:
    """Run the whole command in this process; notes hold the seconds of every slide and of the processor."""
    from msicube.pride import Archive, convert_project

    os.environ["MSICUBE_INDEX_CACHE"] = "off"
    started = time.process_time()
    with Clock() as clock:
        report = convert_project(
            ACCESSION,
            study,
            archive=Archive.of(api=api, files=url),
            stream=limit is not None,
            disk_limit=limit,
            label_from="(?P<label>slide)_(?P<patient>[0-9]+)",
        )
    notes.write_text(
        json.dumps(
            {
                "cpu": time.process_time() - started,
                "failed": [row.error for row in report.failed],
                "download": [row.download_seconds for row in report.rows],
                "convert": [row.convert_seconds for row in report.rows],
            }
        )
    )
    return clock.seconds


def run(work: Path) -> None:
    """Measure the miniature and the large slide, and reckon."""
    out = Console(width=180)
    out.print(machine())
    table = Table(
        "", "s", "CPU s", "MB", "MB/s", "peak MB", "a slide: download, convert s", "requests", "connections"
    )
    rates = {}
    saved = []
    for name, slides, size in (("miniature", SLIDES, SMALL), ("large", 1, LARGE)):
        folder, study, notes = work / f"{name}.in", work / f"{name}.zarr", work / f"{name}.json"
        shutil.rmtree(study, ignore_errors=True)
        n_bytes = simulate(folder, slides, **size)
        largest = max(p.stat().st_size + p.with_suffix(".imzML").stat().st_size for p in folder.glob("*.ibd"))
        for what in ("streamed", "again"):
            with served(folder) as (api, url, counted):
                found = measure(
                    f"{slides} {name}, {what}", convert, api, url, study, ROOM * largest, notes,
                    amount=n_bytes, unit="B", runs=1,
                )  # fmt: skip
            seen = json.loads(notes.read_text())
            assert not seen["failed"], seen["failed"][:3]
            median = [sorted(seen[key])[slides // 2] for key in ("download", "convert")]
            table.add_row(
                found.name,
                f"{found.seconds:.1f}",
                f"{seen['cpu']:.1f}",
                f"{n_bytes / 1e6:.0f}",
                f"{found.rate / 1e6:.0f}" if what == "streamed" else "",
                f"{found.peak_bytes / 1e6:.0f}",
                f"{median[0]:.3f}, {median[1]:.3f}" if what == "streamed" else "",
                str(counted[0]),
                str(counted[2]),
            )
            if what == "streamed":
                rates[name] = (seen["cpu"], n_bytes)
            saved.append(found)
    out.print(table)
    save("pride", saved)
    each = rates["miniature"][0] / SLIDES
    rate = rates["large"][1] / rates["large"][0]
    out.print(f"{each:.3f} CPU s a slide, and {rate / 1e6:.0f} MB of large slides a CPU s\n")
    reckon(out, each, rate)


def reckon(out: Console, each: float, rate: float) -> None:
    """Say what 564 slides would take: the slower of the line and one core, which run at the same time."""
    table = Table(
        "GB a slide", "GB in all", *(f"hours at {line} Mbit/s" for line in LINES), "hours of one core"
    )
    for size in SIZES:
        total = SLIDES * size * 1e9
        cores = (SLIDES * each + total / rate) / 3600
        lines = [total * 8 / (line * 1e6) / 3600 for line in LINES]
        table.add_row(f"{size:g}", f"{total / 1e9:.0f}", *(f"{hours:.1f}" for hours in lines), f"{cores:.1f}")
    out.print(table)
