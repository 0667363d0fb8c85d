"""What the simulator knows: which channels tell the classes apart, and how well slides can be told at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.experiments.metrics import classification_metrics
from msicube.simulate import ftir_slide, slide
from msicube.simulate.analytes import ISOTOPE_SPACING
from msicube.simulate.ftir_bands import CLASSES, pure_spectra
from msicube.simulate.spectra import TofAxis

Floats = NDArray[np.float64]

#: Isotopic peaks of a marker that count as its own: the first two hold more than nine tenths of it below m/z 1000.
N_ISOTOPES = 2
#: Share of an infrared axis that counts as telling: the channels where the classes' true spectra differ most.
TELLING = 0.2
N_DRAWS = 40_000


@dataclass(frozen=True)
class Populations:
    """What is measured of slides, if it were measured without error: Gaussian around the mean of the slide's label.

    Attributes
    ----------
    labels
        Of the simulator, such as ``luminal A``.
    mean
        ``(label, quantity)`` log amounts in epithelium and positions of bands, against some common point.
    spread
        ``(quantity,)`` standard deviation between slides of one label.
    """

    labels: tuple[str, ...]
    mean: Floats
    spread: Floats


def populations(truth: Mapping[str, Any]) -> Populations:
    """Return what a ``truth.json`` says of the slides of each label."""
    return _of_ftir(truth) if truth.get("modality") == "ftir" else _of_msi(truth)


def _of_msi(truth: Mapping[str, Any]) -> Populations:
    effect = np.array([marker["log_fold_change"] for marker in truth["markers"]])
    spread = truth["parameters"]["patient_effect"] * hypot(slide.PATIENT_SPREAD, slide.SLIDE_SPREAD)
    return Populations(
        ("normal", "tumour"), np.stack([np.zeros_like(effect), effect]), np.full(len(effect), spread)
    )


def _of_ftir(truth: Mapping[str, Any]) -> Populations:
    strength = truth["parameters"]["patient_effect"]
    low, high = truth["parameters"]["wavenumbers"]
    bands = [band for band in truth["bands"] if low <= band["wavenumber"] <= high]
    effects = {band["molecule"]: band["log_fold_change"] for band in truth["bands"]}
    mean = [
        [effect[label] for effect in effects.values()] + [band["shift"][label] for band in bands]
        for label in CLASSES
    ]
    amount = hypot(ftir_slide.PATIENT_SPREAD, ftir_slide.SLIDE_SPREAD)
    shift = hypot(ftir_slide.PATIENT_SHIFT, ftir_slide.SLIDE_SHIFT)
    spread = np.repeat([strength * amount, strength * shift], [len(effects), len(bands)])
    return Populations(CLASSES, np.array(mean), spread)


def limit(found: Populations, slides: pd.Series, classes: Sequence[str], positive: int) -> dict[str, Any]:
    """Return the metrics of the best judge of slides: one who knows the simulator and reads each slide without error.

    Parameters
    ----------
    found
        What there is to read.
    slides
        ``(slide,)`` class of each slide, indexed by its label in the simulator: their shares are the judge's prior.
    classes, positive
        As for :func:`~msicube.experiments.metrics.classification_metrics`.

    Returns
    -------
    dict
        Metric to value, by :data:`N_DRAWS` slides drawn from the populations; good to about 0.003.
    """
    shares = slides.groupby(level=0).size() / len(slides)
    class_of = slides.groupby(level=0).first()
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(shares), N_DRAWS, p=shares.to_numpy())
    means = found.mean[[found.labels.index(label) for label in shares.index]] / found.spread
    read = means[drawn] + rng.standard_normal((N_DRAWS, means.shape[1]))
    # log of share times density, up to what is the same for all labels
    log = np.log(shares.to_numpy()) + read @ means.T - 0.5 * (means**2).sum(axis=1)
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    member = np.array([[class_of[label] == name for name in classes] for label in shares.index], float)
    posterior = weight @ member / weight.sum(axis=1, keepdims=True)
    return classification_metrics(member.argmax(axis=1)[drawn], posterior, positive=positive)


def telling(truth: Mapping[str, Any], axis: Floats, slides: pd.Series) -> NDArray[np.bool_]:
    """Return which channels tell the classes apart.

    Of mass spectra those within half a peak width of a marker's first two isotopes; of infrared spectra the fifth of
    the axis where the mean spectra of the classes, of epithelium without noise and scaled to one norm, differ most.

    Parameters
    ----------
    truth
        A study's ``truth.json``.
    axis
        ``(channel,)`` of the whole axis.
    slides
        As for :func:`limit`.
    """
    if truth.get("modality") == "ftir":
        difference = _class_difference(truth, axis, slides)
        return difference >= np.quantile(difference, 1 - TELLING)
    parameters = truth["parameters"]
    tof = TofAxis(tuple(parameters["mz_range"]), parameters["channels"], parameters["resolution"])
    first = np.array([marker["mz"] for marker in truth["markers"]])
    peaks = (first[:, None] + ISOTOPE_SPACING * np.arange(N_ISOTOPES)).ravel()
    # A peak narrower than a channel still lies in one.
    reach = np.maximum(tof.fwhm(peaks), np.interp(peaks, axis, np.gradient(axis))) / 2
    return (np.abs(axis[:, None] - peaks) <= reach).any(axis=1)


def _class_difference(truth: Mapping[str, Any], axis: Floats, slides: pd.Series) -> Floats:
    """Return ``(channel,)`` the standard deviation of the classes' mean spectra."""
    means = []
    for _, labels in slides.groupby(slides):
        spectra = [_epithelium(truth, axis, label) for label in sorted(set(labels.index))]
        means.append(np.mean(spectra, axis=0))
    return np.asarray(np.std(means, axis=0))


def _epithelium(truth: Mapping[str, Any], axis: Floats, label: str) -> Floats:
    """Return ``(channel,)`` the true spectrum of a label's epithelium, scaled to one norm."""
    changes = {band["molecule"]: band["log_fold_change"][label] for band in truth["bands"]}
    pure = pure_spectra(axis, {band["name"]: band["shift"][label] for band in truth["bands"]})
    amounts = [truth["amounts"][name]["epithelium"] * np.exp(change) for name, change in changes.items()]
    order = [list(truth["amounts"]).index(name) for name in changes]
    spectrum = np.array(amounts) @ pure[order]
    return np.asarray(spectrum / np.linalg.norm(spectrum))
