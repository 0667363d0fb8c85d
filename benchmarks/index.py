"""Indexing imzML: the seconds to know where every spectrum is, beside pyimzML's parse with lxml."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Measurement, machine, measure, save
from msicube.bytesize import format_bytes
from msicube.writers import ImzMLWriter

#: Edge of the square slide: as many spectra as the research page's files, and a million.
EDGES = (128, 1000)
PEER_EDGES = (128,)


def _file(work: Path, edge: int) -> Path:
    """Write a processed file with a few peaks for each spectrum: what matters is the XML."""
    path = work / f"index-{edge}.imzML"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    with ImzMLWriter(path, shape=(edge, edge), mode="processed") as writer:
        for y in range(edge):
            peaks = rng.integers(1, 4, edge)
            writer.write_ragged(
                np.full(edge, y),
                np.arange(edge),
                np.arange(peaks.sum()) + 1.5,
                rng.random(peaks.sum()),
                peaks,
            )
    return path


def with_msicube(path: Path) -> float:
    """Open without a cache."""
    from msicube.readers import open_source

    started = time.perf_counter()
    open_source(path, index_cache="off")
    return time.perf_counter() - started


def with_xml_path(path: Path) -> float:
    """Read the XML through lxml alone, as the fast path's reference does."""
    from msicube.readers.imzml.scan import scan

    started = time.perf_counter()
    scan(path, quick=False)
    return time.perf_counter() - started


def with_cache(path: Path) -> float:
    """Open a file whose index is cached."""
    from msicube.readers import open_source

    folder = str(path.parent / "index-cache")
    open_source(path, index_cache=folder)
    started = time.perf_counter()
    open_source(path, index_cache=folder)
    return time.perf_counter() - started


def with_pyimzml(path: Path) -> float:
    """Parse with lxml, without touching the .ibd."""
    from pyimzml.ImzMLParser import ImzMLParser

    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImzMLParser(str(path), parse_lib="lxml", ibd_file=None)
    return time.perf_counter() - started


def run(work: Path) -> list[Measurement]:
    """Measure, print and save."""
    rows: list[Measurement] = []
    table = Table("spectra", "reader", "s", "µs a spectrum", "peak", "against pyimzML")
    for edge in EDGES:
        path, spectra = _file(work, edge), edge * edge
        peers = (
            {"pyimzML, lxml": with_pyimzml, "msicube, XML path": with_xml_path} if edge in PEER_EDGES else {}
        )
        measured = [
            measure(f"{name}, {spectra} spectra", work_of, path, amount=spectra, unit="spectra")
            for name, work_of in {**peers, "msicube": with_msicube, "msicube, cached": with_cache}.items()
        ]
        reference = measured[0].seconds if peers else None
        for row in measured:
            ratio = f"{reference / row.seconds:.1f} times" if reference else ""
            per = f"{row.seconds / spectra * 1e6:.1f}"
            table.add_row(
                str(spectra), row.name, f"{row.seconds:.3f}", per, format_bytes(row.peak_bytes), ratio
            )
        rows += measured
    console = Console()
    console.print(machine())
    console.print(table)
    save("index", rows)
    return rows
