"""Infrared mosaics from files to corrected spectra: masks of tissue, paraffin and outliers, then EMSC."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Clock, Measurement, machine, measure, save

SLIDES, SHAPE = 6, (320, 320)
NAME = "dewaxed"


def convert(folder: Path, study: Path) -> float:
    import msicube as mc

    shutil.rmtree(study, ignore_errors=True)
    with Clock() as clock:
        mc.convert(folder, study, samples=folder / "samples.csv")
    return clock.seconds


def mask_tissue_and_paraffin(study: Path) -> float:
    """Run the dual k-means on each mosaic by itself."""
    import msicube as mc

    with Clock() as clock:
        mc.make_mask(study, mc.TissueMask(), name="tissue", per_slide=True)
        mc.make_mask(study, mc.ParaffinMask(), name="paraffin", where="~tissue", per_slide=True)
    return clock.seconds


def mask_outliers(study: Path) -> float:
    """Find what Hotelling's T2 and Q tell from the rest of the tissue."""
    import msicube as mc

    with Clock() as clock:
        mc.make_mask(study, mc.OutlierMask(n_components=10), name="odd", where="tissue")
    return clock.seconds


def fit(study: Path) -> float:
    import msicube as mc

    opened = mc.open_study(study)
    pipe = mc.Pipeline([mc.EMSC(interferents="paraffin", n_interferents=3)])
    with Clock() as clock:
        pipe.fit(opened, where="tissue & ~odd", cache=False)
    pipe.save(opened, name=NAME, overwrite=True)
    return clock.seconds


def apply(study: Path) -> float:
    import msicube as mc

    with Clock() as clock:
        mc.apply(mc.open_study(study), name=NAME, where="tissue & ~odd")
    return clock.seconds


def run(work: Path, *, scale: int = 1) -> None:
    """Simulate mosaics, six of them or with ``scale=10`` sixty, do everything with them once, and print the figures."""
    import msicube as mc

    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine())
    source, study = work / "mosaics", work / "mosaics.zarr"
    report = mc.simulate_ftir(source, slides=SLIDES * scale, shape=SHAPE, overwrite=True)
    spectra, payload = report.n_spectra, report.n_spectra * report.n_channels * 4
    console.print(
        f"{len(report.slides)} mosaics, {spectra:,} spectra x {report.n_channels}, {payload / 1e9:.1f} GB"
    )
    rows = [measure("convert", convert, source, study, amount=payload, unit="B", runs=1)]
    for name, step in (
        ("tissue and paraffin (dual k-means)", mask_tissue_and_paraffin),
        ("outliers in tissue", mask_outliers),
        ("fit EMSC with the paraffin model", fit),
        ("apply EMSC to tissue", apply),
    ):
        rows.append(measure(name, step, study, amount=payload, unit="B", runs=1))
    show(console, rows)
    console.print(f"Figures: {save('ftir_chain' + ('' if scale == 1 else str(scale)), rows)}")


def show(console: Console, rows: list[Measurement]) -> None:
    """Print the rows and their sum."""
    table = Table("", "s", "CPU s", "MB/s", "peak MB")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.rate / 1e6:.0f}",
            f"{row.peak_bytes / 1e6:.0f}",
        )
    table.add_row(
        "all", f"{sum(row.seconds for row in rows):.1f}", f"{sum(row.cpu_seconds for row in rows):.1f}"
    )
    console.print(table)
