"""PCA against scikit-learn's with a full SVD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import decomposition

from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess import PCA, Pipeline, SelectChannels, Standardize
from msicube.preprocess.pca import MAX_CHANNELS


@pytest.fixture(name="X")
def _spectra() -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 6)) @ rng.normal(size=(6, 15)) + 0.3 * rng.normal(size=(400, 15)) + 20


@pytest.mark.parametrize("whiten", [False, True])
def test_it_is_scikit_learns_pca(X: NDArray[Any], whiten: bool) -> None:
    ours = PCA(5, whiten=whiten).fit(X)
    theirs = decomposition.PCA(5, svd_solver="full", whiten=whiten).fit(X)
    for name in ("components_", "mean_", "explained_variance_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(X)), theirs.inverse_transform(theirs.transform(X)), rtol=1e-10
    )
    assert ours.solver_ == "covariance"
    assert list(ours.get_feature_names_out()) == ["PC1", "PC2", "PC3", "PC4", "PC5"]


def test_all_components_span_what_incremental_pca_spans(X: NDArray[Any]) -> None:
    ours = PCA(15).fit(X)
    theirs = decomposition.IncrementalPCA(15, batch_size=100).fit(X)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, rtol=1e-12)


def test_float32_spectra_give_float32_scores(X: NDArray[Any]) -> None:
    ours = PCA(3).fit(X.astype(np.float32))
    scores = ours.transform(X.astype(np.float32))
    assert scores.dtype == ours.inverse_transform(scores).dtype == np.float32
    assert ours.inverse_transform(np.ones((1, 3), int)).dtype == np.float64
    exact = decomposition.PCA(3, svd_solver="full").fit(X.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(ours.components_, exact.components_, atol=1e-10)


def test_signs_are_those_of_the_largest_loading(X: NDArray[Any]) -> None:
    components = PCA(8).fit(X).components_
    assert (components[np.arange(8), np.abs(components).argmax(axis=1)] > 0).all()


def test_spectra_without_variance(X: NDArray[Any]) -> None:
    pca = PCA(2, whiten=True).fit(np.ones((5, 4)))
    np.testing.assert_array_equal(pca.explained_variance_ratio_, 0)
    np.testing.assert_array_equal(pca.transform(np.ones((2, 4))), 0)


def test_nan_spectra_are_left_out_and_get_nan_scores(X: NDArray[Any]) -> None:
    X[7, 3] = np.nan
    pca = PCA(3).fit(X)
    assert (pca.n_spectra_, pca.n_nonfinite_) == (399, 1)
    scores = pca.transform(X)
    assert np.isnan(scores[7]).all()
    assert np.isfinite(np.delete(scores, 7, axis=0)).all()


def test_too_many_components_and_too_few_spectra(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="between 1 and the 15 channels"):
        PCA(16).fit(X)
    with pytest.raises(UsageError, match="at least 5 are needed"):
        PCA(5).fit(X[:4])
    with pytest.raises(UsageError, match="at least 2 are needed"):
        PCA(1).fit(X[:1])


def test_an_axis_too_wide_is_refused_before_anything_is_read() -> None:
    X = np.zeros((4, MAX_CHANNELS + 1), np.float32)
    X[:2, :5] = 1
    seen: list[Any] = []
    with pytest.raises(
        MemoryLimitError, match=r"8193 channels takes a covariance of 51\d MiB.*SelectChannels"
    ):
        Pipeline([Standardize(), PCA(3)]).fit(X, progress=lambda *event: seen.append(event))
    assert not seen
    narrow = Pipeline([Standardize(), SelectChannels(5), PCA(2)]).fit(X, [0, 0, 1, 1])
    assert narrow.n_features_out_ == 2
