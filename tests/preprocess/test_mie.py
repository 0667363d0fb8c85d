"""Mie-EMSC against biospectools, which makes the same steps one spectrum at a time."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess import EMSC, MieEMSC, Pipeline
from msicube.preprocess.mie_curves import MieCurves
from msicube.store import Study

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from biospectools.preprocessing.me_emsc import MatlabMieCurvesGenerator, MeEMSC

WN = np.linspace(1000.0, 1800.0, 250)


def band(centre: float, width: float) -> NDArray[np.float64]:
    return np.exp(-(((WN - centre) / width) ** 2))


REFERENCE = (
    band(1650, 25)
    + 0.7 * band(1545, 22)
    + 0.3 * band(1450, 20)
    + 0.3 * band(1240, 30)
    + 0.35 * band(1080, 40)
)


def make_spectra(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pure absorbances, and what Mie scattering and an offset make of them."""
    rng = np.random.default_rng(seed)
    pure = REFERENCE * rng.uniform(0.9, 1.1, (n, 1)) + 0.05 * rng.random((n, 2)) @ np.stack(
        [band(1740, 12), band(1150, 20)]
    )
    scattered = [MatlabMieCurvesGenerator().generate(one, WN)[rng.integers(100)] for one in pure]
    offset = 0.02 * rng.normal(size=(n, 1))
    X = pure + rng.uniform(0.05, 0.3, (n, 1)) * np.stack(scattered) + offset
    return pure, X + 1e-3 * rng.normal(size=(n, 250))


def theirs(X: NDArray[Any], reference: NDArray[Any], **options: Any) -> tuple[NDArray[Any], Any]:
    return MeEMSC(reference.copy(), WN, **options).transform(X, details=True)


@pytest.mark.parametrize("descending", [False, True])
def test_the_curves_are_biospectools(descending: bool) -> None:
    wn, reference = (WN[::-1], REFERENCE[::-1]) if descending else (WN, REFERENCE)
    radii, indices = np.linspace(2, 7.1, 10), np.linspace(1.1, 1.4, 10)
    (ours,) = MieCurves.of(wn, radii, indices, 0.25).curves(reference[None])
    np.testing.assert_allclose(ours, MatlabMieCurvesGenerator().generate(reference, wn), rtol=0, atol=5e-5)


@pytest.mark.parametrize("n_components", [None, 4, 8])
def test_it_is_biospectools(n_components: int | None) -> None:
    _, X = make_spectra(12)
    expected, details = theirs(X, REFERENCE, n_components=n_components)
    emsc = MieEMSC(wavenumbers=WN, reference=REFERENCE, n_components=n_components).fit(X)
    assert emsc.n_components_ == details.n_mie_components
    corrected, iterations = emsc._iteration.correct(X)
    np.testing.assert_array_equal(iterations, details.n_iterations)
    np.testing.assert_allclose(corrected, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(emsc.transform(X), corrected)
    single = emsc.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-3)  # one more iteration may be the best


@pytest.mark.parametrize("options", [{"max_iter": 1}, {"max_iter": 4}, {"tol": 1e-3, "patience": 0}])
def test_when_it_stops_is_biospectools(options: dict[str, Any]) -> None:
    _, X = make_spectra(6, seed=2)
    expected, details = theirs(X, REFERENCE, n_components=5, **options)
    emsc = MieEMSC(wavenumbers=WN, reference=REFERENCE, n_components=5, **options).fit(X)
    corrected, iterations = emsc._iteration.correct(X)
    np.testing.assert_array_equal(iterations, details.n_iterations)
    np.testing.assert_allclose(corrected, expected, rtol=0, atol=1e-5)


def test_other_spheres_are_biospectools() -> None:
    _, X = make_spectra(4, seed=3)
    radii, indices = np.array([2.5, 4.0, 5.0, 6.5]), np.array([1.15, 1.2, 1.25, 1.35])
    expected, _ = theirs(X, REFERENCE, n_components=5, radiuses=radii, n0s=indices, h=0.2)
    options: dict[str, Any] = {"radii": radii, "refractive_indices": indices, "h": 0.2, "n_components": 5}
    corrected = MieEMSC(wavenumbers=WN, reference=REFERENCE, **options).fit(X).transform(X)
    np.testing.assert_allclose(corrected, expected, rtol=0, atol=1e-5)


def test_it_removes_what_a_polynomial_does_not() -> None:
    pure, X = make_spectra(40, seed=4)
    target = EMSC(wavenumbers=WN, reference=REFERENCE).fit(pure).transform(pure)
    by_mie = MieEMSC(wavenumbers=WN, reference=REFERENCE).fit(X).transform(X)
    by_mie = EMSC(wavenumbers=WN, reference=REFERENCE).fit(X).transform(by_mie)
    plain = EMSC(wavenumbers=WN, reference=REFERENCE).fit(X).transform(X)
    assert np.abs(by_mie - target).mean() < 0.5 * np.abs(plain - target).mean()


def test_odd_spectra() -> None:
    _, X = make_spectra(9, seed=5)
    emsc = MieEMSC(wavenumbers=WN, reference=REFERENCE).fit(X)
    good = emsc.transform(X)
    X[0], X[1, 3], X[2, 5] = 0, np.nan, np.inf
    X[3] = 0.25  # an offset and nothing else
    corrected = emsc.transform(X)
    assert not corrected[0].any()
    assert np.isnan(corrected[1:3]).all()
    assert np.isnan(corrected[3]).all() or np.isfinite(corrected[3]).all()
    np.testing.assert_allclose(corrected[4:], good[4:], rtol=0, atol=1e-9)
    assert emsc.transform_block(X[:0]).shape == (0, 250)
    assert emsc.transform_block(X[4:5]).shape == (1, 250)
    tally = np.zeros(1, np.int64)
    emsc.kernel(X, tally=tally)
    assert tally[0] == 1 + np.isnan(corrected[3, 0])


def test_a_mean_as_reference_and_a_saved_pipeline(own_study: Study) -> None:
    _, X = make_spectra(20, seed=6)
    pipeline = Pipeline([MieEMSC(wavenumbers=WN, n_components=6)]).fit(X)
    step = pipeline.steps_[0]
    assert isinstance(step, MieEMSC)
    np.testing.assert_allclose(step.reference_, np.maximum(X.mean(axis=0), 0), rtol=1e-12)
    assert step.n_spectra_ == 20
    before = X.tobytes()
    corrected = pipeline.transform(X)
    assert X.tobytes() == before
    pipeline.save(own_study, name="mie")
    assert Pipeline.load(own_study, name="mie").transform(X).tobytes() == corrected.tobytes()


WRONG: dict[str, dict[str, Any]] = {
    "needs the axis": {"wavenumbers": None},
    "has to be above 0": {"wavenumbers": WN - 500},
    "nowhere positive": {"reference": -np.ones(250)},
    "were expected to be as many": {"radii": [1.0, 2.0]},
    "between 1 and 98": {"n_components": 0},
    "one iteration at least": {"max_iter": 0},
    "has shape": {"reference": np.ones(3)},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_fitted(message: str) -> None:
    _, X = make_spectra(3)
    with pytest.raises(UsageError, match=message):
        MieEMSC(**{"wavenumbers": WN, "reference": REFERENCE, **WRONG[message]}).fit(X)


def test_an_axis_too_wide_is_refused() -> None:
    with pytest.raises(MemoryLimitError, match="9000 channels by as many"):
        MieEMSC(wavenumbers=np.linspace(1000, 2000, 9000)).fit(np.ones((2, 9000)))
