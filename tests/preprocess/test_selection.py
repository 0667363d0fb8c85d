"""SelectChannels: class means, ties, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess import Pipeline, SelectChannels, Standardize


@pytest.fixture(name="X")
def _spectra() -> NDArray[Any]:
    return np.random.default_rng(0).gamma(2.0, size=(90, 12))


def test_scores_are_differences_of_class_means(X: NDArray[Any]) -> None:
    y = np.where(np.arange(90) % 3 == 0, "tumour", "normal")
    select = SelectChannels(4).fit(X, y)
    expected = np.abs(X[y == "tumour"].mean(axis=0) - X[y == "normal"].mean(axis=0))
    np.testing.assert_allclose(select.scores_, expected, rtol=1e-12)
    np.testing.assert_array_equal(select.indices_, np.sort(np.argsort(expected)[-4:]))
    np.testing.assert_array_equal(select.transform(X), X[:, select.indices_])
    assert select.classes_ == ["normal", "tumour"]
    assert list(select.get_feature_names_out()) == [f"x{i}" for i in select.indices_]


def test_more_classes_are_scored_by_the_two_farthest_apart(X: NDArray[Any]) -> None:
    y = np.arange(90) % 3
    means = np.stack([X[y == c].mean(axis=0) for c in range(3)])
    select = SelectChannels(4).fit(X, y)
    np.testing.assert_allclose(select.scores_, np.ptp(means, axis=0), rtol=1e-12)
    assert select.classes_ == [0, 1, 2]


def test_of_equal_scores_the_lower_channel_is_taken() -> None:
    X = np.zeros((4, 6))
    X[:2, [1, 2, 4, 5]] = 1
    np.testing.assert_array_equal(SelectChannels(3).fit(X, [0, 0, 1, 1]).indices_, [1, 2, 4])


def test_behind_standardize_scores_are_in_standard_deviations_at_no_further_pass(X: NDArray[Any]) -> None:
    y = np.arange(90) % 2
    pipeline = Pipeline([Standardize(), SelectChannels(3)]).fit(X * np.arange(1, 13), y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(
        pipeline.steps_[1].scores_,  # type: ignore[attr-defined]
        np.abs(Z[y == 0].mean(axis=0) - Z[y == 1].mean(axis=0)),
        rtol=1e-10,
    )
    assert pipeline.n_passes_ == 1


@pytest.mark.parametrize("k", [0, 13, -1])
def test_k_must_fit(k: int, X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="between 1 and the 12 channels"):
        SelectChannels(k).fit(X, np.arange(90) % 2)


def test_it_needs_two_classes_and_says_so_before_anything_is_read(X: NDArray[Any]) -> None:
    seen: list[Any] = []
    with pytest.raises(UsageError, match="all spectra are of one, 'a'"):
        Pipeline([Standardize(), SelectChannels(3)]).fit(
            X, np.full(90, "a"), progress=lambda *event: seen.append(event)
        )
    assert not seen


def test_it_needs_classes(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="give them as y"):
        SelectChannels(3).fit(X)
    with pytest.raises(UsageError, match="2 spectra have no class"):
        SelectChannels(3).fit(X, [None, None, *["a", "b"] * 44])
    with pytest.raises(UsageError, match=r"y has shape \(89,\)"):
        SelectChannels(3).fit(X, np.arange(89) % 2)


def test_a_class_without_finite_spectra_does_not_count(X: NDArray[Any]) -> None:
    X[::2] = np.nan
    with pytest.raises(UsageError, match="all spectra are of one, 1"):
        SelectChannels(3).fit(X, np.arange(90) % 2)
