"""A simulated MALDI study: imzML pairs, the samples table, and the truth beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from msicube import __version__
from msicube.simulate.analytes import COMPARTMENTS
from msicube.simulate.design import design_study
from msicube.simulate.output import (
    SAMPLES_NAME,
    TRUTH_NAME,
    SimulationReport,
    SlideReport,
    prepare_folder,
    write_samples,
    write_text,
)
from msicube.simulate.parameters import Parameters
from msicube.simulate.slide import SlideModel, StudyModel
from msicube.simulate.spectra import TAIL_DELAY, TAIL_SHARE, TAIL_WIDTH
from msicube.writers.imzml import ImzMLWriter, Mode, Representation, imzml_pair
from msicube.writers.imzml_xml import CVParam, Instrument

_INSTRUMENT = Instrument(
    source=CVParam("MS:1000075", "matrix-assisted laser desorption ionization"),
    analyzer=CVParam("MS:1000084", "time-of-flight"),
    detector=CVParam("MS:1000253", "electron multiplier"),
)


def simulate_msi(
    out: str | Path,
    *,
    slides: int = 20,
    seed: int = 0,
    shape: tuple[int, int] = (96, 96),
    channels: int = 1000,
    mz_range: tuple[float, float] = (700.0, 900.0),
    resolution: float = 2000.0,
    mode: Mode = "continuous",
    representation: Representation = "profile",
    class_difference: float = 1.0,
    patients: int | None = None,
    ions: int = 120,
    markers: int = 24,
    patient_effect: float = 1.0,
    batch_effect: float = 1.0,
    holes: int = 2,
    pixel_size: float = 50.0,
    mz_dtype: DTypeLike = "float64",
    intensity_dtype: DTypeLike = "float32",
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> SimulationReport:
    """Write a realistic MALDI-TOF study of tumour and normal tissue as imzML pairs, with its truth.

    Lipid or peptide ions with isotopes and the peaks of a time-of-flight instrument, chemical and electronic noise,
    shot noise and a baseline; tissue with an outline, holes and compartments that differ; a signal that varies from
    pixel to pixel; patients and slides that differ by more than their class. Memory depends neither on ``shape`` nor on
    ``slides``. The same arguments give the same bytes, and a slide does not depend on how many others there are.

    Parameters
    ----------
    out
        Folder, made where needed: ``<slide>.imzML`` and ``.ibd``, ``samples.csv``, ``truth.json``.
    slides
        Their number. From four on, patients are split into train and test with both classes in each.
    seed
        Of all random numbers.
    shape
        ``(y, x)`` of every slide in pixels, each at least 8. About two thirds hold tissue and are measured.
    channels
        Of a profile, evenly spaced in time of flight; for centroids it sets the detector's sampling only.
    mz_range
        First and last m/z.
    resolution
        ``m / FWHM`` in the middle of the range.
    mode
        ``continuous``, or ``processed``: baseline removed, and only the points above the noise are kept.
    representation
        ``profile``, or ``centroid``: areas of what the instrument resolves, in a processed file with mass errors.
    class_difference
        Factor on the log fold changes of the tumour's markers. At 0 the classes do not differ at all.
    patients
        Their number; None takes three for every five slides. A patient's slides alternate between the classes and are
        all in one split.
    ions, markers
        How many ions there are, and how many of them mark the tumour.
    patient_effect, batch_effect
        Factors on the differences between patients and between slides; 0 for none.
    holes
        In the tissue of each slide.
    pixel_size
        In micrometres.
    mz_dtype, intensity_dtype
        Types in the files.
    overwrite
        Replace files of the same names.
    progress
        Called with the name of each slide when it is done.

    Raises
    ------
    UsageError
        An argument out of its range, or files that are there already.
    """
    parameters = Parameters(
        slides=slides,
        seed=seed,
        shape=(int(shape[0]), int(shape[1])),
        channels=channels,
        mz_range=(float(mz_range[0]), float(mz_range[1])),
        resolution=resolution,
        mode=mode,
        representation=representation,
        class_difference=class_difference,
        patients=patients,
        ions=ions,
        markers=markers,
        patient_effect=patient_effect,
        batch_effect=batch_effect,
        holes=holes,
        pixel_size=pixel_size,
        mz_dtype=_type_name(mz_dtype),
        intensity_dtype=_type_name(intensity_dtype),
    )
    folder, designs = Path(out), design_study(slides, patients=patients, seed=seed)
    study = StudyModel.draw(parameters)
    pairs = [imzml_pair(folder / f"{design.name}.imzML") for design in designs]
    prepare_folder(folder, [path for pair in pairs for path in pair], overwrite=overwrite)
    reports, truths = [], {}
    for design in designs:
        slide = SlideModel.draw(study, design)
        reports.append(_write_slide(slide, folder, overwrite))
        truths[design.name] = _slide_truth(slide)
        if progress is not None:
            progress(design.name)
    rows = [(slide.name, slide.label, slide.patient, slide.split) for slide in reports]
    write_samples(folder / SAMPLES_NAME, ("slide", "label", "patient", "split"), rows)
    truth = {**_study_truth(study), "slides": truths}
    write_text(folder / TRUTH_NAME, json.dumps(truth, indent=1) + "\n")
    return SimulationReport(
        folder, folder / SAMPLES_NAME, folder / TRUTH_NAME, tuple(reports), n_channels=len(study.mz)
    )


def _type_name(dtype: DTypeLike) -> str:
    """Return the name of a type; what is none is named for the error message."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def _write_slide(slide: SlideModel, folder: Path, overwrite: bool) -> SlideReport:
    parameters, design = slide.study.parameters, slide.design
    writer = ImzMLWriter(
        folder / f"{design.name}.imzML",
        shape=parameters.shape,
        mode=parameters.mode,
        representation=parameters.representation,
        mz=slide.study.mz if parameters.mode == "continuous" else None,
        mz_dtype=parameters.mz_dtype,
        intensity_dtype=parameters.intensity_dtype,
        pixel_size=(parameters.pixel_size, parameters.pixel_size),
        polarity="positive",
        instrument=_INSTRUMENT,
        uuid=slide.uuid,
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
        n_spectra=writer.n_spectra,
        n_bytes=writer.path.stat().st_size + writer.ibd_path.stat().st_size,
    )


def _study_truth(study: StudyModel) -> dict[str, Any]:
    """Return what is true of every slide, in the words of the arguments."""
    chemistry, axis = study.chemistry, study.axis
    strength = study.parameters.class_difference
    ions = [
        {"name": name, "mz": mz, "abundance": dict(zip(COMPARTMENTS, abundance, strict=True))}
        for name, mz, abundance in zip(
            chemistry.names, chemistry.mz.tolist(), np.exp(chemistry.log_abundance).T.tolist(), strict=True
        )
    ]
    markers = [
        {
            "name": chemistry.names[i],
            "mz": float(chemistry.mz[i]),
            "log_fold_change": strength * float(effect),
        }
        for i, effect in enumerate(chemistry.effect)
        if effect
    ]
    return {
        "msicube": __version__,
        "parameters": asdict(study.parameters),
        "peak_shape": {
            "kind": "normal with a late tail, of constant width in sqrt(m/z)",
            "sigma_sqrt_mz": axis.sigma,
            "tail": {"share": TAIL_SHARE, "delay_sigma": TAIL_DELAY, "width_sigma": TAIL_WIDTH},
        },
        "logarithms": "natural",
        "tumour_involvement": COMPARTMENTS,
        "markers": markers,
        "ions": ions,
    }


def _slide_truth(slide: SlideModel) -> dict[str, Any]:
    """Return what is true of one slide besides its study."""
    return {
        "label": slide.design.label,
        "patient": slide.design.patient_name,
        "split": slide.design.split,
        "uuid": str(slide.uuid),
        "batch_effect": asdict(slide.effect),
    }
