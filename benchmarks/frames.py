"""Frames that are put together from values, beside zstd on the same chunks with their zeros."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numcodecs.zstd import Zstd
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from msicube.zstd import SparseFrames

#: As the store cuts 115,000 channels of float32: half a megabyte.
CHUNK, CHUNKS = 8 * 8 * 2048, 32
ROUNDS = 20
LEVELS = (1, -5)


def run(_: Path) -> None:
    """Print length and time of both, from one value in a thousand to one in ten."""
    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine() + "; one thread")
    table = Table("values", "", "bytes a value", "encode, ns a value", "decode, us a chunk")
    frames = SparseFrames.of(CHUNK, 4)
    assert frames is not None
    rng = np.random.default_rng(0)
    for density in (0.001, 0.005, 0.013, 0.04, 0.1):
        cube = np.zeros(CHUNK * CHUNKS, np.float32)
        places = np.flatnonzero(rng.random(len(cube)) < density)
        cube[places] = values = rng.random(len(places), np.float32)
        work = encoders(frames, cube.reshape(CHUNKS, CHUNK), places, values)
        for name, encode in work.items():
            made, out = encode(), np.empty(CHUNK, np.float32)
            table.add_row(
                f"{density:.1%}" if name == "frames" else "",
                name,
                f"{sum(map(len, made)) / len(values):.2f}",
                f"{best(encode) / len(values) * 1e9:.0f}",
                f"{best(lambda made=made, out=out: [Zstd().decode(one, out=out) for one in made]) / CHUNKS * 1e6:.0f}",
            )
    console.print(table)


def encoders(
    frames: SparseFrames, chunks: np.ndarray, places: np.ndarray, values: np.ndarray
) -> dict[str, Callable[[], list[bytes]]]:
    """Return what makes frames of some chunks, by name."""

    def level(codec: Zstd) -> Callable[[], list[bytes]]:
        return lambda: [bytes(codec.encode(chunk)) for chunk in chunks]

    return {
        "frames": lambda: list(frames.encode(np.arange(len(chunks)), places, values)),
        **{f"zstd {number}": level(Zstd(number)) for number in LEVELS},
    }


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
