"""PCA against scikit-learn's with a full SVD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from sklearn import decomposition

from msicube.errors import MemoryLimitError, UsageError
from msicube.preprocess import PCA, Pipeline, SelectChannels, Standardize
from msicube.preprocess.moments import Covariance
from msicube.preprocess.pca import MAX_CHANNELS
from msicube.preprocess.subspace import Sketcher
from msicube.store import Study


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
    np.testing.assert_allclose(ours.components_, exact.components_, atol=5e-7)
    ours = PCA(3, dtype="float64").fit(X.astype(np.float32))
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


def test_a_covariance_too_large_is_refused_before_anything_is_read() -> None:
    X = np.zeros((4, MAX_CHANNELS + 1), np.float32)
    X[:2, :5] = 1
    seen: list[Any] = []
    with pytest.raises(
        MemoryLimitError, match=r"8193 channels takes a covariance of 51\d MiB.*SelectChannels"
    ):
        Pipeline([Standardize(), PCA(3, solver="covariance")]).fit(
            X, progress=lambda *event: seen.append(event)
        )
    assert not seen
    narrow = Pipeline([Standardize(), SelectChannels(5), PCA(2, solver="covariance")]).fit(X, [0, 0, 1, 1])
    assert narrow.n_features_out_ == 2


def wide(n: int, c: int, rank: int, dtype: Any = np.float64) -> NDArray[Any]:
    rng = np.random.default_rng(5)
    loadings = np.linalg.qr(rng.normal(size=(c, rank)))[0] * 0.8 ** np.arange(rank)
    return (30 * rng.normal(size=(n, rank)) @ loadings.T + 0.1 * rng.normal(size=(n, c)) + 7).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_randomized_finds_what_the_covariance_has(dtype: Any) -> None:
    X = wide(600, 300, 40, dtype)
    exact = PCA(8, solver="covariance", dtype="float64").fit(X)
    ours = PCA(8, solver="randomized", tol=1e-7).fit(X)
    assert np.degrees(subspace_angles(ours.components_.T, exact.components_.T)[0]) < 1e-3
    np.testing.assert_allclose(ours.explained_variance_, exact.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours.total_variance_, exact.total_variance_, rtol=1e-6)
    assert ours.captured_variance_ == pytest.approx(ours.explained_variance_ratio_.sum())
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(8), atol=1e-12)
    assert (ours.solver_, ours.solver_reason_) == ("randomized", "as asked")
    assert 1 < ours.n_passes_ < 10
    assert ours.residual_ <= 1e-7


def test_more_passes_capture_more_and_the_residual_says_how_much_is_missing() -> None:
    X = wide(500, 400, 120)
    exact = PCA(5, solver="covariance").fit(X)
    missing = []
    for passes in (1, 2, 3, 8):
        pca = PCA(5, solver="randomized", max_passes=passes, tol=0).fit(X)
        assert pca.n_passes_ == passes
        missing.append((exact.captured_variance_ - pca.captured_variance_, pca.residual_))
    assert missing == sorted(missing, reverse=True)
    assert missing[0][0] > 1e-3
    assert abs(missing[-1][0]) < 1e-9


def test_a_search_that_may_hold_little_goes_on_with_its_best(monkeypatch: Any) -> None:
    X = wide(500, 400, 120)
    exact = PCA(5, solver="covariance").fit(X)
    monkeypatch.setattr("msicube.preprocess.subspace.SEARCH_BYTES", 16 * 400 * 40)
    pca = PCA(5, solver="randomized", max_passes=30).fit(X)
    assert pca.residual_ <= 1e-6
    assert np.degrees(subspace_angles(pca.components_.T, exact.components_.T)[0]) < 1e-3


def test_a_search_may_exhaust_the_space(X: NDArray[Any]) -> None:
    ours, exact = (PCA(5, solver=solver, tol=0).fit(X) for solver in ("randomized", "covariance"))
    np.testing.assert_allclose(ours.components_, exact.components_, atol=1e-9)
    assert ours.n_passes_ == 1  # 15 channels, 15 vectors
    flat = PCA(2, solver="randomized").fit(np.ones((5, 40)))
    np.testing.assert_array_equal(flat.explained_variance_ratio_, 0)
    assert flat.n_passes_ == 1


def test_auto_says_which_and_why() -> None:
    narrow = PCA(2).fit(np.eye(6))
    assert narrow.solver_ == "covariance"
    assert narrow.solver_reason_ == "a covariance of 6 channels takes 288 B, at most 512 MiB"
    X = np.random.default_rng(0).normal(size=(12, MAX_CHANNELS + 1)).astype(np.float32)
    pca = PCA(3, max_passes=4).fit(X)
    assert pca.solver_ == "randomized"
    assert pca.solver_reason_ == "a covariance of 8193 channels takes 512 MiB, more than 512 MiB"
    exact = decomposition.PCA(3, svd_solver="full").fit(X)
    np.testing.assert_allclose(pca.explained_variance_, exact.explained_variance_, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32), st.booleans())
def test_sketches_merge_to_that_of_all(cut: int, seed: int, holes: bool) -> None:
    rng = np.random.default_rng(seed)
    X, vectors = rng.normal(size=(31, 6)) + 100, rng.normal(size=(6, 2))
    if holes:
        X[rng.integers(31, size=4), 0] = np.nan
    measure = Sketcher(vectors)
    one, merged = measure(X), measure(X[:cut]).merge(measure(X[cut:]))
    for field in ("n", "n_nonfinite", "mean", "mean_score", "m2", "product"):
        np.testing.assert_allclose(getattr(merged, field), getattr(one, field), rtol=1e-9, atol=1e-9)
    good = X[np.isfinite(X).all(axis=1)]
    np.testing.assert_allclose(one.product, np.cov(good.T) @ vectors * (len(good) - 1), rtol=1e-9, atol=1e-9)


def test_small_and_large_numbers_are_multiplied_in_float64() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 4))
    for scale in (1e-25, 1e25):
        found = Covariance.from_block((X * scale).astype(np.float32))
        np.testing.assert_allclose(found.scatter, np.cov(X.T) * 49 * scale**2, rtol=1e-5)


def test_the_same_bits_on_any_scheduler(study: Study, client: Client) -> None:
    found = [
        PCA(3, solver="randomized", max_passes=3).fit(study, scheduler=scheduler).components_.tobytes()
        for scheduler in ("synchronous", "threads", client)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "arpack"}, "expected one of auto, covariance, randomized"),
        ({"dtype": "float16"}, "expected None"),
        ({"max_passes": 0}, "at least one pass"),
        ({"tol": -1.0}, "at least 0"),
    ],
)
def test_wrong_parameters(X: NDArray[Any], parameters: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PCA(2, **parameters).fit(X)
