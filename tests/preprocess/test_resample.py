"""Resample against NumPy and against SciPy's B-splines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from sklearn.base import clone

from msicube.errors import UsageError
from msicube.preprocess import Crop, Pipeline, Resample

AXIS = np.linspace(30.0, 60.0, 50) ** 1.5


def dataset(X: NDArray[Any], axis: NDArray[Any] = AXIS) -> xr.Dataset:
    return xr.Dataset({"intensity": (("y", "x", "channel"), X[None])}, {"mz": ("channel", axis)})


@pytest.fixture(name="X")
def _spectra() -> NDArray[np.float64]:
    return np.random.default_rng(0).gamma(2.0, size=(20, 50))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(AXIS[0], AXIS[-1]), min_size=1, max_size=20), st.booleans())
def test_linear_is_numpys(axis: list[float], descending: bool) -> None:
    X = np.random.default_rng(0).gamma(2.0, size=(20, 50))
    given = dataset(X[:, ::-1], AXIS[::-1]) if descending else dataset(X)
    step = Resample(axis).fit(given)
    expected = np.stack([np.interp(axis, AXIS, x) for x in X])
    block = X[:, ::-1] if descending else X
    np.testing.assert_allclose(step.transform_block(block), expected, rtol=1e-9)
    np.testing.assert_allclose(step.transform_block(block.astype(np.float32)), expected, rtol=1e-5)


def test_cubic_is_the_spline_of_scipy(X: NDArray[Any]) -> None:
    axis = np.random.default_rng(1).uniform(AXIS[0], AXIS[-1], 70)
    step = Resample(axis, kind="cubic").fit(dataset(X))
    expected = make_interp_spline(AXIS, X, k=3, axis=1)(axis)
    np.testing.assert_allclose(step.transform_block(X), expected, atol=1e-10)
    assert step.transform_block(X.astype(np.float32)).dtype == np.float32


def test_the_new_axis_is_that_of_the_features(X: NDArray[Any]) -> None:
    axis = np.linspace(200, 400, 31)
    pipeline = Pipeline([Resample(axis), Crop(upper=300)]).fit(dataset(X))
    features = pipeline.transform(dataset(X))
    np.testing.assert_array_equal(features["mz"], axis[axis <= 300])
    assert pipeline.n_passes_ == 0


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_its_own_axis_changes_nothing(X: NDArray[Any], kind: Any) -> None:
    X[3], X[4] = 0, 5
    Y = Resample(AXIS, kind=kind).fit(dataset(X)).transform_block(X)
    np.testing.assert_allclose(Y, X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_nan_spreads_as_far_as_the_kind_reaches(X: NDArray[Any], bad: float) -> None:
    X[2, 20] = bad
    between = (AXIS[1:] + AXIS[:-1]) / 2
    linear = Resample(between).fit(dataset(X)).transform_block(X)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(linear[2])), [19, 20])
    cubic = Resample(between, kind="cubic").fit(dataset(X)).transform_block(X)
    assert np.isnan(cubic[2]).all()
    assert np.isfinite(np.delete(cubic, 2, axis=0)).all()
    assert np.isfinite(np.delete(linear, 2, axis=0)).all()


def test_nothing_is_extrapolated(X: NDArray[Any]) -> None:
    for axis in ([AXIS[0] - 1e-9, 300], [300, AXIS[-1] + 1e-9]):
        with pytest.raises(UsageError, match="nothing is extrapolated"):
            Resample(axis).fit(dataset(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": [300.0], "kind": "quintic"}, "'linear' or 'cubic'"),
        ({"axis": []}, "at least one"),
        ({"axis": [[300.0]]}, "at least one"),
        ({"axis": [300.0, np.nan]}, "finite positions"),
    ],
    ids=str,
)
def test_parameters_must_fit(X: NDArray[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Resample(**options).fit(dataset(X))


def test_too_few_channels_and_two_at_one_position(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="needs 4 channels at least, 3 come in"):
        Resample([1.0], kind="cubic").fit(X[:, :3])
    axis = AXIS.copy()
    axis[4] = axis[5]
    with pytest.raises(UsageError, match="two channels lie at one position"):
        Resample([300.0]).fit(dataset(X, axis))
    assert np.array_equal(clone(Resample(AXIS)).axis, AXIS)
