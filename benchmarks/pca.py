"""Principal components of a study, beside the plain sum in NumPy and other people's incremental methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import CpuClock, Measurement, machine, measure, save
from benchmarks.peers import Peer

SLIDES, SHAPE, CHANNELS, COMPONENTS = 10, (160, 125), 1000, 20

DASK_ML = Peer("dask-ml", ("dask-ml", "dask[array]", "zarr>=3", "xarray"))
DASK_ML_CODE = """
import glob
import numpy as np
import dask, dask.array as da
from dask_ml.decomposition import IncrementalPCA
slides = sorted(glob.glob(path + "/slide_*"))
parts = [da.from_zarr(slide, component="intensity").reshape(-1, {channels}).rechunk((4000, -1)) for slide in slides]
X = da.concatenate(parts).rechunk((4000, -1))
begin = time.process_time()
model = IncrementalPCA(n_components={components}, batch_size=4000, svd_solver="full").fit(X)
seconds = time.process_time() - begin
np.savez(target, components=model.components_, variance=model.explained_variance_)
report(seconds)
"""


def build(path: Path) -> None:
    """Write ten slides of spectra with a hundred directions of falling variance, noise and an offset, uncompressed."""
    from msicube.store import Location
    from msicube.store.slide import SlideDraft
    from msicube.store.study import create_study
    from msicube.tiling import plan_tiles

    study = create_study(Location.of(path), modality="msi")
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.standard_normal((CHANNELS, 100)))[0].T * 0.93 ** np.arange(100)[:, None] * 30
    shape = (*SHAPE, CHANNELS)
    plan = plan_tiles(shape, 4)
    for number in range(SLIDES):
        draft = SlideDraft.of(study.location, f"slide_{number:02d}", "msi")
        writer = draft.cube_writer(plan, np.dtype(np.float32), "none")
        for window in plan.tiles():
            scores = rng.standard_normal((window.n_pixels, 100), np.float32)
            noise = rng.standard_normal((window.n_pixels, CHANNELS), np.float32)
            values = scores @ loadings.astype(np.float32) + noise + 20
            writer.write(window, values.reshape(*window.shape, CHANNELS))
        draft.write("acquired", np.ones(SHAPE, bool))
        draft.write("mz", np.arange(CHANNELS) + 1.0)
        draft.write("y", np.arange(SHAPE[0]))
        draft.write("x", np.arange(SHAPE[1]))
        draft.commit({"sample": {}})


def blocks(path: Path) -> Any:
    """Yield the spectra of the study, a tile at a time, read through msicube."""
    import msicube as mc

    study = mc.open_study(path)
    for slide in study.slides:
        cube = study.cube(slide)
        for window in cube.tiles():
            yield cube.read(window).reshape(-1, CHANNELS)


def exact(path: Path, target: Path) -> float:
    """Find the true subspace: the covariance in float64, about the mean that a pass before found."""
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks(path)) / (SLIDES * SHAPE[0] * SHAPE[1])
    scatter = np.zeros((CHANNELS, CHANNELS))
    with CpuClock() as clock:
        for block in blocks(path):
            deviation = block - mean
            scatter += deviation.T @ deviation
        keep(target, *top(scatter))
    return clock.seconds


def plain(path: Path, target: Path) -> float:
    """Sum products and spectra in NumPy: float32 products of 8,192 rows, float64 sums."""
    n, total, scatter = 0, np.zeros(CHANNELS), np.zeros((CHANNELS, CHANNELS))
    with CpuClock() as clock:
        for block in blocks(path):
            for start in range(0, len(block), 8192):
                part = block[start : start + 8192]
                n += len(part)
                total += part.sum(axis=0, dtype=np.float64)
                scatter += part.T @ part
        keep(target, *top(scatter - np.outer(total, total) / n))
    return clock.seconds


def ours(path: Path, target: Path, solver: str, dtype: str | None) -> float:
    import msicube as mc

    study = mc.open_study(path)
    with CpuClock() as clock:
        pca = mc.PCA(COMPONENTS, solver=solver, dtype=dtype).fit(study)
        keep(target, pca.components_, pca.explained_variance_ * (pca.n_spectra_ - 1))
    return clock.seconds


def incremental(path: Path, target: Path) -> float:
    """Feed scikit-learn's IncrementalPCA batches of 4,000 spectra."""
    from sklearn.decomposition import IncrementalPCA

    model = IncrementalPCA(COMPONENTS)
    held = np.empty((0, CHANNELS), np.float32)
    with CpuClock() as clock:
        for block in blocks(path):
            held = np.concatenate([held, block])
            while len(held) >= 4000:
                model.partial_fit(held[:4000])
                held = held[4000:]
        if len(held) >= COMPONENTS:
            model.partial_fit(held)
        keep(target, model.components_, model.explained_variance_ * (model.n_samples_seen_ - 1))
    return clock.seconds


def top(scatter: Any) -> tuple[Any, Any]:
    from scipy.linalg import eigh

    values, vectors = eigh(scatter, subset_by_index=[CHANNELS - COMPONENTS, CHANNELS - 1])
    return vectors[:, ::-1].T, values[::-1]


def keep(target: Path, components: Any, variance: Any) -> None:
    np.savez(target, components=components, variance=variance)


def angle(target: Path, truth: Path) -> float:
    """Return the largest angle between two subspaces, in degrees."""
    from scipy.linalg import subspace_angles

    one, other = (np.load(path)["components"].T for path in (target, truth))
    return float(np.degrees(subspace_angles(one, other).max()))


def run(work: Path) -> None:
    """Build the study, find twenty components in every way, and print CPU seconds and angles."""
    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine())
    study, amount = work / "pca.zarr", SLIDES * SHAPE[0] * SHAPE[1]
    if not (study / "zarr.json").exists():
        build(study)
    cases: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("in float64 about a known mean", exact, ()),
        ("plain streamed covariance in NumPy", plain, ()),
        ("msicube: covariance", ours, ("covariance", None)),
        ("msicube: covariance, float64", ours, ("covariance", "float64")),
        ("msicube: randomized", ours, ("randomized", None)),
        ("scikit-learn IncrementalPCA, batches of 4,000", incremental, ()),
    ]
    rows: list[tuple[Measurement | str, Path]] = []
    for number, (name, work_of, arguments) in enumerate(cases):
        target = work / f"pca_{number}.npz"
        runs = 1 if work_of is incremental else 3
        rows.append(
            (
                measure(name, work_of, study, target, *arguments, amount=amount, unit="spectra", runs=runs),
                target,
            )
        )
    target = work / "pca_dask.npz"
    code = DASK_ML_CODE.format(channels=CHANNELS, components=COMPONENTS)
    rows.append(
        (DASK_ML.measure("IncrementalPCA", code, study, target, amount=amount, unit="spectra"), target)
    )
    show(console, rows)
    found = [row for row, _ in rows if isinstance(row, Measurement)]
    console.print(f"Figures: {save('pca', found)}")


def show(console: Console, rows: list[tuple[Measurement | str, Path]]) -> None:
    table = Table("", "CPU s", "times plain", "peak MB", "angle, degrees")
    base, truth = rows[1][0], rows[0][1]
    assert isinstance(base, Measurement)
    for row, target in rows:
        if isinstance(row, str):
            table.add_row(f"dask-ml: {row}")
            continue
        table.add_row(
            row.name,
            f"{row.seconds:.2f}",
            f"{row.seconds / base.seconds:.2f}",
            f"{row.peak_bytes / 1e6:.0f}",
            f"{angle(target, truth):.1e}",
        )
    console.print(table)
