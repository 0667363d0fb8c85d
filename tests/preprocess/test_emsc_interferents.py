"""The model of an interferent against NumPy, and water vapour against least squares on differences."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import decomposition

from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess import EMSC, InterferentModel, NotFittedError, Pipeline, Standardize, WaterVapour
from msicube.store import Study

WN = np.linspace(900.0, 1800.0, 150)


def band(centre: float, width: float) -> NDArray[np.float64]:
    return np.exp(-(((WN - centre) / width) ** 2))


TISSUE = band(1650, 40) + 0.7 * band(1545, 35) + 0.4 * band(1240, 40)


def paraffin(n: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 3, (n, 1))
    lines = np.exp(-(((WN - 1462 - shift) / 12) ** 2)) + 0.6 * np.exp(-(((WN - 1378 - shift) / 10) ** 2))
    return rng.uniform(0.5, 1.5, (n, 1)) * lines


@pytest.mark.parametrize("n_components", [0, 1, 4])
def test_it_is_the_mean_and_scikit_learns_components(n_components: int) -> None:
    X = paraffin(80)
    model = InterferentModel(n_components).fit(X)
    np.testing.assert_allclose(model.spectra_[0], X.mean(axis=0), atol=1e-13)
    assert model.spectra_.shape == (n_components + 1, 150)
    if n_components:
        theirs = decomposition.PCA(n_components, svd_solver="full").fit(X)
        np.testing.assert_allclose(
            np.abs(model.spectra_[1:] @ theirs.components_.T), np.eye(n_components), atol=1e-8
        )
        np.testing.assert_allclose(
            model.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-8, atol=1e-14
        )
    assert (model.n_spectra_, model.n_nonfinite_) == (80, 0)


def test_the_paraffin_is_out_of_the_tissue() -> None:
    rng = np.random.default_rng(1)
    pure = rng.uniform(0.5, 1.5, (60, 1)) * TISSUE
    mixed = pure + paraffin(60, seed=2)
    model = InterferentModel(3).fit(paraffin(500))
    corrected = (
        EMSC(wavenumbers=WN, reference=TISSUE, interferents=model.spectra_).fit(mixed).transform(mixed)
    )
    without = EMSC(wavenumbers=WN, reference=TISSUE).fit(mixed).transform(mixed)
    error, before = np.abs(corrected - TISSUE).max(), np.abs(without - TISSUE).max()
    assert error < 0.02 < 0.5 < before


def test_its_transform_is_orthogonal_to_it() -> None:
    rng = np.random.default_rng(3)
    model = InterferentModel(2).fit(paraffin(50))
    X = rng.normal(size=(30, 150))
    mapped = model.transform(X)
    projected = X - np.linalg.lstsq(model.spectra_.T, X.T, rcond=None)[0].T @ model.spectra_
    np.testing.assert_allclose(mapped, projected, atol=1e-12)
    np.testing.assert_allclose(mapped @ model.spectra_.T, 0, atol=1e-10)
    assert not model.transform(np.zeros((1, 150))).any()
    X[3, np.argmin(abs(WN - 1462))] = np.nan
    odd = model.transform(X)
    assert np.isnan(odd[3]).all()
    assert np.isfinite(np.delete(odd, 3, axis=0)).all()


def test_spectra_that_do_not_vary() -> None:
    model = InterferentModel(2).fit(np.ones((5, 150)))
    np.testing.assert_array_equal(model.explained_variance_ratio_, 0)
    np.testing.assert_array_equal(model.spectra_[0], 1)
    nothing = InterferentModel(0).fit(np.zeros((5, 150)))
    np.testing.assert_array_equal(nothing.transform(paraffin(4)), paraffin(4))


def test_what_the_model_refuses() -> None:
    with pytest.raises(UsageError, match="3 finite spectra: at least 6 are needed"):
        InterferentModel(5).fit(paraffin(3))
    with pytest.raises(UsageError, match="fewer than 150 channels"):
        InterferentModel(150).fit(paraffin(3))
    with pytest.raises(MemoryLimitError, match="9000 channels"):
        InterferentModel(1).fit(np.ones((3, 9000)))
    with pytest.raises(UsageError, match="fit it and give its spectra"):
        EMSC(wavenumbers=WN, interferents=InterferentModel(2).fit(paraffin(9))).fit(paraffin(9))


def test_both_are_saved_and_loaded(own_study: Study) -> None:
    X = paraffin(40) + TISSUE
    steps = [
        WaterVapour(band(1500, 3), wavenumbers=WN),
        InterferentModel(2),
        EMSC(wavenumbers=WN, interferents=paraffin(2, seed=9)),
        Standardize(),
    ]
    pipeline = Pipeline(steps).fit(X)
    pipeline.save(own_study, name="ftir")
    loaded = Pipeline.load(own_study, name="ftir")
    assert loaded.transform(X).tobytes() == pipeline.transform(X).tobytes()
    assert pickle.loads(pickle.dumps(pipeline)).transform(X).tobytes() == pipeline.transform(X).tobytes()


def vapour_lines(seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    lines = np.zeros(150)
    for centre, height in zip(rng.uniform(1400, 1790, 25), rng.uniform(0.2, 1, 25), strict=True):
        lines += height * band(centre, 5)
    return lines


@settings(deadline=None, max_examples=20)
@given(amount=st.floats(-0.3, 0.3), seed=st.integers(0, 1000))
def test_the_amount_of_vapour_is_that_of_least_squares_on_differences(amount: float, seed: int) -> None:
    vapour = vapour_lines(seed)
    rng = np.random.default_rng(seed)
    X = rng.uniform(0.5, 1, (6, 1)) * TISSUE + amount * vapour
    step = WaterVapour(vapour, wavenumbers=WN, regions=[(1300, 1800)]).fit(X)
    inside = WN >= 1300
    dv, dx = np.diff(vapour[inside]), np.diff(X[:, inside])
    expected = dx @ dv / (dv @ dv)
    np.testing.assert_allclose(step.amounts(X)[:, 0], expected, rtol=1e-9, atol=1e-12)
    mapped = step.transform(X)
    np.testing.assert_allclose(mapped, X - expected[:, None] * vapour, atol=1e-12)
    roughness = np.square(np.diff(mapped[:, inside])).sum(axis=1)
    for other in (-1e-3, 1e-3):
        assert (np.square(np.diff((mapped + other * vapour)[:, inside])).sum(axis=1) >= roughness).all()


def test_vapour_is_found_among_broad_bands() -> None:
    vapour = vapour_lines()
    X = np.array([[1.0], [0.6]]) * TISSUE + np.array([[0.2], [-0.1]]) * vapour
    step = WaterVapour(vapour, wavenumbers=WN).fit(X)
    np.testing.assert_allclose(step.amounts(X)[:, 0], [0.2, -0.1], atol=0.03)
    single = step.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, step.transform(X), atol=1e-6)


def test_vapour_and_odd_spectra() -> None:
    vapour = vapour_lines()
    X = np.tile(TISSUE, (4, 1))
    X[0], X[1, 3], X[2, -5] = 0, np.nan, np.nan  # the regions begin at 1330
    step = WaterVapour(vapour, wavenumbers=WN).fit(X)
    mapped = step.transform(X)
    assert not mapped[0].any()
    assert np.isnan(mapped[1]).sum() == 1
    assert np.isnan(mapped[2]).all()
    with pytest.raises(NotFittedError):
        WaterVapour(vapour, wavenumbers=WN).amounts(X)


WRONG: dict[str, dict[str, Any]] = {
    "give the spectrum of the vapour": {"vapour": None},
    "needs the axis": {"vapour": vapour_lines()},
    "has none of the regions": {"vapour": vapour_lines(), "wavenumbers": WN - 800},
    "no channel lies between 10 and 20": {"vapour": vapour_lines(), "wavenumbers": WN, "regions": [(10, 20)]},
    "2 vapour spectra, of which 1": {
        "vapour": np.stack([vapour_lines(), vapour_lines() + 2]),
        "wavenumbers": WN,
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_vapour_that_cannot_be_fitted(message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WaterVapour(**WRONG[message]).fit(paraffin(3))
