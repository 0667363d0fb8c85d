"""A study of 40 GB, taken out of the page cache: the chain and a shuffled stream of it, beside reading it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.chain import chain, read_through
from benchmarks.harness import Clock, Measurement, machine, measure, save

#: Two thirds of the pixels of a slide are measured; slides are simulated and converted so many at a time.
CHANNELS, SHAPE, BATCH = 1024, (512, 512), 4
#: Bytes of spectra, and how much of them the smaller part has at least.
LARGE, PART = 40e9, 10e9
NAME = "large"


def build(work: Path) -> Path:
    """Simulate slides until there are :data:`LARGE` bytes of spectra; files go once they are converted."""
    import msicube as mc

    study, source = work / "large.zarr", work / "large-source"
    slides = mc.open_study(study).slides if study.exists() else []
    number = len(slides) // BATCH
    while not study.exists() or spectrum_bytes(study) < LARGE:
        mc.simulate_msi(source, slides=BATCH, shape=SHAPE, channels=CHANNELS, seed=number, overwrite=True)
        samples = {}
        for name, row in pd.read_csv(source / "samples.csv", index_col="slide").iterrows():
            new = f"batch_{number:02d}_{name}"
            for kind in ("imzML", "ibd"):
                (source / f"{name}.{kind}").rename(source / f"{new}.{kind}")
            samples[new] = {**row.to_dict(), "patient": f"{number:02d}_{row['patient']}"}
        mc.convert(source, study, samples=samples)
        shutil.rmtree(source)
        number += 1
    return study


def spectrum_bytes(study: Path, slides: list[str] | None = None) -> int:
    """Return the bytes of the measured spectra of some slides."""
    import msicube as mc

    opened = mc.open_study(study)
    return sum(int(opened.acquired(name).sum()) for name in slides or opened.slides) * CHANNELS * 4


def forget(study: Path) -> None:
    """Ask the kernel to drop a study from the page cache, so that it is read from the disk."""
    for path in study.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def read(study: Path, slides: list[str]) -> float:
    """Decode every tile, from the disk, and throw it away."""
    forget(study)
    return read_through(study, slides)


def fit_and_apply(study: Path, slides: list[str]) -> float:
    """Fit the chain on slides and write its features for them."""
    import msicube as mc

    forget(study)
    opened, pipe = mc.open_study(study), chain()
    with Clock() as clock:
        pipe.fit(opened, slides=slides, allow_test=True, cache=False)
        pipe.save(opened, name=NAME, overwrite=True)
        mc.apply(opened, name=NAME, slides=slides, overwrite=True)
    return clock.seconds


def plain_chain(study: Path, slides: list[str]) -> float:
    """Do the same as one would with dask.array and scikit-learn: moments, then incremental PCA, then the features."""
    import dask
    import dask.array as da
    import numpy as np
    import zarr
    from sklearn.decomposition import IncrementalPCA

    import msicube as mc

    forget(study)
    opened = mc.open_study(study)
    label = opened.samples.loc[slides, "label"].to_numpy()
    with Clock() as clock:
        parts = []
        for name in slides:
            array = zarr.open_array(f"{opened.path}/{name}/intensity", mode="r")
            spectra = da.from_zarr(array, chunks=array.shards).reshape(-1, CHANNELS)
            spectra = spectra[opened.acquired(name).ravel()]
            parts.append(da.log1p(spectra / spectra.sum(axis=1, keepdims=True)))
        sums = [part.astype(np.float64).sum(axis=0) for part in parts]
        squares = [(part.astype(np.float64) ** 2).sum(axis=0) for part in parts]
        counts = np.array([opened.acquired(name).sum() for name in slides])[:, None]
        sums, squares = (np.array(found) for found in dask.compute(sums, squares))
        mean = sums.sum(axis=0) / counts.sum()
        scale = np.sqrt(squares.sum(axis=0) / counts.sum() - mean**2)
        of_class = [
            sums[label == name].sum(axis=0) / counts[label == name].sum() for name in np.unique(label)
        ]
        best = np.sort(np.argsort(np.abs(of_class[1] - of_class[0]) / scale)[-100:])
        model = IncrementalPCA(3)
        scaled = [((part - mean) / scale)[:, best].astype(np.float32) for part in parts]
        for part in scaled:
            for block in part.blocks:
                model.partial_fit(block.compute())
        for name, part in zip(slides, scaled, strict=True):
            features = np.full((*opened.acquired(name).shape, 3), np.nan, np.float32)
            features[opened.acquired(name)] = model.transform(part.compute())
            zarr.save(str(study.with_name("plain.zarr") / name), features)
    shutil.rmtree(study.with_name("plain.zarr"))
    return clock.seconds


def stream(study: Path) -> float:
    """Stream all spectra of the study, shuffled, once, with a budget of 1 GiB."""
    import msicube as mc

    forget(study)
    batches = mc.SpectrumStream(mc.open_study(study), batch_size=256, memory="1 GiB")
    with Clock() as clock:
        for _ in batches:
            pass
    return clock.seconds


def run(work: Path) -> None:
    """Build the study, which takes a quarter of an hour and 20 GB of disk, and print the figures."""
    import msicube as mc

    console = Console(width=None if Console().is_terminal else 120)
    console.print(machine())
    study = build(work)
    slides = list(mc.open_study(study).slides)
    few = next(slides[:n] for n in range(1, len(slides)) if spectrum_bytes(study, slides[:n]) >= PART)
    rows: list[Measurement] = []
    for part in (few, slides):
        size = spectrum_bytes(study, part)
        title = f"{size / 1e9:.0f} GB"
        for what, step in (("read", read), ("fit and apply the chain", fit_and_apply)):
            rows.append(measure(f"{title}: {what}", step, study, part, amount=size, unit="B", runs=1))
    some = slides[:BATCH]  # of all slides it would take ten minutes
    size = spectrum_bytes(study, some)
    title = f"{size / 1e9:.0f} GB: the chain in dask.array"
    rows.append(measure(title, plain_chain, study, some, amount=size, unit="B", runs=1))
    size = spectrum_bytes(study)
    title = f"{size / 1e9:.0f} GB: stream, shuffled"
    rows.append(measure(title, stream, study, amount=size, unit="B", runs=1))
    stored = sum(path.stat().st_size for path in study.rglob("*") if path.is_file())
    console.print(f"{len(slides)} slides, {size / 1e9:.1f} GB of spectra, {stored / 1e9:.1f} GB on the disk")
    show(console, rows)
    console.print(f"Figures: {save('large', rows)}")


def show(console: Console, rows: list[Measurement]) -> None:
    """Print the rows."""
    table = Table("", "s", "CPU s", "MB/s", "spectra/s", "peak MB")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.rate / 1e6:.0f}",
            f"{row.rate / CHANNELS / 4:,.0f}",
            f"{row.peak_bytes / 1e6:.0f}",
        )
    console.print(table)
