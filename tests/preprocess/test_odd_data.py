"""What every public step makes of odd spectra and of little data; ``docs/steps.md`` and its neighbours say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from public_steps import public_steps
from sklearn.base import clone

import msicube as mc
import msicube.preprocess as mp
from msicube.errors import NoFiniteSpectrum, UsageError
from msicube.preprocess import Step

N_CHANNELS = 12
#: Where the odd value is.
ODD = 5

#: Step -> what becomes of a spectrum with a NaN, of one with an infinity, of zeros, and of a constant spectrum. ``NaN``
#: is all of it, ``there`` the same value in its place and nowhere else, ``near`` NaN in its place and around it;
#: ``true`` and ``false`` are what a mask says.
BECOMES: dict[type[Step], tuple[str, str, str, str]] = {
    mp.ALSBaseline: ("NaN", "NaN", "zeros", "rounding"),
    mp.BandMask: ("false", "false", "false", "false"),
    mp.Blank: ("there", "near", "zeros", "finite"),  # the odd one is blanked, and 0 times infinity is NaN
    mp.Crop: ("there", "there", "zeros", "same"),
    mp.DeadPixelMask: ("true", "true", "true", "true"),
    mp.EMSC: ("NaN", "NaN", "zeros", "NaN"),  # a constant is a mere baseline
    mp.IncrementalPCA: ("NaN", "not finite", "finite", "finite"),
    mp.InterferentModel: ("NaN", "NaN", "zeros", "finite"),
    mp.Log1p: ("there", "there", "zeros", "constant"),
    mp.MedianNormalize: ("NaN", "NaN", "zeros", "constant"),
    mp.MieEMSC: ("NaN", "NaN", "zeros", "finite"),
    mp.MinMaxNormalize: ("NaN", "NaN", "zeros", "NaN"),
    mp.OutlierMask: ("true", "true", "true", "false"),
    mp.PCA: ("NaN", "not finite", "finite", "finite"),
    mp.ParaffinMask: ("false", "false", "false", "false"),
    mp.PeakAlign: ("near", "near", "zeros", "same"),
    mp.PeakPick: ("there", "there", "zeros", "finite"),
    mp.PolynomialBaseline: ("NaN", "NaN", "zeros", "rounding"),
    mp.RMSNormalize: ("NaN", "NaN", "zeros", "constant"),
    mp.ReferenceNormalize: ("there", "there", "zeros", "constant"),
    mp.Resample: ("near", "near", "zeros", "same"),
    mp.SNIPBaseline: ("NaN", "NaN", "zeros", "rounding"),
    mp.SavitzkyGolay: ("near", "near", "zeros", "rounding"),
    mp.SelectChannels: ("there", "there", "zeros", "same"),
    mp.Sqrt: ("there", "there", "zeros", "constant"),
    mp.Standardize: ("there", "there", "finite", "finite"),
    mp.TICMask: ("false", "false", "false", "false"),
    mp.TICNormalize: ("NaN", "NaN", "zeros", "constant"),
    mp.TissueMask: ("false", "false", "false", "false"),
    mp.TopHatBaseline: ("NaN", "NaN", "zeros", "rounding"),
    mp.VectorNormalize: ("NaN", "NaN", "zeros", "constant"),
    mp.WaterVapour: ("there", "there", "zeros", "same"),
}
#: Step -> the error of a fit on one spectrum; the others can be fitted on one.
ONE_SPECTRUM = {
    mp.IncrementalPCA: "at least 2",
    mp.OutlierMask: "at least 3 are needed",
    mp.PCA: "at least 2 are needed",
    mp.SelectChannels: "compares classes",
}
#: Step -> the error of a fit on spectra of zeros.
ZEROS = {
    mp.DeadPixelMask: "no spectrum is left to fit on",
    mp.EMSC: "the reference is zero",
    mp.PeakAlign: "has 0 peaks",
    mp.PeakPick: "finds no peak",
}
STEPS = public_steps(N_CHANNELS)
#: Without these, what is looked for would not be in the first or second channel.
AT_THE_ODD_ONE = {
    mp.PeakAlign: {"reference": [2.0, 5.0, 9.0], "tolerance": 1.5},
    mp.Resample: {"axis": [1.5, 4.5, 5.5, 8.5]},
    mp.SelectChannels: {"k": None, "at": [2.0, 5.0, 9.0], "tolerance": 0.1},
}


def named(step: Step) -> str:
    return type(step).__name__


every_step = pytest.mark.parametrize("step", STEPS, ids=named)


@pytest.fixture(scope="module")
def X() -> NDArray[Any]:  # noqa: N802
    """60 spectra with peaks in channels 2, 5 and 9."""
    rng, v = np.random.default_rng(0), np.arange(N_CHANNELS)
    peaks = np.exp(-((v - np.array([[2], [ODD], [9]])) ** 2))
    return rng.gamma(2, 0.3, (60, N_CHANNELS)) + rng.gamma(3, 2.0, (60, 3)) @ peaks + 1


Y = np.repeat(["normal", "tumour"], 30)


def outcome(features: NDArray[Any], value: float, given: float) -> set[str]:
    """Return all words that are true of what a spectrum became, of which ``value`` was odd, or all ``given``."""
    nan, odd = np.isnan(features), ~np.isfinite(features)
    words = set()
    if odd.any():
        words |= {"not finite"}
        if nan.all():
            words |= {"NaN"}
        elif odd.sum() == 1 and np.array_equal(features[odd], [value], equal_nan=True):
            words |= {"there"}
        elif nan.sum() == odd.sum() < len(features):
            words |= {"near"}
        return words
    if not features.any():
        words |= {"zeros"}
    if np.abs(features).max() < 1e-12:
        words |= {"rounding"}
    if np.ptp(features) < 1e-12:
        words |= {"constant"}
    if np.abs(features - given).max() < 1e-12:
        words |= {"same"}
    return words | {"finite"}


def test_every_public_step_is_here() -> None:
    assert set(BECOMES) == {type(step) for step in STEPS}


@every_step
def test_odd_spectra_become_what_is_documented(step: Step, X: NDArray[Any]) -> None:
    own = clone(step).set_params(**AT_THE_ODD_ONE.get(type(step), {})).fit(X, Y)
    kinds = {"nan": np.nan, "infinite": np.inf, "zeros": 0.0, "constant": 3.0}
    for expected, (kind, value) in zip(BECOMES[type(step)], kinds.items(), strict=True):
        spectrum = X[:1].copy()
        spectrum[:, slice(None) if np.isfinite(value) else ODD] = value
        features = own.transform(spectrum)[0]
        if expected in ("true", "false"):
            assert bool(features[0]) is (expected == "true"), kind
        else:
            assert expected in outcome(features, value, value), (kind, features)


@every_step
def test_what_is_not_finite_is_left_out_of_a_fit(step: Step, X: NDArray[Any]) -> None:
    odd = np.concatenate([X[:40], X[:3], X[40:]])
    odd[40, 3], odd[41, 4], odd[42, 5] = np.nan, np.inf, -np.inf
    own = clone(step).fit(odd, np.concatenate([Y[:40], Y[:3], Y[40:]]))
    expected = clone(step).fit(X, Y).transform(X)
    np.testing.assert_allclose(own.transform(X), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@every_step
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_channel_is_a_channel(step: Step, X: NDArray[Any], value: float) -> None:
    flat = X.copy()
    flat[:, 7] = value
    assert np.isfinite(clone(step).fit(flat, Y).transform(flat)).all()


@every_step
@pytest.mark.parametrize(("errors", "made"), [(ONE_SPECTRUM, "one"), (ZEROS, "zeros")], ids=["one", "zeros"])
def test_a_fit_on_little_works_or_says_why(step: Step, X: NDArray[Any], errors: Any, made: str) -> None:
    given = X[:1] if made == "one" else np.zeros((6, N_CHANNELS))
    classes = Y[:1] if made == "one" else Y[[0, 0, 0, -1, -1, -1]]
    if type(step) in errors:
        with pytest.raises(UsageError, match=errors[type(step)]):
            clone(step).fit(given, classes)
    else:
        assert np.isfinite(clone(step).fit(given, classes).transform(given)).all()


@every_step
def test_a_slide_of_one_pixel_is_a_slide(step: Step, X: NDArray[Any], build_study: Any, slide: Any) -> None:
    """Its spectrum counts in the fit as any other does, and it gets the features of that spectrum."""
    axis = getattr(step, "wavenumbers", None)
    mz = np.arange(N_CHANNELS) * 1.0 if axis is None else np.asarray(axis)
    many = replace(slide, cube=X.reshape(6, 10, -1), acquired=np.ones((6, 10), bool), mz=mz)
    one = replace(many, cube=X[None, :1] * 1.1, acquired=np.ones((1, 1), bool))
    samples = {"many": {"label": "normal"}, "one": {"label": "tumour"}}
    study = build_study({"many": many, "one": one}, samples=samples)
    own = clone(step).fit(study)
    features = own.transform(study)["one"]["features"].values
    assert features.shape[:2] == (1, 1)
    assert np.isfinite(features).all()
    array = clone(step).fit(np.concatenate([X, X[:1] * 1.1]), np.repeat(["normal", "tumour"], [60, 1]))
    expected = array.transform(X[:1] * 1.1)
    if not own.by_slide:
        np.testing.assert_allclose(features[0], expected, rtol=0, atol=1e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("mask", [mp.DeadPixelMask(n_mads=3.0), mp.OutlierMask(n_components=1)], ids=named)
def test_masks_of_bad_spectra_hold_a_slide_of_nothing_else(mask: Any, build_study: Any, slide: Any) -> None:
    broken = replace(slide, cube=np.where(slide.acquired[..., None], np.nan, slide.cube))
    study = build_study({"broken": broken, "good": slide})
    made = mc.make_mask(study, mask, name="bad", per_slide=True)
    assert made[0].held == made[0].spectra == slide.acquired.sum()
    assert made[0].remark == "no finite spectrum"
    assert made[1].held < made[1].spectra
    with pytest.raises(NoFiniteSpectrum, match="hold a NaN or an infinity"):
        clone(mask).fit(study, slides=["broken"])
