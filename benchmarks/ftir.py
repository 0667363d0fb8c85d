"""FTIR mosaics in, beside agilent-format with zarr: a crop of a mosaic, and a mosaic larger than the memory limit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Clock, Measurement, machine, measure, save
from benchmarks.peers import AGILENT

#: 3 x 3 tiles of 128 x 128 pixels and 1,506 channels, of which 467 lie in the range that is kept.
TILES, TILE_SIZE, FIRST_CHANNEL, CHANNELS = (3, 3), 128, 441, 1506
CROP = (900.0, 1800.0)
MEMORY_LIMIT = 512 * 2**20


def make_mosaic(folder: Path, tiles: tuple[int, int] = TILES, tile_size: int = TILE_SIZE) -> Path:
    """Simulate a core and write it; returns the master file."""
    from msicube.simulate.ftir_design import design_cores
    from msicube.simulate.ftir_parameters import FTIRParameters
    from msicube.simulate.ftir_slide import FTIRSlideModel, FTIRStudyModel
    from msicube.writers import AgilentMosaicWriter, WavenumberGrid

    axis = WavenumberGrid(FIRST_CHANNEL, CHANNELS)
    ends = axis.wavenumber[[0, -1]]
    parameters = FTIRParameters(
        slides=1,
        seed=0,
        shape=(tiles[0] * tile_size, tiles[1] * tile_size),
        wavenumbers=(ends[0] - axis.step / 2, ends[1] + axis.step / 2),
        class_difference=1.0,
        cores=1,
        patient_effect=1.0,
        scatter=1.0,
        noise=1.0,
        dead_pixels=0.002,
        holes=2,
        pixel_size=5.5,
        tile_size=tile_size,
    )
    assert parameters.axis == axis
    slide = FTIRSlideModel.draw(FTIRStudyModel.draw(parameters), design_cores(1, cores=1, seed=0)[0])
    writer = AgilentMosaicWriter(
        folder, tiles=tiles, tile_size=tile_size, axis=axis, pixel_size=5.5, overwrite=True
    )
    with writer:
        slide.write(writer)
    return writer.path


def convert(mosaic: Path, study: Path, small: Path, options: dict[str, Any]) -> float:
    """Convert a mosaic; a small one was converted before, so that imports are not counted, as a peer's are not."""
    import msicube as mc

    for source, target in ((small, study.with_name("small.zarr")), (mosaic, study)):
        shutil.rmtree(target, ignore_errors=True)
        with Clock() as clock:
            mc.convert(source, target, **options)
    return clock.seconds


#: With chunks that suit the cube, and as zarr chunks it by itself.
CHUNKS = {"chunks of 64 x 64 x 467": "(64, 64, len(kept))", "zarr's own chunks": '"auto"'}
AGILENT_CROP = f"""
import numpy as np, zarr
from agilent_format import agilentMosaic
start = time.perf_counter()
mosaic = agilentMosaic(path, MAT=True)
wavenumber = np.array(mosaic.wavenumbers)
kept = np.flatnonzero((wavenumber >= {CROP[0]}) & (wavenumber <= {CROP[1]}))
cropped = mosaic.data[:, :, kept[0] : kept[-1] + 1]
store = zarr.create_array(target, shape=cropped.shape, chunks=CHUNKS, dtype="float32")
store[:] = cropped
report(time.perf_counter() - start)
"""


def same_numbers(study: Path, slide: str, target: Path) -> bool:
    """Compare every value of both stores, a row of tiles at a time."""
    import zarr

    import msicube as mc
    from msicube.tiling import Window

    cube, theirs = mc.open_study(study).cube(slide), zarr.open_array(target, mode="r")
    ny, nx = cube.shape[:2]
    if theirs.shape != (ny, nx, cube.shape[2]):
        return False
    return all(
        np.array_equal(cube.read(Window(y, min(y + 64, ny), 0, nx)), theirs[y : y + 64])
        for y in range(0, ny, 64)
    )


def run(work: Path) -> None:
    """Make the mosaic once, convert it both ways, compare every number, and print one table."""
    console = Console(width=None if Console().is_terminal else 130)
    console.print(machine())
    mosaic = work / "mosaic" / "mosaic.dmt"
    if not mosaic.exists():
        make_mosaic(mosaic.parent)
    size = sum(path.stat().st_size for path in mosaic.parent.glob("*.dmd"))
    small = work / "small" / "small.dmt"
    if not small.exists():
        make_mosaic(small.parent, tiles=(1, 1), tile_size=8)
    study, target = work / "study.zarr", work / "peer-output"
    crop = {"crop": f"{CROP[0]:g}:{CROP[1]:g}"}
    rows: list[Measurement | tuple[str, str]] = []
    for shard_size in ("8 MiB", "64 MiB"):
        options = {**crop, "shard_size": shard_size}
        name = f"crop: msicube, shards of {shard_size}"
        rows.append(measure(name, convert, mosaic, study, small, options, amount=size, unit="B"))
    for name, chunks in CHUNKS.items():
        code = AGILENT_CROP.replace("CHUNKS", chunks)
        found = AGILENT.measure(f"crop, {name}", code, mosaic, target, amount=size, unit="B", fresh=target)
        rows.append(found if isinstance(found, Measurement) else (f"crop, {name}: {AGILENT.name}", found))
        if isinstance(found, Measurement):
            same = same_numbers(study, "mosaic", target)
            console.print(f"{name}: {'the same numbers' if same else 'OTHER NUMBERS'} as msicube's")
    limited = f"all of it in {MEMORY_LIMIT / 2**20:.0f} MiB: msicube"
    limit = {"memory_limit": MEMORY_LIMIT}
    whole = measure(limited, convert, mosaic, study, small, limit, amount=size, unit="B")
    show(console, size, [*rows, whole])
    within = "within" if whole.peak_bytes <= MEMORY_LIMIT else "beyond"
    console.print(
        f"The mosaic of {size / 1e6:.0f} MB converts {within} the limit of {MEMORY_LIMIT / 1e6:.0f} MB."
    )
    save("ftir", [row for row in (*rows, whole) if isinstance(row, Measurement)])


def show(console: Console, size: int, rows: list[Measurement | tuple[str, str]]) -> None:
    """Print wall and CPU seconds and peak memory, and how the other rows compare with the first."""
    title = f"{TILES[0]} x {TILES[1]} tiles of {TILE_SIZE} x {TILE_SIZE} x {CHANNELS}, {size / 1e6:.0f} MB"
    table = Table(
        "", "s", "CPU s", "peak MB", "times msicube's s, CPU s, MB", title=title, title_justify="left"
    )
    first = rows[0]
    assert isinstance(first, Measurement)
    for row in rows:
        if not isinstance(row, Measurement):
            table.add_row(row[0], "-", "-", "-", row[1])
            continue
        ratios = (
            row.seconds / first.seconds,
            row.cpu_seconds / first.cpu_seconds,
            row.peak_bytes / first.peak_bytes,
        )
        compared = "" if row is first else ", ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(
            row.name,
            f"{row.seconds:.2f}",
            f"{row.cpu_seconds:.2f}",
            f"{row.peak_bytes / 1e6:.0f}",
            compared,
        )
    console.print(table)
