"""EMSC and Mie-EMSC beside orange-spectroscopy, biospectools and chemotools: processor time, wall time, agreement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.peers import Peer

SPECTRA, CHANNELS, COMPARED, MIE_SPECTRA, RUNS = 100_000, 467, 2000, 100, 2

BIOSPECTOOLS = Peer("biospectools==0.4.0", ("biospectools==0.4.0",))
CHEMOTOOLS = Peer("chemotools", ("chemotools",))
ORANGE = Peer("orange-spectroscopy", ("orange-spectroscopy", "PyQt5", "PyQtWebEngine"))

#: Runs in a process of its own: ``make(X)`` returns a function without arguments, which alone is timed.
PROLOGUE = """
import json, sys, time
from pathlib import Path
import numpy as np
folder, target, spectra = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
X = np.load(folder / spectra)
wn, reference, interferents = (np.load(folder / f"{name}.npy") for name in ("axis", "reference", "interferents"))
"""
EPILOGUE = """
work = make(X)
times = []
for _ in range(3):
    corrected = None
    wall, cpu = time.perf_counter(), time.process_time()
    corrected = work()
    times.append((time.process_time() - cpu, time.perf_counter() - wall))
cpu, wall = min(times)
np.save(target, np.asarray(corrected)[:2000])
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps({"cpu": cpu, "wall": wall, "peak_bytes": peak}))
"""

MSICUBE_CODE = """
import msicube as mc
def make(X):
    emsc = mc.EMSC(wavenumbers=wn, reference=reference, interferents=interferents, dtype={dtype!r})
    emsc.fit(X[:100]).transform(X[:100])
    return lambda: emsc.fit(X).transform(X)
"""
BIOSPECTOOLS_CODE = """
from biospectools.preprocessing import EMSC
def make(X):
    emsc = EMSC(reference, wn, 2, interferents=interferents)
    return lambda: emsc.transform(X, check_correlation=False)
"""
CHEMOTOOLS_CODE = """
from chemotools.scatter import ExtendedMultiplicativeScatterCorrection as EMSC
def make(X):
    emsc = EMSC(order=2, reference=reference, interferences=interferents)
    return lambda: emsc.fit(X).transform(X)
"""
ORANGE_CODE = """
import os
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from Orange.data import ContinuousVariable, Domain, Table
from orangecontrib.spectroscopy.preprocess import EMSC
def make(X):
    domain = Domain([ContinuousVariable(repr(float(v))) for v in wn])
    table = Table.from_numpy(domain, X)
    emsc = EMSC(reference=Table.from_numpy(domain, reference[None]),
                badspectra=Table.from_numpy(domain, interferents), order=2)
    return lambda: emsc(table).X
"""
MIE_CODE = """
import msicube as mc
def make(X):
    emsc = mc.MieEMSC(wavenumbers=wn, reference=reference, n_components=8).fit(X)
    emsc.transform(X[:1])
    return lambda: emsc.transform(X)
"""
BIOSPECTOOLS_MIE_CODE = """
from biospectools.preprocessing.me_emsc import MeEMSC
def make(X):
    emsc = MeEMSC(reference, wn, n_components=8)
    return lambda: emsc.transform(X)
"""


@dataclass(frozen=True)
class Timing:
    """The run of one tool that took the least processor time, and how far its result is from the comparison."""

    name: str
    cpu: float
    wall: float
    peak_bytes: int
    difference: float


def make_data(folder: Path) -> None:
    """Write spectra of four bands on a baseline, three interferents, and a smaller set with Mie scattering."""
    from msicube.preprocess.mie_curves import MieCurves

    rng = np.random.default_rng(0)
    wn = np.linspace(900.0, 1800.0, CHANNELS)

    def band(centre: float, width: float) -> np.ndarray:
        return np.exp(-(((wn - centre) / width) ** 2))

    reference = band(1650, 25) + 0.7 * band(1545, 22) + 0.3 * band(1240, 30) + 0.35 * band(1080, 40)
    interferents = np.stack([band(1462, 12), band(1378, 10), band(1740, 15)])
    baseline = np.vander(np.linspace(-1, 1, CHANNELS), 3).T
    X = rng.uniform(0.3, 1.5, (SPECTRA, 1)) * reference
    X += 0.1 * rng.random((SPECTRA, 3)) @ interferents + 0.1 * rng.normal(size=(SPECTRA, 3)) @ baseline
    X += 2e-3 * rng.standard_normal((SPECTRA, CHANNELS))
    curves = MieCurves.of(wn, np.linspace(2, 7.1, 10), np.linspace(1.1, 1.4, 10), 0.25)
    pure = (
        reference * rng.uniform(0.9, 1.1, (MIE_SPECTRA, 1))
        + 0.05 * rng.random((MIE_SPECTRA, 1)) * interferents[2]
    )
    mie = np.stack(
        [
            pure[i] + rng.uniform(0.05, 0.3) * one[rng.integers(100)]
            for i, one in enumerate(curves.curves(pure))
        ]
    )
    mie += 1e-3 * rng.standard_normal(mie.shape)
    arrays = {
        "axis": wn,
        "reference": reference,
        "interferents": interferents,
        "X": X.astype(np.float32),
        "mie": mie,
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)


def exact(folder: Path) -> np.ndarray:
    """Return what NumPy's least squares makes of the spectra that are compared, in float64."""
    wn, reference, interferents = (
        np.load(folder / f"{n}.npy") for n in ("axis", "reference", "interferents")
    )
    X = np.load(folder / "X.npy", mmap_mode="r")[:COMPARED].astype(np.float64)
    v = 2 * (wn - wn[0]) / (wn[-1] - wn[0]) - 1
    model = np.column_stack([reference, v**0, v, v**2, *interferents])
    found = np.linalg.lstsq(model, X.T, rcond=None)[0]
    return reference + ((X.T - model @ found) / found[0]).T


def measure(
    name: str, code: str, folder: Path, spectra: str, expected: np.ndarray | None, peer: Peer | None
) -> Timing | str:
    """Run code with one thread for linear algebra, three times in each of two processes of its own."""
    python, reason = (Path(sys.executable), "") if peer is None else peer.interpreter()
    if python is None:
        return reason
    target, found = folder / "corrected.npy", []
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
    }
    for _ in range(RUNS):
        done = subprocess.run(
            [str(python), "-c", PROLOGUE + code + EPILOGUE, str(folder), str(target), spectra],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:100]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    best = min(found, key=lambda run: run["cpu"])
    difference = np.nan if expected is None else float(np.abs(np.load(target) - expected).max())
    return Timing(name, difference=difference, **best)


def run(work: Path) -> None:
    """Make the data, measure each tool, and print two tables."""
    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine() + "; one thread")
    make_data(work)
    expected = exact(work)
    rows = {
        name: measure(name, code, work, "X.npy", expected, peer)
        for name, code, peer in (
            ("msicube", MSICUBE_CODE.format(dtype="float32"), None),
            ('msicube, dtype="float64"', MSICUBE_CODE.format(dtype="float64"), None),
            ("orange-spectroscopy", ORANGE_CODE, ORANGE),
            ("biospectools", BIOSPECTOOLS_CODE, BIOSPECTOOLS),
            ("chemotools", CHEMOTOOLS_CODE, CHEMOTOOLS),
        )
    }
    show(console, f"EMSC, {SPECTRA:,} x {CHANNELS} float32, 7 columns; difference to lstsq in float64", rows)
    theirs = measure("biospectools", BIOSPECTOOLS_MIE_CODE, work, "mie.npy", None, BIOSPECTOOLS)
    corrected = np.load(work / "corrected.npy") if isinstance(theirs, Timing) else None
    mie = {
        "msicube": measure("msicube", MIE_CODE, work, "mie.npy", corrected, None),
        "biospectools": theirs,
    }
    show(console, f"Mie-EMSC, {MIE_SPECTRA} x {CHANNELS}, 8 components; difference to biospectools", mie)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    document = {"machine": machine(), "emsc": _plain(rows), "mie": _plain(mie)}
    (folder / "emsc.json").write_text(json.dumps(document, indent=2))


def show(console: Console, title: str, rows: dict[str, Timing | str]) -> None:
    """Print rows, each tool's processor time also as a multiple of msicube's."""
    table = Table(
        "", "CPU s", "times msicube's", "wall s", "peak MB", "difference", title=title, title_justify="left"
    )
    ours = rows["msicube"]
    for name, row in rows.items():
        if isinstance(row, str):
            table.add_row(name, "-", row, "", "", "")
            continue
        ratio = f"{row.cpu / ours.cpu:.1f}" if isinstance(ours, Timing) else ""
        difference = "" if np.isnan(row.difference) else f"{row.difference:.1e}"
        table.add_row(
            name, f"{row.cpu:.3f}", ratio, f"{row.wall:.3f}", f"{row.peak_bytes / 1e6:.0f}", difference
        )
    console.print(table)


def _plain(rows: dict[str, Timing | str]) -> dict[str, object]:
    return {name: row if isinstance(row, str) else asdict(row) for name, row in rows.items()}
