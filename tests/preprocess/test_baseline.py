"""Baselines held against pybaselines, and what they make of odd spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pybaselines import Baseline
from sklearn.base import clone

from msicube.errors import UsageError
from msicube.preprocess import (
    ALSBaseline,
    Pipeline,
    PolynomialBaseline,
    SNIPBaseline,
    Standardize,
    TopHatBaseline,
)
from msicube.preprocess.whittaker import smooth

N_CHANNELS = 240
STEPS = [
    SNIPBaseline(half_window=12),
    SNIPBaseline(half_window=12, lls=True),
    TopHatBaseline(half_window=12),
    ALSBaseline(lam=1e4),
    PolynomialBaseline(degree=3),
]


def named(step: Any) -> str:
    return str(step)


@pytest.fixture(name="X", scope="module")
def _spectra() -> NDArray[np.float64]:
    """Peaks of all heights on a falling baseline, with noise."""
    rng = np.random.default_rng(3)
    place = np.linspace(0, 1, N_CHANNELS)
    height = rng.gamma(1.0, 4.0, (30, 12))
    peaks = np.exp(-(((place - rng.random(12)[:, None]) / 0.008) ** 2))
    baseline = rng.uniform(2, 6, (30, 1)) * np.exp(-3 * place) + 1
    return baseline + height @ peaks + 0.05 * rng.normal(size=(30, N_CHANNELS))


@pytest.fixture(name="true", scope="module")
def _true_baseline(X: NDArray[np.float64]) -> NDArray[np.float64]:
    rng = np.random.default_rng(3)
    rng.gamma(1.0, 4.0, (30, 12)), rng.random(12)
    return rng.uniform(2, 6, (30, 1)) * np.exp(-3 * np.linspace(0, 1, N_CHANNELS)) + 1


@pytest.mark.parametrize("decreasing", [True, False])
def test_snip_is_pybaselines(X: NDArray[Any], decreasing: bool) -> None:
    """Their edges are padded; with padded spectra, ours do what theirs do."""
    step = SNIPBaseline(half_window=15, decreasing=decreasing)
    padded = np.pad(X, ((0, 0), (15, 15)), mode="edge")
    ours = step.fit(padded).transform(padded)[:, 15:-15]
    options = {"max_half_window": 15, "decreasing": decreasing, "pad_kwargs": {"mode": "edge"}}
    theirs = np.stack([x - Baseline().snip(x, **options)[0] for x in X])
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_snip_on_the_lls_scale_is_pybaselines(X: NDArray[Any]) -> None:
    padded = np.pad(X, ((0, 0), (15, 15)), mode="edge")
    ours = SNIPBaseline(half_window=15, lls=True).fit(padded).transform(padded)[:, 15:-15]
    for x, y in zip(X, ours, strict=True):
        small = np.log(np.log(np.sqrt(x + 1) + 1) + 1)
        flat = Baseline().snip(small, 15, decreasing=True, pad_kwargs={"mode": "edge"})[0]
        np.testing.assert_allclose(y, x - (-1 + (np.exp(np.exp(flat) - 1) - 1) ** 2), atol=1e-11)


def test_the_ends_of_snip_are_those_of_maldiquant(X: NDArray[Any]) -> None:
    flat = X[0].copy()
    for p in range(15, 0, -1):
        before = flat.copy()
        for i in range(p, N_CHANNELS - p):
            flat[i] = min(before[i], (before[i - p] + before[i + p]) / 2)
    np.testing.assert_allclose(SNIPBaseline(half_window=15).fit(X).transform(X)[0], X[0] - flat, atol=1e-12)


def test_top_hat_is_pybaselines(X: NDArray[Any]) -> None:
    ours = TopHatBaseline(half_window=11).fit(X).transform(X)
    theirs = np.stack([x - Baseline().tophat(x, half_window=11)[0] for x in X])
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("lam", [1e2, 1e5])
@pytest.mark.parametrize("p", [0.001, 0.05])
def test_als_is_pybaselines(X: NDArray[Any], lam: float, p: float) -> None:
    ours = ALSBaseline(lam=lam, p=p, max_iter=60).fit(X).transform(X)
    theirs = np.stack([x - Baseline().asls(x, lam=lam, p=p, max_iter=59, tol=0)[0] for x in X])
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("degree", [0, 2, 5])
def test_polynomials_are_pybaselines_on_the_real_axis(slide: Any, degree: int) -> None:
    axis = slide.mz**2 / 600
    dataset = slide.dataset().assign_coords(mz=("channel", axis))
    ours = PolynomialBaseline(degree=degree, tol=1e-4).fit(dataset).transform_block(slide.X[:20])
    theirs = [
        x - Baseline(axis).modpoly(x, poly_order=degree, tol=1e-4, max_iter=250)[0] for x in slide.X[:20]
    ]
    np.testing.assert_allclose(ours, np.stack(theirs), rtol=1e-8, atol=1e-8)


def test_a_polynomial_fitted_once_is_least_squares(X: NDArray[Any]) -> None:
    ours = PolynomialBaseline(degree=4, max_iter=0).fit(X).transform(X)
    place = np.linspace(-1, 1, N_CHANNELS)
    theirs = [x - np.polynomial.Polynomial.fit(place, x, 4)(place) for x in X]
    np.testing.assert_allclose(ours, np.stack(theirs), atol=1e-10)


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_the_true_baseline_is_found(step: Any, X: NDArray[Any], true: NDArray[Any]) -> None:
    found = X - clone(step).fit(X).transform(X)
    error = np.abs(found - true)[:, 15:-15]
    assert np.median(error) < 0.25
    assert np.median(error) < np.median(np.abs(X - true)) * 3


@pytest.mark.parametrize("step", STEPS, ids=named)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_spectra(step: Any, dtype: Any, X: NDArray[Any]) -> None:
    odd = X[:5].astype(dtype)
    odd[1], odd[2], odd[3, 7], odd[4, 9] = 0, 2.5, np.nan, np.inf
    fitted = clone(step).fit(odd)
    Y = fitted.transform(odd)
    assert Y.dtype == dtype
    np.testing.assert_allclose(Y[0], fitted.transform(odd[:1])[0], atol=1e-12)
    assert not Y[1].any()
    np.testing.assert_allclose(Y[2], 0, atol=1e-5 if dtype == np.float32 else 1e-9)
    assert np.isnan(Y[3:]).all()
    assert fitted.transform_block(odd[:0]).shape == (0, N_CHANNELS)


def test_spectra_that_do_not_settle_are_counted(X: NDArray[Any]) -> None:
    def irregular(step: Any) -> Any:
        return Pipeline([step, Standardize()]).fit(X).steps_[0].n_irregular_

    assert irregular(ALSBaseline(lam=1e4, max_iter=1)) == len(X)
    assert irregular(ALSBaseline(lam=1e4)) == 0
    assert irregular(PolynomialBaseline(max_iter=1, tol=1e-9)) == len(X)
    assert irregular(PolynomialBaseline()) == 0
    assert irregular(SNIPBaseline(half_window=9, lls=True)) == np.count_nonzero(X < 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 30), st.integers(1, 5), st.floats(1e-3, 1e6), st.integers(0, 2**32 - 1))
def test_the_smoother_solves_the_normal_equations(n: int, spectra: int, lam: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, weights = rng.normal(size=(n, spectra)), rng.uniform(0.01, 1, (n, spectra))
    second = np.diff(np.eye(n), 2, axis=0)
    expected = [
        np.linalg.solve(np.diag(w) + lam * second.T @ second, w * v)
        for v, w in zip(y.T, weights.T, strict=True)
    ]
    np.testing.assert_allclose(smooth(y, weights, lam), np.stack(expected, axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (SNIPBaseline(half_window=120), "a whole number of channels between 1 and 119"),
        (TopHatBaseline(half_window=0), "a whole number of channels between 1 and 119"),
        (TopHatBaseline(half_window=2.5), "a whole number of channels"),  # type: ignore[arg-type]
        (ALSBaseline(lam=0), "lam=0.*positive"),
        (ALSBaseline(p=1), "p=1.*between 0 and 1"),
        (ALSBaseline(max_iter=0), "max_iter=0.*at least 1"),
        (PolynomialBaseline(degree=240), "between 0 and 239"),
        (PolynomialBaseline(tol=-1), "tol=-1.*0 or more"),
        (PolynomialBaseline(max_iter=-1), "max_iter=-1.*0 or more"),
    ],
    ids=str,
)
def test_parameters_must_fit(step: Any, message: str, X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match=message):
        step.fit(X)


def test_als_needs_three_channels() -> None:
    with pytest.raises(UsageError, match="3 channels at least, 2 come in"):
        ALSBaseline().fit(np.ones((4, 2)))
