"""imzML in, beside other people's tools: index, conversion, reading back. The files of the research page, or larger."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Clock, Measurement, machine, measure, save
from benchmarks.peers import IMZY, PYIMZML, THYRA, Peer
from msicube.writers.imzml import ImzMLWriter

EDGE, CHANNELS, PEAKS = 128, 8000, 1500

Row = Measurement | tuple[str, str]


def make_continuous(path: Path, rows: int) -> None:
    """Write ``rows`` x 128 spectra of 8,000 random values: hardly compressible, as noise is."""
    rng = np.random.default_rng(0)
    mz = np.linspace(100, 1000, CHANNELS)
    x = np.arange(EDGE)
    with ImzMLWriter(path, shape=(rows, EDGE), mz=mz, pixel_size=(50, 50)) as writer:
        for y in range(rows):
            writer.write_block(np.full(EDGE, y), x, rng.random((EDGE, CHANNELS), np.float32))


def make_processed(path: Path, rows: int) -> None:
    """Write ``rows`` x 128 spectra of about 1,500 peaks at random m/z."""
    rng = np.random.default_rng(1)
    with ImzMLWriter(
        path, shape=(rows, EDGE), mode="processed", representation="centroid", pixel_size=(50, 50)
    ) as writer:
        for y in range(rows):
            for x in range(EDGE):
                mz = np.sort(rng.uniform(100, 1000, rng.integers(PEAKS - 100, PEAKS + 100)))
                writer.write(y, x, rng.random(len(mz), np.float32), mz=mz)


def index(path: Path) -> float:
    from msicube.readers import open_source

    with Clock() as clock:
        open_source(path, index_cache="off")
    return clock.seconds


def convert(path: Path, study: Path, law: str | None) -> float:
    """Convert a file; a smaller one was converted before, so that what is imported once is not counted."""
    import msicube as mc

    os.environ["MSICUBE_INDEX_CACHE"] = "off"
    small = path.with_name(f"small-{path.name}")
    if not small.exists():
        (make_continuous if law is None else make_processed)(small, 1)
    shutil.rmtree(small.with_suffix(".zarr"), ignore_errors=True)
    mc.convert(small, small.with_suffix(".zarr"), mz_axis=law)
    shutil.rmtree(study, ignore_errors=True)
    with Clock() as clock:
        mc.convert(path, study, mz_axis=law)
    return clock.seconds


def floor(path: Path, target: Path) -> float:
    """Take the same array from RAM to shards with the same codec and threads: what conversion cannot beat."""
    from msicube.codecs import DEFAULT_CODEC, ChunkCodec
    from msicube.readers import open_source
    from msicube.scheduling import run_tasks, shared
    from msicube.shards import ShardLayout
    from msicube.store import CubeWriter, Location
    from msicube.tiling import Window, plan_tiles

    shutil.rmtree(target, ignore_errors=True)
    reader = open_source(path)
    ny, nx = reader.info.shape
    cube = reader.read_tile(Window(0, ny, 0, nx)).values
    plan = plan_tiles(cube.shape, cube.itemsize)
    layout = ShardLayout(plan.shard_shape, plan.chunk_shape, ChunkCodec.named(DEFAULT_CODEC, cube.dtype))
    writer = CubeWriter(Location.of(target), layout)

    def write(window: Window) -> None:
        writer.write(window, cube[window.slices])

    with Clock() as clock, shared("threads") as pool:
        run_tasks(write, plan.tiles(), scheduler=pool, on_result=lambda _: None)
    return clock.seconds


def read_back(study: Path, slide: str, what: str) -> float:
    """Read one thing once, from the page cache; another place was read before, so the codec is loaded."""
    import msicube as mc
    from msicube.tiling import Window

    cube = mc.open_study(study).cube(slide)
    cube.read(Window(0, 1, 0, 1))
    windows = {"patch": Window(32, 64, 32, 64), "spectrum": Window(50, 51, 50, 51)}
    with Clock() as clock:
        if what == "image":
            cube.read(Window(0, cube.shape[0], 0, cube.shape[1]), channels=slice(4000, 4001))
        else:
            cube.read(windows[what])
    return clock.seconds


PYIMZML_OPEN = """
from pyimzml.ImzMLParser import ImzMLParser
start = time.perf_counter()
parser = ImzMLParser(path, parse_lib="lxml")
"""
PYIMZML_READ = {
    "image": """
from pyimzml.ImzMLParser import getionimage
parser = ImzMLParser(path)
start = time.perf_counter()
getionimage(parser, 550.0, tol=0.06)
""",
    "patch": """
parser = ImzMLParser(path)
place = {(x, y): i for i, (x, y, _) in enumerate(parser.coordinates)}
start = time.perf_counter()
for y in range(33, 65):
    for x in range(33, 65):
        parser.getspectrum(place[x, y])
""",
    "spectrum": """
parser = ImzMLParser(path)
start = time.perf_counter()
parser.getspectrum(50 * 128 + 50)
""",
}
END = "report(time.perf_counter() - start)\n"
IMZY_OPEN = """
from imzy import get_reader
start = time.perf_counter()
get_reader(path)
"""
# As its command line converts by default, onto an axis of its own: without one it refuses the processed file.
THYRA_CONVERT = """
from thyra import convert_msi
from thyra.resampling import ResamplingConfig
import shutil
shutil.rmtree(target, ignore_errors=True)
start = time.perf_counter()
axis = ResamplingConfig()
assert convert_msi(path, target, dataset_id="a", pixel_size_um=50, resampling_config=axis), "no conversion"
"""


def run(work: Path, scale: int = 1) -> None:
    """Make both files, measure, and print one table for each."""
    console = Console(width=None if Console().is_terminal else 130)
    console.print(machine())
    makers: tuple[tuple[str, Callable[[Path, int], None], str | None], ...] = (
        ("continuous", make_continuous, None),
        ("processed", make_processed, "ppm:20"),
    )
    for name, make, law in makers:
        path = work / f"{name}.imzML"
        if not path.exists():
            make(path, EDGE * scale)
            os.sync()  # what is timed next is not to wait for the disk with it
        rows = measure_file(work, path, law)
        size = path.stat().st_size + path.with_suffix(".ibd").stat().st_size
        show(console, f"{name}: {EDGE * scale} x {EDGE} pixels, {size / 1e6:.0f} MB", rows)
        save(f"imzml-{name}-{scale}", [row for row in rows if isinstance(row, Measurement)])


def measure_file(work: Path, path: Path, law: str | None) -> list[Row]:
    """Measure everything on one file."""
    study, size = work / "study.zarr", path.with_suffix(".ibd").stat().st_size
    spectra = path.read_bytes().count(b"<spectrum ") if path.stat().st_size < 2**28 else 0
    rows: list[Row] = [measure("index: msicube", index, path, amount=spectra or 1, unit="spectra")]
    _compare(rows, "index", PYIMZML, PYIMZML_OPEN + END, path, spectra or 1, "spectra")
    _compare(rows, "index", IMZY, IMZY_OPEN + END, path, spectra or 1, "spectra")
    rows.append(measure("convert: msicube", convert, path, study, law, amount=size, unit="B"))
    _compare(rows, "convert", THYRA, THYRA_CONVERT + END, path, size, "B")
    if law is None:
        rows.append(
            measure("convert: the floor, RAM to shards", floor, path, work / "floor", amount=size, unit="B")
        )
    for what, code in PYIMZML_READ.items():
        rows.append(measure(f"one {what}: msicube", read_back, study, path.stem, what, amount=1, unit=what))
        _compare(rows, f"one {what}", PYIMZML, PYIMZML_OPEN + code + END, path, 1, what)
    return rows


def _compare(rows: list[Row], what: str, peer: Peer, code: str, path: Path, amount: float, unit: str) -> None:
    target = path.with_name("peer-output")
    shutil.rmtree(target, ignore_errors=True)
    found = peer.measure(what, code, path, target, amount=amount, unit=unit)
    rows.append(found if isinstance(found, Measurement) else (f"{what}: {peer.name}", found))


def show(console: Console, title: str, rows: list[Row]) -> None:
    """Print rows; each peer's time is given as a multiple of msicube's for the same work."""
    table = Table("", "s", "times msicube's", "peak MB", title=title, title_justify="left")
    ours = 0.0
    for row in rows:
        if not isinstance(row, Measurement):
            table.add_row(row[0], "-", row[1], "")
            continue
        if row.name.endswith(": msicube"):
            ours = row.seconds
        ratio = "" if row.seconds == ours else f"{row.seconds / ours:.2f}"
        seconds = f"{row.seconds:.2f}" if row.seconds >= 0.1 else f"{row.seconds * 1000:.2f} ms"
        table.add_row(row.name, seconds, ratio, f"{row.peak_bytes / 1e6:.0f}")
    console.print(table)
