"""Standardize against scikit-learn's StandardScaler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from msicube.preprocess import Standardize


@settings(deadline=None)
@given(arrays(np.float64, (20, 4), elements=st.floats(-1e3, 1e3).map(lambda v: round(v, 3))))
def test_it_is_standard_scaler(X: NDArray[Any]) -> None:
    ours, theirs = Standardize().fit(X), StandardScaler().fit(X)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.var_, theirs.var_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_its_options_are_standard_scalers(with_mean: bool, with_std: bool) -> None:
    X = np.random.default_rng(0).gamma(2.0, size=(60, 5))
    options = {"with_mean": with_mean, "with_std": with_std}
    expected = StandardScaler(**options).fit_transform(X)
    np.testing.assert_allclose(Standardize(**options).fit_transform(X), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_channel_is_only_centred(value: float, dtype: Any) -> None:
    X = np.random.default_rng(1).normal(size=(3000, 2)).astype(dtype)
    X[:, 1] = value
    scaler = Standardize().fit(X)
    assert scaler.scale_[1] == 1
    np.testing.assert_allclose(scaler.transform(X)[:, 1], 0, atol=abs(value) * 1e-7)


def test_one_spectrum_is_a_study_of_constants() -> None:
    X = np.array([[1.0, 2.0, 3.0]])
    scaler = Standardize().fit(X)
    np.testing.assert_array_equal(scaler.scale_, 1)
    np.testing.assert_array_equal(scaler.transform(X), 0)
    assert scaler.n_spectra_ == 1


def test_nan_spectra_are_left_out_of_the_fit_and_stay_nan() -> None:
    X = np.random.default_rng(2).normal(size=(40, 3))
    X[5, 1], X[6, 2] = np.nan, np.inf
    scaler = Standardize().fit(X)
    good = np.delete(X, [5, 6], axis=0)
    np.testing.assert_allclose(scaler.mean_, good.mean(axis=0), rtol=1e-12)
    assert (scaler.n_spectra_, scaler.n_nonfinite_) == (38, 2)
    Y = scaler.transform(X)
    assert np.isnan(Y[5, 1])
    assert np.isposinf(Y[6, 2])
    assert np.isfinite(np.delete(Y, [5, 6], axis=0)).all()
