"""Moments and covariances of blocks merge into those of the whole, whatever the grouping."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.moments import ClassMoments, Covariance, Moments, finite_spectra

values = st.floats(-1e6, 1e6, allow_nan=False, width=32)
spectra = st.tuples(st.integers(1, 40), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=values)
)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Draw spectra and a partition of them into runs, some of them empty."""
    X = draw(spectra)
    cuts = sorted(draw(st.lists(st.integers(0, len(X)), max_size=6)))
    return X, np.split(X, cuts)


def merged_in_some_tree(parts: list[Any], draw: Any) -> Any:
    """Merge neighbours in an order drawn by Hypothesis until one is left."""
    parts = list(parts)
    while len(parts) > 1:
        at = draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [parts[at].merge(parts[at + 1])]
    return parts[0]


def assert_moments(moments: Moments, X: NDArray[Any]) -> None:
    size = np.abs(X).max() if X.size else 0
    assert moments.n == len(X)
    np.testing.assert_allclose(moments.mean, X.mean(axis=0), rtol=1e-12, atol=1e-12 * size)
    expected = ((X - X.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(moments.m2, expected, rtol=1e-12, atol=1e-12 * len(X) * size**2)


@settings(deadline=None)
@given(grouped(), st.data())
def test_moments_of_parts_merge_into_those_of_the_whole(
    case: tuple[NDArray[Any], list[NDArray[Any]]], data: st.DataObject
) -> None:
    X, parts = case
    assert_moments(merged_in_some_tree([Moments.from_block(part) for part in parts], data.draw), X)


@settings(deadline=None)
@given(grouped(), st.data())
def test_covariances_of_parts_merge_into_that_of_the_whole(
    case: tuple[NDArray[Any], list[NDArray[Any]]], data: st.DataObject
) -> None:
    X, parts = case
    covariance = merged_in_some_tree([Covariance.from_block(part) for part in parts], data.draw)
    deviation, size = X - X.mean(axis=0), np.abs(X).max()
    assert covariance.n == len(X)
    np.testing.assert_allclose(covariance.mean, X.mean(axis=0), rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(
        covariance.scatter, deviation.T @ deviation, rtol=1e-12, atol=1e-12 * len(X) * size**2
    )


@settings(deadline=None)
@given(spectra, st.data())
def test_class_moments_are_the_moments_of_each_class(X: NDArray[Any], data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=len(X), max_size=len(X))))
    cut = data.draw(st.integers(0, len(X)))
    moments = ClassMoments.from_block(X[:cut], labels[:cut]).merge(
        ClassMoments.from_block(X[cut:], labels[cut:])
    )
    assert sorted(moments.classes) == sorted(set(labels.tolist()))
    for name, of_class in moments.classes.items():
        assert_moments(of_class, X[labels == name])
    assert_moments(moments.total(), X)


@settings(deadline=None)
@given(spectra)
def test_nothing_is_the_identity(X: NDArray[Any]) -> None:
    for kind in (Moments, Covariance):
        statistic, nothing = kind.from_block(X), kind.empty(X.shape[1])
        for other in (statistic.merge(nothing), nothing.merge(statistic)):
            assert vars(other).keys() == vars(statistic).keys()
            for name, value in vars(statistic).items():
                np.testing.assert_array_equal(getattr(other, name), value)


def affine_maps(n_channels: int) -> dict[str, Affine]:
    rng = np.random.default_rng(0)
    shift = Affine.diagonal(centre=rng.normal(size=n_channels), weight=rng.normal(size=n_channels))
    choice = Affine.selection(np.array([n_channels - 1, 0]))
    mix = Affine(rng.normal(size=n_channels), rng.normal(size=(n_channels, 2)), rng.normal(size=2))
    return {"shift": shift, "choice": choice, "both": shift.then(choice), "mix": mix}


@pytest.mark.parametrize("name", ["shift", "choice", "both", "mix"])
def test_statistics_follow_an_affine_map(name: str) -> None:
    X = np.random.default_rng(1).gamma(2.0, size=(50, 4))
    affine = affine_maps(4)[name]
    Y = affine.kernel(X)
    expected = Covariance.from_block(Y)
    mapped = Covariance.from_block(X).through(affine)
    np.testing.assert_allclose(mapped.mean, expected.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mapped.scatter, expected.scatter, rtol=1e-11, atol=1e-12)
    moments = Moments.from_block(X).through(affine)
    if affine.mixes:
        assert moments is None
        assert ClassMoments.from_block(X).through(affine) is None
    else:
        assert moments is not None
        np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.m2, np.diag(expected.scatter), rtol=1e-12)


def test_float32_spectra_are_summed_in_float64() -> None:
    X = (1e4 + np.random.default_rng(2).normal(size=(5000, 3))).astype(np.float32)
    moments = reduce(Moments.merge, [Moments.from_block(X[i : i + 7]) for i in range(0, len(X), 7)])
    exact = X.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.var, exact.var(axis=0), rtol=1e-11)


def test_spectra_with_nan_or_infinity_are_left_out_and_counted() -> None:
    X = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    X[1, 2], X[4, 0], X[5] = np.nan, np.inf, -np.inf
    for kind in (Moments, Covariance):
        statistic = kind.from_block(X).merge(kind.from_block(X[1:2]))
        assert (statistic.n, statistic.n_nonfinite) == (3, 4)
        np.testing.assert_allclose(statistic.mean, X[[0, 2, 3]].mean(axis=0, dtype=np.float64), rtol=1e-14)


def test_spectra_that_cancel_an_infinity_or_overflow_their_sum_are_told_apart() -> None:
    big = np.finfo(np.float64).max
    X = np.array([[big, big], [np.inf, -np.inf], [1.0, 2.0]])
    finite, n_nonfinite = finite_spectra(X)
    np.testing.assert_array_equal(finite, X[[0, 2]])
    assert n_nonfinite == 1


def test_blocks_are_not_changed() -> None:
    X = np.random.default_rng(4).normal(size=(9, 3))
    before = X.tobytes()
    for measure in (Moments.from_block, ClassMoments.from_block, Covariance.from_block):
        measure(X)
    assert X.tobytes() == before
