"""Log1p and Sqrt against NumPy, and what they make of odd values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from msicube.preprocess import Log1p, Sqrt


@pytest.mark.parametrize(("step", "function"), [(Log1p(), np.log1p), (Sqrt(), np.sqrt)], ids=str)
@settings(deadline=None)
@given(X=arrays(np.float32, (7, 5), elements=st.floats(0, 1e6, width=32)))
def test_it_is_numpys(step: Any, function: Any, X: NDArray[Any]) -> None:
    Y = step.fit(X).transform(X)
    assert Y.dtype == np.float32
    np.testing.assert_allclose(Y, function(X.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize(("step", "of_three"), [(Log1p(), np.log1p(3.0)), (Sqrt(), np.sqrt(3.0))], ids=str)
def test_negative_intensities_count_as_zero(step: Any, of_three: float) -> None:
    X = np.array([[-5.0, -0.5, 0.0, 3.0, np.nan, np.inf, -np.inf]])
    np.testing.assert_array_equal(step.fit(X).transform(X), [[0, 0, 0, of_three, np.nan, np.inf, 0]])


def test_a_square_root_evens_out_the_variance_of_counts() -> None:
    counts = np.random.default_rng(0).poisson([5, 50, 500], (20_000, 3)).astype(np.float32)
    np.testing.assert_allclose(Sqrt().fit(counts).transform(counts).var(axis=0), 0.25, rtol=0.15)
