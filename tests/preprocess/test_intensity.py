"""TICNormalize and Log1p against NumPy, and what they make of odd spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import normalize

from msicube.errors import UsageError
from msicube.preprocess import Log1p, Pipeline, Standardize, TICNormalize

positive = arrays(np.float64, (7, 5), elements=st.floats(1e-3, 1e6))


@settings(deadline=None)
@given(positive)
def test_tic_is_the_target(X: NDArray[Any]) -> None:
    np.testing.assert_allclose(TICNormalize().fit(X).transform(X).mean(axis=1), 1, rtol=1e-12)
    to_one = TICNormalize(target=1.0).fit(X).transform(X)
    np.testing.assert_allclose(to_one, normalize(X, norm="l1"), rtol=1e-12)


@settings(deadline=None)
@given(arrays(np.float32, (7, 5), elements=st.floats(0, 1e6, width=32)))
def test_log1p_is_numpys(X: NDArray[Any]) -> None:
    Y = Log1p().fit(X).transform(X)
    assert Y.dtype == np.float32
    np.testing.assert_allclose(Y, np.log1p(X.astype(np.float64)), rtol=1e-6)


def test_spectra_without_a_total_ion_current() -> None:
    X = np.array([[0, 0, 0], [1, -1, 0], [1, -3, 0], [1, 1, 1], [np.nan, 1, 1], [np.inf, 1, 1]], np.float32)
    Y = TICNormalize().fit(X).transform(X)
    np.testing.assert_array_equal(Y[0], [0, 0, 0])
    assert np.isnan(Y[1:3]).all()
    np.testing.assert_array_equal(Y[3], [1, 1, 1])
    assert np.isnan(Y[4]).all()
    assert np.isnan(Y[5]).any()


def test_the_largest_totals_and_no_spectra() -> None:
    huge = np.finfo(np.float32).max
    X = np.array([[huge, huge, 0, 0]], np.float32)
    tic = TICNormalize().fit(X)
    np.testing.assert_allclose(tic.transform(X), [[2, 2, 0, 0]], rtol=1e-6)
    assert tic.transform_block(X[:0]).shape == (0, 4)


def test_negative_intensities_count_as_zero_in_the_logarithm() -> None:
    X = np.array([[-5.0, -0.5, 0.0, 3.0, np.nan, np.inf]])
    np.testing.assert_array_equal(Log1p().fit(X).transform(X), [[0, 0, 0, np.log1p(3.0), np.nan, np.inf]])


def test_irregular_input_is_counted_where_a_pass_sees_it() -> None:
    X = np.random.default_rng(0).gamma(2.0, size=(50, 4))
    X[3], X[7, 0], X[9, :2] = 0, -0.01, -0.02
    pipeline = Pipeline([TICNormalize(), Log1p(), Standardize()]).fit(X)
    assert [step.n_irregular_ for step in pipeline.steps_] == [1, 3, None]  # no pass goes through the last
    assert TICNormalize().fit(X).n_irregular_ is None


@pytest.mark.parametrize("target", [0, -1.0, np.inf, np.nan])
def test_a_target_must_be_positive(target: float) -> None:
    with pytest.raises(UsageError, match="target must be a positive number"):
        TICNormalize(target=target).fit(np.ones((2, 2)))


def test_parameters_survive_a_clone() -> None:
    assert clone(TICNormalize(target=3.0)).get_params() == {"target": 3.0}
    assert TICNormalize().set_params(target=2.0).target == 2.0
