"""The main job, step by step, beside copying the same bytes: convert, read, fit, apply, stream."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Clock, Measurement, machine, measure, save

if TYPE_CHECKING:
    from msicube import Pipeline

SLIDES, SHAPE, CHANNELS = 12, (160, 160), 1024


def copy_bytes(folder: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    with Clock() as clock:
        shutil.copytree(folder, target)
    return clock.seconds


def convert(folder: Path, study: Path) -> float:
    import msicube as mc

    shutil.rmtree(study, ignore_errors=True)
    with Clock() as clock:
        mc.convert(folder, study, samples=folder / "samples.csv")
    return clock.seconds


def read_through(study: Path, slides: list[str] | None = None) -> float:
    """Decode every tile of some slides with as many threads as there are cores, and throw it away."""
    import msicube as mc
    from msicube.scheduling import run_tasks

    opened = mc.open_study(study)
    cubes = [opened.cube(name) for name in slides or opened.slides]
    jobs = [(cube, window) for cube in cubes for window in cube.tiles()]
    with Clock() as clock:
        run_tasks(_read, jobs, on_result=lambda _: None)
    return clock.seconds


def _read(job: tuple) -> None:  # type: ignore[type-arg]
    cube, window = job
    cube.read(window)


def chain() -> Pipeline:
    """Return the colorectal paper's chain after TIC normalisation, not fitted."""
    import msicube as mc

    return mc.Pipeline(
        [mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.SelectChannels(k=100, by="label"), mc.PCA(3)]
    )


def fit(study: Path) -> float:
    import msicube as mc

    opened, pipe = mc.open_study(study), chain()
    with Clock() as clock:
        pipe.fit(opened, slides=opened.slides, allow_test=True, cache=False)
    pipe.save(opened, name="bench", overwrite=True)
    return clock.seconds


def apply(study: Path) -> float:
    import msicube as mc

    opened = mc.open_study(study)
    for name in opened.slides:
        shutil.rmtree(Path(opened.path) / name / "bench", ignore_errors=True)
    with Clock() as clock:
        mc.apply(opened, name="bench")
    return clock.seconds


def stream_spectra(study: Path) -> float:
    import msicube as mc

    stream = mc.SpectrumStream(mc.open_study(study), batch_size=256, memory="256 MiB")
    with Clock() as clock:
        for _ in stream:
            pass
    return clock.seconds


def stream_patches(study: Path) -> float:
    import msicube as mc

    stream = mc.PatchStream(mc.open_study(study), variable="bench", size=32, stride=4, batch_size=32)
    with Clock() as clock:
        for _ in stream:
            pass
    return clock.seconds


def run(work: Path) -> None:
    """Simulate a study of about a gigabyte, do everything with it, and print the ratios."""
    import msicube as mc

    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine())
    source, study = work / "source", work / "study.zarr"
    report = mc.simulate_msi(source, slides=SLIDES, shape=SHAPE, channels=CHANNELS, overwrite=True)
    size, spectra = report.n_bytes, report.n_spectra
    console.print(f"{SLIDES} slides, {spectra} spectra x {CHANNELS} channels, {size / 1e6:.0f} MB of imzML")
    rows = [measure("copy the files", copy_bytes, source, work / "copy", amount=size, unit="B")]
    rows.append(measure("convert", convert, source, study, amount=size, unit="B"))
    payload = spectra * CHANNELS * 4
    rows.append(measure("read every tile", read_through, study, amount=payload, unit="B"))
    rows.append(measure("fit (two passes)", fit, study, amount=payload, unit="B"))
    rows.append(measure("apply", apply, study, amount=payload, unit="B"))
    rows.append(measure("stream spectra, shuffled", stream_spectra, study, amount=payload, unit="B"))
    opened = mc.open_study(study)
    patches = len(mc.PatchStream(opened, variable="bench", size=32, stride=4, batch_size=32).patches)
    rows.append(measure("stream 3-channel patches", stream_patches, study, amount=patches, unit="patches"))
    show(console, rows, CHANNELS * 4)
    console.print(f"Figures: {save('chain', rows)}")


def show(console: Console, rows: list[Measurement], spectrum_bytes: int) -> None:
    """Print the rows and how each compares with copying the bytes."""
    table = Table("", "s", "throughput", "spectra/s", "of copying", "peak MB")
    base = rows[0].rate
    for row in rows:
        in_bytes = row.unit == "B"
        table.add_row(
            row.name,
            f"{row.seconds:.2f}",
            f"{row.rate / 1e6:.0f} MB/s" if in_bytes else f"{row.rate:.0f} {row.unit}/s",
            f"{row.rate / spectrum_bytes:,.0f}" if in_bytes else "",
            f"{row.rate / base:.2f}" if in_bytes else "",
            f"{row.peak_bytes / 1e6:.0f}",
        )
    console.print(table)
