"""Giving a slide back as an imzML pair with the same numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.readers.ragged import runs
from msicube.store import CubeArray, Study, open_study
from msicube.store.peaks import StoredPeaks
from msicube.tiling import Window
from msicube.writers import ImzMLWriter

#: Bytes of spectra in memory at a time.
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes
    ----------
    slide
        Name.
    path
        The .imzML; the .ibd lies beside it.
    origin
        ``"peaks"`` or ``"intensity"``: where the numbers come from.
    spectra
        How many.
    remarks
        What the file says otherwise than the source did.
    """

    slide: str
    path: str
    origin: str
    spectra: int
    remarks: tuple[str, ...] = ()


def export(
    study: Study | str | os.PathLike[str],
    slide: str,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> ExportReport:
    """Write a slide as imzML, its spectra in the order of the source.

    A slide of continuous data is written from its intensities, bit for bit; one of processed data from its peaks, bit
    for bit, where they are kept, and from its binned intensities as a continuous file where they are not, which the
    report says. Positions, pixel size, polarity, representation and number types are those of the source. Both files
    appear complete or not at all, and memory does not grow with the slide.

    Parameters
    ----------
    study
        An open study, its path or URL.
    slide
        Which.
    path
        The ``.imzML`` file; the ``.ibd`` comes beside it.
    overwrite
        Replace a pair that is there already.

    Returns
    -------
    ExportReport

    Raises
    ------
    UsageError
        The slide is no mass-spectrometry image, or the files are there already.
    CorruptStore
        A shard is missing or damaged.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    if opened.modality != "msi":
        raise UsageError(
            f"{opened.path} holds slides of modality {opened.modality}: imzML is for mass spectra"
        )
    pixels = _pixels(opened.small(slide, "spectrum_index"))
    peaks = opened.peaks(slide)
    remarks: list[str] = []
    attrs = opened.slide_attrs[slide]
    origin = _origin(attrs["source"], remarks)
    options = _options(opened, slide, remarks)
    shape = (opened.acquired(slide).shape[0] + origin[0], opened.acquired(slide).shape[1] + origin[1])
    if peaks is not None:
        mz, values = _types(attrs["source"], peaks.mz_dtype, peaks.intensity_dtype, remarks)
        writer = ImzMLWriter(
            Path(path),
            shape=shape,
            mode="processed",
            mz_dtype=mz,
            intensity_dtype=values,
            overwrite=overwrite,
            **options,
        )
        with writer:
            _write_peaks(writer, peaks, pixels, origin)
    else:
        cube, axis = opened.cube(slide), opened.axis(slide)
        if (
            attrs["source"].get("mode") == "processed"
            and "channel_lower" in (opened.location / slide).children()
        ):
            remarks.append("no peaks are kept: these are the binned spectra, as a continuous file")
            mz, values = _types({}, axis.dtype, cube.dtype, remarks)
        else:
            mz, values = _types(attrs["source"], axis.dtype, cube.dtype, remarks)
        writer = ImzMLWriter(
            Path(path),
            shape=shape,
            mz=axis,
            mz_dtype=mz,
            intensity_dtype=values,
            overwrite=overwrite,
            **options,
        )
        with writer:
            for block, spectra in _blocks(cube, pixels):
                writer.write_block(block[:, 0] + origin[0], block[:, 1] + origin[1], spectra)
    return ExportReport(
        slide, str(path), "peaks" if peaks is not None else "intensity", len(pixels), tuple(remarks)
    )


def _pixels(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(spectrum, 3)``: y, x and the number in the source of each spectrum, in the order of the source."""
    y, x = np.nonzero(index >= 0)
    numbers = index[y, x]
    order = np.argsort(numbers, kind="stable")
    return np.stack([y, x, numbers], axis=1)[order]


def _write_peaks(
    writer: ImzMLWriter, peaks: StoredPeaks, pixels: NDArray[np.int64], origin: tuple[int, int]
) -> None:
    chosen = peaks.take(pixels[:, 2])
    for start, stop in runs(chosen.lengths):
        y, x = pixels[start:stop, 0] + origin[0], pixels[start:stop, 1] + origin[1]
        writer.write_ragged(y, x, *chosen.read(start, stop), chosen.lengths[start:stop])


def _blocks(cube: CubeArray, pixels: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield pixels in order and their spectra, ``(spectrum, channel)``, a bounded number at a time."""
    step = max(1, BLOCK_BYTES // (cube.shape[2] * cube.dtype.itemsize))
    cell = np.array(cube.cell)
    for start in range(0, len(pixels), step):
        block = pixels[start : start + step]
        spectra = np.empty((len(block), cube.shape[2]), cube.dtype)
        places, member = np.unique(block[:, :2] // cell, axis=0, return_inverse=True)
        for number in range(len(places)):
            # One read for each cell that holds a pixel of the block, and of it only the rows and columns needed.
            rows = np.flatnonzero(member.reshape(-1) == number)
            y, x = block[rows, 0], block[rows, 1]
            window = Window(int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1)
            spectra[rows] = cube.read(window)[y - window.y0, x - window.x0]
        yield block, spectra


def _origin(source: dict[str, Any], remarks: list[str]) -> tuple[int, int]:
    """Return the first row and column of the grid in the file, from 0; imzML counts from 1."""
    found = source.get("origin", {"y": 1, "x": 1})
    y, x = int(found["y"]) - 1, int(found["x"]) - 1
    if source.get("planes", 1) > 1:
        remarks.append(f"one plane of {source['planes']}: the position z = {found['z']} is left out")
    if min(y, x) < 0:
        remarks.append(
            f"positions begin at x = 1, y = 1 rather than at x = {x + 1}, y = {y + 1}: imzML counts from 1"
        )
    return max(y, 0), max(x, 0)


def _options(study: Study, slide: str, remarks: list[str]) -> dict[str, Any]:
    """Return what the writer is told of the acquisition."""
    attrs = study.slide_attrs[slide]
    size, source = attrs["pixel_size"], attrs["source"]
    polarity, representation = source.get("polarity"), source.get("representation")
    if polarity not in (None, "positive", "negative"):
        remarks.append(f"the polarity is left out: the source has {polarity}")
        polarity = None
    if representation not in (None, "profile", "centroid"):
        remarks.append(f"the representation is left out: the source has {representation}")
        representation = None
    return {
        "pixel_size": (size["y"], size["x"]) if size else None,
        "polarity": polarity,
        "representation": representation,
    }


def _types(
    source: dict[str, Any], mz: np.dtype[Any], intensity: np.dtype[Any], remarks: list[str]
) -> tuple[str, str]:
    """Return the number types to write: the source's, or the next wider one that the writer has."""
    wanted = (np.dtype(source.get("mz_dtype", mz)), np.dtype(source.get("intensity_dtype", intensity)))
    types = []
    for what, dtype in zip(("m/z", "intensity"), wanted, strict=True):
        candidates = ("float32", "float64") if dtype.kind == "f" else ("int32", "int64")
        name = next((name for name in candidates if np.can_cast(dtype, name, "safe")), candidates[-1])
        if name != dtype.name:
            remarks.append(
                f"{what} is written as {name}, the source has {dtype.name}: the numbers are the same"
            )
        types.append(name)
    return types[0], types[1]
