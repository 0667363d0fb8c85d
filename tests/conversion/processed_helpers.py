"""A processed imzML file with all that such a file may have, and the bytes of a study."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.writers import ImzMLWriter

Spectra = list[tuple[NDArray[Any], NDArray[Any]]]


def write_processed(
    path: Path,
    *,
    shape: tuple[int, int] = (9, 11),
    seed: int = 0,
    low: float = 100.0,
    high: float = 900.0,
    mean: int = 60,
    mz_dtype: str = "float64",
    intensity_dtype: str = "float32",
    order: str = "rows",
    polarity: Any = "positive",
) -> Spectra:
    """Write spectra of different lengths, some of them empty or unsorted, some pixels without any; return them."""
    rng = np.random.default_rng(seed)
    places = np.argwhere(rng.random(shape) < 0.9)
    if order == "random":
        rng.shuffle(places)
    spectra: Spectra = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with ImzMLWriter(
        path,
        shape=shape,
        mode="processed",
        representation="centroid",
        mz_dtype=mz_dtype,
        intensity_dtype=intensity_dtype,
        pixel_size=(40.0, 50.0),
        polarity=polarity,
    ) as writer:
        for number, (y, x) in enumerate(places):
            length = 0 if number % 17 == 3 else int(rng.poisson(mean))
            mz = rng.uniform(low, high, length).astype(mz_dtype)
            if number % 5:
                mz.sort()
            intensity = (rng.random(length) * 1000).astype(intensity_dtype)
            writer.write(int(y), int(x), intensity, mz)
            spectra.append((mz, intensity))
    return spectra


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a study but the root's metadata, which holds the time."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "zarr.json"
    }
