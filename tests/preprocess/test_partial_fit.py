"""Learning part by part: the numbers of one fit on everything."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from msicube import errors
from msicube.preprocess import PCA, Log1p, SelectChannels, Standardize
from msicube.store import Study


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**31))
def test_any_parts_give_the_numbers_of_the_whole(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.gamma(2.0, 3.0, (sum(sizes) + 2, 6))
    edges = np.cumsum([0, 2, *sizes])
    scaler, pca = Standardize(), PCA(2)
    for start, stop in pairwise(edges):
        scaler.partial_fit(X[start:stop])
        pca.partial_fit(X[start:stop])
    whole, components = Standardize().fit(X), PCA(2).fit(X)
    assert scaler.n_spectra_ == len(X)
    np.testing.assert_allclose(scaler.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, whole.scale_, rtol=1e-10)
    np.testing.assert_allclose(pca.explained_variance_, components.explained_variance_, rtol=1e-9, atol=1e-12)


def test_slides_of_a_study_are_parts(study: Study) -> None:
    selection = SelectChannels(9)
    names = ["slide_003", "slide_004", "slide_005", "slide_006"]
    with pytest.raises(errors.UsageError, match="compares classes"):
        selection.partial_fit(study, slides=names[:1])
    first = [study.samples["label"][names].eq(label).idxmax() for label in ("normal", "tumour")]
    selection.partial_fit(study, slides=first)
    for slide in sorted(set(names) - set(first)):
        selection.partial_fit(study, slides=[slide])
    whole = SelectChannels(9).fit(study, slides=names)
    np.testing.assert_array_equal(selection.indices_, whole.indices_)
    np.testing.assert_allclose(selection.scores_, whole.scores_, rtol=1e-10)
    with pytest.raises(errors.LeakageError):
        selection.partial_fit(study, slides=["slide_001"])
    assert selection.n_spectra_ == whole.n_spectra_


def test_a_part_that_fails_changes_nothing(slide: Any) -> None:
    scaler = Standardize().partial_fit(slide.X)
    before = scaler.mean_.copy()
    for X, message in ((np.full((3, 40), np.nan), "NaN or an infinity"), (slide.X[:, :39], "expecting 40")):
        with pytest.raises(errors.UsageError, match=message):
            scaler.partial_fit(X)
    np.testing.assert_array_equal(scaler.mean_, before)
    scaler.partial_fit(slide.X)
    np.testing.assert_allclose(scaler.mean_, before, rtol=1e-13)
    assert scaler.n_spectra_ == 2 * len(slide.X)


def test_fit_begins_anew_and_keeps_nothing(slide: Any) -> None:
    scaler = Standardize().partial_fit(slide.X).fit(slide.X[:50])
    assert scaler.n_spectra_ == 50
    with pytest.raises(errors.UsageError, match="fitted by fit, which keeps nothing to add to"):
        scaler.partial_fit(slide.X)
    assert clone(scaler).partial_fit(slide.X).n_spectra_ == len(slide.X)


def test_a_step_that_learns_nothing_takes_any_part(slide: Any) -> None:
    step = Log1p().fit(slide.X).partial_fit(slide.X)
    np.testing.assert_array_equal(step.transform(slide.X), Log1p().fit(slide.X).transform(slide.X))
