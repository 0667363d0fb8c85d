"""Which codec: size and speed on chunks of simulated and, where they are at hand, real imzML data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from msicube.axis import OBSERVED, SpectralBins
from msicube.codecs import CODECS, ChunkCodec
from msicube.readers import open_source
from msicube.simulate import simulate_ftir, simulate_msi
from msicube.store.peaks import CHUNK_VALUES
from msicube.tiling import Window, plan_tiles

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "imzml"
SECONDS = 1.0


def sources(work: Path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the chunks of named cubes, and those of the m/z of peaks; the cubes are small."""
    kinds = (
        ("continuous", "profile", None),
        ("processed", "profile", "ppm:100"),
        ("processed", "centroid", "ppm:100"),
    )
    for mode, representation, law in kinds:
        folder = work / f"{mode}-{representation}"
        slide = simulate_msi(
            folder, slides=1, shape=(128, 128), channels=1024, mode=mode, representation=representation, overwrite=True
        ).slides[0]  # fmt: skip
        yield f"simulated {mode} {representation}", chunks_of(_cube(slide.path, law))
    if SHARED.is_dir():
        yield (
            "real profile (Example_Continuous)",
            chunks_of(_cube(SHARED / "pyimzml/Example_Continuous.imzML", None)),
        )
        yield "real centroid (picked, 20 ppm)", chunks_of(_cube(SHARED / "galaxy/picked.imzml", "ppm:20"))
    folder = work / "mosaic"
    simulate_ftir(folder, slides=1, shape=(128, 128), overwrite=True)
    yield "simulated infrared mosaic", chunks_of(_cube(next(folder.rglob("*.dmt")), None))
    yield "m/z of peaks, simulated processed centroid", peak_chunks(work / "processed-centroid")
    if SHARED.is_dir():
        yield "m/z of peaks, real (picked)", peak_chunks(SHARED / "galaxy", "picked.imzml")


def _cube(path: Path, law: str | None) -> np.ndarray:
    from msicube.axis import AxisLaw

    reader = open_source(path)
    survey = reader.survey()
    if survey is not None:
        bins = (
            AxisLaw.parse(law).bins(survey.lowest, survey.highest)
            if law
            else SpectralBins.observed(survey.common_axis)
        )
        reader = reader.with_axis(bins, law or OBSERVED)
    ny, nx = reader.info.shape
    return reader.read_tile(Window(0, ny, 0, nx)).values


def chunks_of(cube: np.ndarray) -> list[np.ndarray]:
    """Cut a cube as the store does; chunks of zeros are not stored."""
    plan = plan_tiles(cube.shape, cube.itemsize)
    cy, cx, cc = plan.chunk_shape
    ny, nx, nc = cube.shape
    cut = [
        np.ascontiguousarray(cube[y : y + cy, x : x + cx, c : c + cc])
        for y in range(0, ny, cy)
        for x in range(0, nx, cx)
        for c in range(0, nc, cc)
    ]
    return [chunk for chunk in cut if chunk.any()]


def peak_chunks(folder: Path, name: str = "*.imzML") -> list[np.ndarray]:
    """Return the m/z of a file's peaks, cut as the store does."""
    source = open_source(next(folder.glob(name))).peaks()  # type: ignore[attr-defined]
    mz = source.read_mz(0, len(source.lengths))
    return [mz[start : start + CHUNK_VALUES].copy() for start in range(0, len(mz), CHUNK_VALUES)]


def rate(work: object, chunks: list) -> float:  # type: ignore[type-arg]
    """Return items a second of calling ``work`` on each of the chunks, over about a second."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for chunk in chunks:
            work(chunk)  # type: ignore[operator]
        done += 1
    return done / (time.perf_counter() - start)


def run(work: Path) -> None:
    """Print one table for each kind of data."""
    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine() + "; one thread")
    for name, chunks in sources(work):
        dtype = chunks[0].dtype
        size = sum(chunk.nbytes for chunk in chunks)
        zeros = 1 - sum(int(np.count_nonzero(chunk)) for chunk in chunks) / (size / dtype.itemsize)
        table = Table(
            "codec",
            "ratio",
            "encode MB/s",
            "decode MB/s",
            title=f"{name}: {zeros:.0%} zeros in stored chunks",
        )
        for codec_name in CODECS:
            codec = ChunkCodec.named(codec_name, dtype)
            encoded = [(codec.encode(chunk), np.empty_like(chunk)) for chunk in chunks]
            table.add_row(
                codec_name,
                f"{size / sum(len(data) for data, _ in encoded):.2f}",
                f"{rate(codec.encode, chunks) * size / 1e6:.0f}",
                f"{rate(lambda pair, codec=codec: codec.decode(*pair), encoded) * size / 1e6:.0f}",
            )
        console.print(table)
