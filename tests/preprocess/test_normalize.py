"""The normalisations against NumPy and scikit-learn, and what they make of spectra without a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import minmax_scale, normalize

from msicube.errors import UsageError
from msicube.preprocess import (
    Log1p,
    MedianNormalize,
    MinMaxNormalize,
    Pipeline,
    ReferenceNormalize,
    RMSNormalize,
    Standardize,
    TICNormalize,
    VectorNormalize,
)

STEPS = [
    TICNormalize(target=1.0),
    RMSNormalize(),
    MedianNormalize(),
    VectorNormalize(),
    MinMaxNormalize(),
    ReferenceNormalize(at=[0, 1, 2, 3]),
]

positive = arrays(np.float64, (7, 5), elements=st.floats(1e-3, 1e6))


@settings(deadline=None)
@given(positive)
def test_tic_is_the_target(X: NDArray[Any]) -> None:
    np.testing.assert_allclose(TICNormalize().fit(X).transform(X).mean(axis=1), 1, rtol=1e-12)
    to_one = TICNormalize(target=1.0).fit(X).transform(X)
    np.testing.assert_allclose(to_one, normalize(X, norm="l1"), rtol=1e-12)


@settings(deadline=None)
@given(positive, st.floats(0.1, 10))
def test_lengths_and_root_mean_squares(X: NDArray[Any], target: float) -> None:
    vector = VectorNormalize(target=target).fit(X).transform(X)
    np.testing.assert_allclose(vector, target * normalize(X), rtol=1e-12)
    rms = RMSNormalize(target=target).fit(X).transform(X)
    np.testing.assert_allclose(rms, target * X / np.sqrt((X**2).mean(axis=1, keepdims=True)), rtol=1e-12)


@settings(deadline=None)
@given(arrays(np.float64, (9, 6), elements=st.sampled_from([-2.0, 0.0, 0.0, 0.5, 1.0, 3.0, 7.25])))
def test_the_median_is_of_positive_values(X: NDArray[Any]) -> None:
    Y = MedianNormalize().fit(X).transform(X)
    for x, y in zip(X, Y, strict=True):
        if (x > 0).any():
            np.testing.assert_allclose(y, x / np.median(x[x > 0]), rtol=1e-12)
        elif x.any():
            assert np.isnan(y).all()
        else:
            assert not y.any()


@settings(deadline=None)
@given(positive)
def test_the_range_is_scikit_learns(X: NDArray[Any]) -> None:
    X[:, 0] = X.max(axis=1) + 1  # no spectrum is constant
    Y = MinMaxNormalize(target=3.0).fit(X).transform(X)
    np.testing.assert_allclose(Y, minmax_scale(X, axis=1) * 3, rtol=1e-9, atol=1e-12)


def test_the_reference_is_a_mean_of_channels(slide: Any) -> None:
    dataset = slide.dataset()
    at = slide.mz[[3, 20]]
    by_place = ReferenceNormalize(at=at + 0.01, tolerance="ppm:20", target=2.0).fit(dataset)
    np.testing.assert_array_equal(by_place.indices_, [3, 20])
    expected = 2 * slide.X / slide.X[:, [3, 20]].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(by_place.transform_block(slide.X), expected, rtol=1e-12)
    by_range = ReferenceNormalize(ranges=[(slide.mz[4], slide.mz[6])]).fit(dataset)
    np.testing.assert_array_equal(by_range.indices_, [4, 5, 6])


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spectra_without_a_scale(step: Any, dtype: Any) -> None:
    X = np.array(
        [[1, 2, 3, 4], [0, 0, 0, 0], [np.nan, 1, 1, 1], [np.inf, 1, 1, 1], [-np.inf, 1, 1, 1]], dtype
    )
    Y = clone(step).fit(X).transform(X)
    assert np.isfinite(Y[0]).all()
    assert not Y[1].any()
    assert np.isnan(Y[2:]).all()


def test_spectra_whose_scale_is_not_positive() -> None:
    X = np.array([[1, -1, 0], [1, -3, 0], [-1, -2, 0]], np.float32)
    assert np.isnan(TICNormalize().fit(X).transform(X)).all()
    assert np.isnan(ReferenceNormalize(at=[1]).fit(X).transform(X)).all()
    assert np.isnan(MedianNormalize().fit(X).transform(X)[2]).all()
    constant = np.full((1, 3), 2.0)
    assert np.isnan(MinMaxNormalize().fit(constant).transform(constant)).all()


def test_a_nan_beside_the_reference_stays_where_it_is() -> None:
    X = np.array([[2.0, 4.0, np.nan, np.inf]])
    np.testing.assert_array_equal(ReferenceNormalize(at=[0]).fit(X).transform(X), [[1, 2, np.nan, np.inf]])


def test_the_largest_totals_and_no_spectra() -> None:
    huge = np.finfo(np.float32).max
    X = np.array([[huge, huge, 0, 0]], np.float32)
    for step, value in ((TICNormalize(), 2), (RMSNormalize(), np.sqrt(2)), (VectorNormalize(), np.sqrt(0.5))):
        np.testing.assert_allclose(step.fit(X).transform(X), [[value, value, 0, 0]], rtol=1e-6)
        assert step.transform_block(X[:0]).shape == (0, 4)


def test_irregular_input_is_counted_where_a_pass_sees_it() -> None:
    X = np.random.default_rng(0).gamma(2.0, size=(50, 4))
    X[3], X[7, 0], X[9, :2] = 0, -0.01, -0.02
    pipeline = Pipeline([TICNormalize(), Log1p(), Standardize()]).fit(X)
    assert [step.n_irregular_ for step in pipeline.steps_] == [1, 3, None]  # no pass goes through the last
    assert TICNormalize().fit(X).n_irregular_ is None
    for step in STEPS:
        assert Pipeline([clone(step), Standardize()]).fit(X).steps_[0].n_irregular_ == 1


@pytest.mark.parametrize("target", [0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_target_must_be_positive(step: Any, target: float) -> None:
    with pytest.raises(UsageError, match="target must be a positive number"):
        clone(step).set_params(target=target).fit(np.ones((2, 4)))


def test_parameters_survive_a_clone() -> None:
    assert clone(TICNormalize(target=3.0)).get_params() == {"target": 3.0}
    assert TICNormalize().set_params(target=2.0).target == 2.0


def test_a_reference_must_be_named_once_and_be_there(slide: Any) -> None:
    with pytest.raises(UsageError, match="needs at= or ranges="):
        ReferenceNormalize().fit(slide.X)
    with pytest.raises(UsageError, match="needs at= or ranges="):
        ReferenceNormalize(at=[1], ranges=[(1, 2)]).fit(slide.X)
    with pytest.raises(UsageError, match=r"no channel lies within .* of 500"):
        ReferenceNormalize(at=[500.0]).fit(slide.dataset())
