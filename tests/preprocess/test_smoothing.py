"""SavitzkyGolay against SciPy on a uniform axis and against polynomial fits on any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from msicube.errors import UsageError
from msicube.preprocess import SavitzkyGolay


def on_axis(axis: NDArray[Any], X: NDArray[Any]) -> xr.Dataset:
    return xr.Dataset({"intensity": (("y", "x", "channel"), X[None])}, {"wavenumber": ("channel", axis)})


@pytest.fixture(name="X")
def _spectra() -> NDArray[np.float64]:
    return np.random.default_rng(0).gamma(2.0, size=(25, 60))


@pytest.mark.parametrize(("window", "degree"), [(5, 2), (11, 3), (7, 6), (59, 2), (1, 0)])
def test_on_a_uniform_axis_it_is_scipys(X: NDArray[Any], window: int, degree: int) -> None:
    dataset = on_axis(900 + 1.9285 * np.arange(60), X)
    for deriv in range(min(degree, 3) + 1):
        step = SavitzkyGolay(window=window, degree=degree, deriv=deriv).fit(dataset)
        expected = savgol_filter(X, window, degree, deriv=deriv, delta=1.9285, axis=1)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(step.transform_block(X), expected, atol=1e-10 * scale)
        single = step.transform_block(X.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, expected, atol=1e-5 * scale * window)


@pytest.mark.parametrize("deriv", [0, 1, 2])
def test_on_any_other_axis_it_is_a_local_polynomial(X: NDArray[Any], deriv: int) -> None:
    axis = np.sort(np.random.default_rng(1).uniform(600, 900, 60))
    step = SavitzkyGolay(window=9, degree=3, deriv=deriv).fit(on_axis(axis, X))
    Y = step.transform_block(X)
    for channel in (0, 3, 4, 30, 55, 59):
        first = min(max(channel - 4, 0), 51)
        near = slice(first, first + 9)
        fit = np.polynomial.Polynomial.fit(axis[near], X[7, near], 3)
        np.testing.assert_allclose(Y[7, channel], fit.deriv(deriv)(axis[channel]), rtol=1e-7)


def test_it_keeps_polynomials_whatever_the_axis() -> None:
    axis = np.delete(np.linspace(900, 1800, 80) ** 1.01, slice(30, 45))  # a stretch is cropped out
    cubic = np.polynomial.Polynomial([3.0, -1.0, 2.0, 0.5], domain=[axis[0], axis[-1]])
    X = np.tile(cubic(axis), (3, 1))
    for deriv in (0, 1, 2):
        step = SavitzkyGolay(window=7, degree=3, deriv=deriv).fit(on_axis(axis, X))
        np.testing.assert_allclose(step.transform_block(X)[1], cubic.deriv(deriv)(axis), rtol=1e-6, atol=1e-9)


def test_a_descending_axis_gives_the_same_derivative(X: NDArray[Any]) -> None:
    axis = np.linspace(900, 1800, 60)
    step = SavitzkyGolay(deriv=1)
    up = step.fit(on_axis(axis, X)).transform_block(X)
    down = step.fit(on_axis(axis[::-1], X[:, ::-1])).transform_block(X[:, ::-1])
    np.testing.assert_allclose(down[:, ::-1], up, atol=1e-12)


def test_a_nan_spreads_no_farther_than_its_windows(X: NDArray[Any]) -> None:
    X[3, 30], X[4, 2], X[5] = np.nan, np.inf, 0
    Y = SavitzkyGolay(window=5, degree=2).fit(X).transform(X)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(Y[3])), np.arange(28, 33))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(Y[4])), np.arange(5))
    assert not Y[5].any()
    assert np.isfinite(Y[:3]).all()


def test_of_a_constant_nothing_is_left_in_a_derivative() -> None:
    X = np.full((2, 30), 7.0)
    np.testing.assert_allclose(SavitzkyGolay(deriv=1).fit(X).transform(X), 0, atol=1e-12)
    np.testing.assert_allclose(SavitzkyGolay().fit(X).transform(X), 7, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10}, "odd number between 1 and 60"),
        ({"window": 61}, "odd number between 1 and 60"),
        ({"window": 5, "degree": 5}, "deriv <= degree < window"),
        ({"degree": 1, "deriv": 2}, "deriv <= degree < window"),
        ({"deriv": -1}, "deriv <= degree < window"),
    ],
    ids=str,
)
def test_parameters_must_fit(X: NDArray[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SavitzkyGolay(**options).fit(X)


def test_two_channels_at_one_position_are_refused(X: NDArray[Any]) -> None:
    axis = np.linspace(0, 1, 60)
    axis[7] = axis[8]
    with pytest.raises(UsageError, match="two channels lie at one position"):
        SavitzkyGolay().fit(on_axis(axis, X))
