"""A simulated FTIR study of breast tissue: Agilent mosaics, the samples table, and the truth beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube import __version__
from msicube.errors import UsageError
from msicube.simulate.ftir_bands import (
    AMOUNT_EFFECTS,
    AMOUNTS,
    BANDS,
    CLASSES,
    COMPARTMENTS,
    LORENTZIAN_SHARE,
    MOLECULES,
    PARAFFIN_BANDS,
    SHIFT_EFFECTS,
    Band,
    discriminates,
    paraffin_spectrum,
    pure_spectra,
    vapour_spectrum,
)
from msicube.simulate.ftir_design import design_cores
from msicube.simulate.ftir_parameters import FTIRParameters, default_tile_size
from msicube.simulate.ftir_slide import FTIRSlideModel, FTIRStudyModel
from msicube.simulate.ftir_tissue import PARAFFIN, TISSUE, runs, unrolled
from msicube.simulate.output import (
    SAMPLES_NAME,
    TRUTH_NAME,
    SimulationReport,
    SlideReport,
    prepare_folder,
    write_samples,
    write_text,
)
from msicube.writers.agilent import AgilentMosaicWriter

#: Written into every file: the same arguments shall give the same bytes.
_TIME = datetime(2020, 1, 1, 12, 0, 0)
_DIGITS = 7


def simulate_ftir(
    out: str | Path,
    *,
    slides: int = 16,
    seed: int = 0,
    shape: tuple[int, int] = (320, 320),
    wavenumbers: tuple[float, float] = (900.0, 1800.0),
    class_difference: float = 1.0,
    cores: int = 2,
    patient_effect: float = 1.0,
    scatter: float = 1.0,
    noise: float = 1.0,
    dead_pixels: float = 0.002,
    holes: int = 2,
    pixel_size: float = 5.5,
    tile_size: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> SimulationReport:
    """Write a realistic micro-FTIR study of breast cancer and adjacent tissue as Agilent mosaics, with its truth.

    Cores of tissue in paraffin on an empty slide; bands of proteins, lipids, nucleic acids, glycogen and
    collagen whose strength and position depend on the class (adjacent, luminal A, luminal B, HER2,
    triple-negative), on the patient and on the place; thickness, scatter, an uneven baseline, water vapour,
    noise, and dead elements of the detector. Memory depends neither on ``shape`` nor on ``slides``: it is
    three tiles. The same arguments give the same bytes, and a slide does not depend on how many others there
    are.

    Parameters
    ----------
    out
        Folder, made where needed: a folder ``<slide>`` with its ``.dmt`` and ``.dmd`` for each,
        ``samples.csv``, ``truth.json``.
    slides
        Number of cores of all patients.
    seed
        Of all random numbers.
    shape
        ``(y, x)`` of every slide in pixels, each at least 8 and a multiple of ``tile_size``. About 40 % is
        tissue.
    wavenumbers
        First and last, in cm^-1; the channels are those of the instrument in between, 1.928 cm^-1 apart. 900
        to 1800 are 467 channels; 850 to 3900 are 1,582 and hold paraffin's strongest bands.
    class_difference
        Factor on the effects of the classes. At 0 they do not differ at all.
    cores
        Of each patient. The last of them is adjacent tissue, the others are of the patient's subtype.
    patient_effect
        Factor on the differences between patients and between slides; 0 for none.
    scatter, noise
        Factors on scatter and baselines, and on the noise; 0 for none.
    dead_pixels
        Share of the detector's elements that see nothing; they are at the same place in every tile.
    holes
        In the tissue of each slide; paraffin fills them.
    pixel_size
        In micrometre.
    tile_size
        Edge of a tile in pixels: 2, 4, ..., 128. None takes the largest up to 64 that fits: 5 x 5 tiles of 64
        for 320 x 320.
    overwrite
        Replace slides of the same names.
    progress
        Called with the name of each slide when it is done.

    Returns
    -------
    SimulationReport
        With one row for each slide.

    Raises
    ------
    UsageError
        An argument out of its range, or files that are there already.
    """
    shape = (int(shape[0]), int(shape[1]))
    parameters = FTIRParameters(
        slides=slides,
        seed=seed,
        shape=shape,
        wavenumbers=(float(wavenumbers[0]), float(wavenumbers[1])),
        class_difference=class_difference,
        cores=cores,
        patient_effect=patient_effect,
        scatter=scatter,
        noise=noise,
        dead_pixels=dead_pixels,
        holes=holes,
        pixel_size=pixel_size,
        tile_size=default_tile_size(shape) if tile_size is None else tile_size,
    )
    folder, designs = Path(out), design_cores(slides, cores=cores, seed=seed)
    study = FTIRStudyModel.draw(parameters)
    prepare_folder(folder, [folder / design.name for design in designs], overwrite=overwrite)
    reports, truths = [], {}
    for design in designs:
        slide = FTIRSlideModel.draw(study, design)
        reports.append(_write_slide(slide, folder, overwrite))
        truths[design.name] = _slide_truth(slide)
        if progress is not None:
            progress(design.name)
    rows = [list(design.row.values()) for design in designs]
    write_samples(folder / SAMPLES_NAME, list(designs[0].row), rows)
    truth = {**_study_truth(study), "slides": truths}
    write_text(folder / TRUTH_NAME, json.dumps(truth) + "\n")
    n_channels = parameters.axis.n_channels
    return SimulationReport(folder, folder / SAMPLES_NAME, folder / TRUTH_NAME, tuple(reports), n_channels)


def ftir_masks(truth: str | os.PathLike[str], slide: str) -> dict[str, NDArray[np.bool_]]:
    """Return where a simulated slide has tissue, where only paraffin, and where the detector is dead.

    Parameters
    ----------
    truth
        The study's ``truth.json``.
    slide
        Name of the slide.

    Returns
    -------
    dict
        ``tissue``, ``paraffin`` and ``dead``, each ``(y, x)`` bool with the top row first. Tissue holds
        paraffin, too; ``paraffin`` is where there is no tissue. Neither of them says anything of dead pixels.

    Raises
    ------
    UsageError
        No such file, or no such slide in it.
    """
    try:
        document = json.loads(Path(truth).read_text(encoding="utf-8"))
        regions = document["slides"][slide]["regions"]
        listed, parameters = document["dead_pixels"], document["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{truth} does not tell the masks of {slide!r}: {error!r}") from error
    shape, edge = parameters["shape"], parameters["tile_size"]
    tile = np.zeros((edge, edge), dtype=bool)
    tile[tuple(np.array(listed, dtype=np.intp).reshape(-1, 2).T)] = True
    masks = {name: unrolled(where, (shape[0], shape[1])) for name, where in regions.items()}
    return {**masks, "dead": np.tile(tile, (shape[0] // edge, shape[1] // edge))}


def _write_slide(slide: FTIRSlideModel, folder: Path, overwrite: bool) -> SlideReport:
    parameters, design = slide.study.parameters, slide.design
    writer = AgilentMosaicWriter(
        folder / design.name,
        tiles=parameters.tiles,
        tile_size=parameters.tile_size,
        axis=parameters.axis,
        pixel_size=parameters.pixel_size,
        time=_TIME,
        overwrite=overwrite,
    )
    with writer:
        slide.write(writer)
    return SlideReport(
        name=design.name,
        label=design.label,
        patient=design.patient_name,
        split=design.split,
        path=writer.path,
        n_spectra=parameters.shape[0] * parameters.shape[1],
        n_bytes=sum(path.stat().st_size for path in writer.folder.iterdir()),
    )


def _study_truth(study: FTIRStudyModel) -> dict[str, Any]:
    """Return what is true of every slide."""
    wavenumber, axis = study.wavenumber, study.parameters.axis
    strength = study.parameters.class_difference
    pure = dict(zip(MOLECULES, pure_spectra(wavenumber), strict=True))
    pure |= {"paraffin": paraffin_spectrum(wavenumber), "water vapour": vapour_spectrum(wavenumber)}
    return {
        "msicube": __version__,
        "modality": "ftir",
        "parameters": asdict(study.parameters),
        "wavenumber": {
            "step": axis.step,
            "start": axis.start,
            "n_channels": axis.n_channels,
            "units": "cm^-1",
        },
        "classes": CLASSES,
        "logarithms": "natural",
        "involvement": COMPARTMENTS,
        "amounts": {
            molecule: dict(zip(COMPARTMENTS, amounts, strict=True)) for molecule, amounts in AMOUNTS.items()
        },
        "band_shape": {"lorentzian": LORENTZIAN_SHARE, "gaussian": 1 - LORENTZIAN_SHARE},
        "bands": [_band_truth(band, strength) for band in BANDS],
        "paraffin_bands": [asdict(band) for band in PARAFFIN_BANDS],
        "pure_spectra": {name: _rounded(spectrum) for name, spectrum in pure.items()},
        "dead_pixels": np.argwhere(study.dead).tolist(),
    }


def _band_truth(band: Band, strength: float) -> dict[str, Any]:
    """Return a band and how each class changes it: the log fold change in epithelium, and the shift in cm^-1."""
    return {
        **asdict(band),
        "interval": band.interval,
        "discriminates": bool(strength) and discriminates(band),
        "log_fold_change": {
            label: strength * AMOUNT_EFFECTS.get(label, {}).get(band.molecule, 0.0) for label in CLASSES
        },
        "shift": {label: strength * SHIFT_EFFECTS.get(label, {}).get(band.name, 0.0) for label in CLASSES},
    }


def _slide_truth(slide: FTIRSlideModel) -> dict[str, Any]:
    """Return what is true of one slide besides its study."""
    (ny, nx), edge = slide.study.parameters.shape, slide.study.parameters.tile_size
    regions: dict[str, list[int]] = {"tissue": [], "paraffin": []}
    for first in range(0, ny, edge):
        found = slide.core.regions(range(first, first + edge), range(nx))
        regions["tissue"] += runs(found == TISSUE, first=first * nx)
        regions["paraffin"] += runs(found == PARAFFIN, first=first * nx)
    return {
        **{name: value for name, value in slide.design.row.items() if name != "slide"},
        "regions": regions,
        "amounts": {
            molecule: dict(zip(COMPARTMENTS, _rounded(amounts), strict=True))
            for molecule, amounts in zip(MOLECULES, slide.amounts.T, strict=True)
        },
        "shifts": {name: round(shift, _DIGITS) for name, shift in slide.shifts.items()},
        "water_vapour": round(slide.vapour, _DIGITS),
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    rounded: list[float] = np.round(values, _DIGITS).tolist()
    return rounded
