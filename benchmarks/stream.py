"""Spectra and patches for training, beside reading in order and beside other loaders."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.chain import read_through
from benchmarks.harness import Clock, Measurement, machine, measure, save
from benchmarks.stream_peers import (
    ARROW,
    MDS,
    READ_ZARR,
    WEBDATASET,
    WRITE_ARROW,
    WRITE_MDS,
    WRITE_WEBDATASET,
    ZARR,
)

CHANNELS, SHAPE, SLIDES = 1024, (160, 160), 8
#: Of whole patches and of images.
LARGE_SHAPE, LARGE_SLIDES = (512, 512), 2
CODECS = ("zstd", "pcodec")
#: Spectra that the slowest peer is given; the others read all.
ZARR_PART = 1024
STEP = 0.02


def spectra(study: Path, memory: str) -> float:
    import msicube as mc

    stream = mc.SpectrumStream(mc.open_study(study), batch_size=256, memory=memory)
    next(iter(stream))
    with Clock() as clock:
        for _ in stream:
            pass
    return clock.seconds


def patches(study: Path, options: dict[str, Any]) -> float:
    import msicube as mc

    stream = mc.PatchStream(mc.open_study(study), size=32, batch_size=32, memory="512 MiB", **options)
    for _ in stream:  # those of few channels are in memory after an epoch
        if not options.get("variable"):
            break
    with Clock() as clock:
        for _ in stream:
            pass
    return clock.seconds * 1000 / stream.n_samples  # of a thousand, whatever the number of patches


def image(study: Path) -> float:
    import msicube as mc

    opened = mc.open_study(study)
    cube = opened.cube(opened.slides[0])
    cube[:, :, 7]
    with Clock() as clock:
        cube[:, :, CHANNELS // 2]
    return clock.seconds


def write_pool(study: Path, target: Path) -> float:
    import msicube as mc

    shutil.rmtree(target, ignore_errors=True)
    with Clock() as clock:
        mc.pool(study, target, memory="256 MiB")
    return clock.seconds


def resume() -> float:
    """Find the place in the middle of an epoch of ten million samples, and what has to be read from there."""
    from msicube.stream.plan import plan_epoch

    counts = np.full(10_000_000 // 256 + 1, 256)
    with Clock() as clock:
        plan = plan_epoch(counts, global_batch=256, deck=20_000, seed=3, epoch=7)
        steps = range(plan.n_steps // 2, plan.n_steps)
        lanes = plan.of_rank(0, 1)
        for lane, index in plan.schedule(lanes, steps)[: len(lanes)]:
            plan.deck(lane, index)
            plan.needed(lane, index, steps)
    return clock.seconds


def step(study: Path) -> float:
    """Return the seconds that the loader adds to a thousand training steps of 20 ms."""
    import msicube as mc

    stream = mc.SpectrumStream(mc.open_study(study), batch_size=256, memory="256 MiB")
    iterator, waited = iter(stream), []
    next(iterator)
    time.sleep(1)
    for _ in range(200):
        start = time.perf_counter()
        next(iterator)
        waited.append(time.perf_counter() - start)
        time.sleep(STEP)
    iterator.close()  # type: ignore[attr-defined]
    return float(np.mean(waited)) * 1000


def mixing(study: Path, memory: str) -> tuple[float, float]:
    """Return the variance of batch means over that of independent draws, measured and estimated."""
    import msicube as mc

    stream = mc.SpectrumStream(mc.open_study(study), batch_size=256, memory=memory)
    totals, means = [], []
    for epoch in range(4):
        stream.set_epoch(epoch)
        for batch in stream:
            if batch["weight"].all():
                totals.append(batch["spectra"].sum(dim=1).double().numpy())
                means.append(totals[-1].mean())
    measured = np.var(means) / (np.concatenate(totals).var() / 256)
    return float(measured), stream.mixing()


def make_studies(work: Path) -> dict[str, tuple[Path, Path]]:
    """Simulate many slides and a few large ones, and convert both with each codec; by codec, where they are."""
    import msicube as mc

    found: dict[str, list[Path]] = {codec: [] for codec in CODECS}
    for name, slides, shape in (("study", SLIDES, SHAPE), ("large", LARGE_SLIDES, LARGE_SHAPE)):
        source = work / f"{name}-source"
        mc.simulate_msi(source, slides=slides, shape=shape, channels=CHANNELS, overwrite=True)
        for codec in CODECS:
            found[codec].append(work / f"{name}-{codec}.zarr")
            shutil.rmtree(found[codec][-1], ignore_errors=True)
            mc.convert(source, found[codec][-1], samples=source / "samples.csv", codec=codec)
        shutil.rmtree(source)
    return {codec: (one, other) for codec, (one, other) in found.items()}


def run(work: Path) -> None:
    """Simulate a study of about 600 MB, stream it, and give the same spectra to the peers."""
    import msicube as mc

    console = Console(width=None if Console().is_terminal else 130)
    console.print(machine())
    studies, pool = make_studies(work), work / "pool.zarr"
    study = studies["zstd"][0]
    opened = mc.open_study(study)
    n = int(sum(opened.acquired(name).sum() for name in opened.slides))
    console.print(
        f"{SLIDES} slides, {n} spectra x {CHANNELS} channels, batches of 256, {n * CHANNELS * 4 / 1e6:.0f} MB; patches "
        f"and images of {LARGE_SLIDES} slides of {LARGE_SHAPE[0]} x {LARGE_SHAPE[1]}"
    )
    rows: list[Measurement | str] = []
    for codec, (path, large) in studies.items():
        whole, crops = f"{codec}: patches 32 x 32 x {CHANNELS}", {"crops": 150}
        rows += [
            measure(f"{codec}: every tile in order", read_through, path, amount=n, unit="spectra"),
            measure(f"{codec}: shuffled, 256 MiB", spectra, path, "256 MiB", amount=n, unit="spectra"),
            measure(f"{whole}, aligned", patches, large, {}, amount=1000, unit="patches"),
            measure(f"{whole}, random places", patches, large, crops, amount=1000, unit="patches"),
            measure(f"{codec}: one channel of 512 x 512", image, large, amount=1, unit="images"),
        ]
    pipe = mc.Pipeline([mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.PCA(3)])
    pipe.fit(opened, slides=opened.slides, allow_test=True).save(opened, name="bench", overwrite=True)
    mc.apply(opened, name="bench", overwrite=True)
    features = {"variable": "bench", "stride": 2}
    rows += [
        measure("patches 32 x 32 x 3 of a pipeline", patches, study, features, amount=1000, unit="patches"),
        measure("write a pool", write_pool, study, pool, amount=n, unit="spectra"),
        measure("pool: shuffled, 64 MiB", spectra, pool, "64 MiB", amount=n, unit="spectra"),
        measure("resume in the middle of 10 million samples", resume, amount=1, unit="times"),
        measure("wait of 1000 steps of 20 ms", step, study, amount=1, unit="times"),
    ]
    rows += _peers(opened, work, n)
    show(console, rows)
    for path, memory in ((study, "64 MiB"), (study, "256 MiB"), (pool, "64 MiB")):
        measured, estimated = mixing(path, memory)
        console.print(f"mixing, {path.stem}, {memory}: {measured:.2f} measured, {estimated:.2f} estimated")
    console.print(f"Figures: {save('stream', [row for row in rows if isinstance(row, Measurement)])}")


def _peers(study: Any, work: Path, n: int) -> list[Measurement | str]:
    """Give the acquired spectra to each peer in its own format; the second of its runs, when it is written, counts."""
    plain = work / "spectra.npy"
    spectra = np.lib.format.open_memmap(plain, mode="w+", dtype=np.float32, shape=(n, CHANNELS))
    done = 0
    for name in study.slides:
        found = study.cube(name)[...][study.acquired(name)]
        spectra[done : done + len(found)] = found
        done += len(found)
    spectra.flush()
    found_rows: list[Measurement | str] = []
    for peer, code in ((MDS, WRITE_MDS), (WEBDATASET, WRITE_WEBDATASET), (ARROW, WRITE_ARROW)):
        target = work / f"peer-{peer.name}"
        shutil.rmtree(target, ignore_errors=True)
        row = peer.measure("shuffled", code, plain, target, amount=n, unit="spectra")
        found_rows.append(row if isinstance(row, Measurement) else f"{peer.name}: {row}")
    row = ZARR.measure("one by one", READ_ZARR, study.path, ZARR_PART, amount=ZARR_PART, unit="spectra")
    return [*found_rows, row if isinstance(row, Measurement) else f"zarr: {row}"]


def show(console: Console, rows: list[Measurement | str]) -> None:
    """Print the rows."""
    table = Table("", "s", "a second", "a CPU second", "peak MB")
    for row in rows:
        if isinstance(row, str):
            table.add_row(row)
            continue
        table.add_row(
            row.name,
            f"{row.seconds:.3f}",
            f"{row.rate:,.0f} {row.unit}" if row.amount > 1 else "",
            f"{row.amount / row.cpu_seconds:,.0f}" if row.amount > 1 else "",
            f"{row.peak_bytes / 1e6:.0f}",
        )
    console.print(table)
