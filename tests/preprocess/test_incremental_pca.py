"""IncrementalPCA against scikit-learn's on the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import decomposition
from sklearn.utils import gen_batches

from msicube.errors import UsageError
from msicube.preprocess import IncrementalPCA, Pipeline, TICNormalize
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.incremental_pca import batches
from msicube.store import Study


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads may round differently."""
    with one_blas_thread():
        yield


def same(ours: IncrementalPCA, theirs: decomposition.IncrementalPCA) -> None:
    for name in ours.learned_arrays:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    assert (ours.n_samples_seen_, ours.noise_variance_) == (theirs.n_samples_seen_, theirs.noise_variance_)


@pytest.mark.parametrize("batch_size", [None, 60, 101, 5000])
@pytest.mark.parametrize("whiten", [False, True])
def test_fit_is_scikit_learns(slide: Any, batch_size: int | None, whiten: bool) -> None:
    ours = IncrementalPCA(4, batch_size=batch_size, whiten=whiten).fit(slide.X)
    theirs = decomposition.IncrementalPCA(4, batch_size=batch_size, whiten=whiten).fit(slide.X)
    same(ours, theirs)
    np.testing.assert_allclose(ours.transform(slide.X), theirs.transform(slide.X), rtol=1e-9, atol=1e-9)
    scores = ours.transform(slide.X)
    np.testing.assert_allclose(ours.inverse_transform(scores), theirs.inverse_transform(scores), rtol=1e-9)


def test_datasets_and_studies_are_taken_in_order(slide: Any, study: Study) -> None:
    rows = slide.dataset((5, 19, 40))
    same(
        IncrementalPCA(3, batch_size=50).fit(rows),
        decomposition.IncrementalPCA(3, batch_size=50).fit(slide.X),
    )
    name = study.slides[0]
    tiles = [study.cube(name).read(w)[study.acquired(name)[w.slices]] for w in study.cube(name).tiles()]
    seen: list[Any] = []
    same(
        IncrementalPCA(3, batch_size=200).fit(
            study, slides=[name], allow_test=True, progress=lambda *event: seen.append(event)
        ),
        decomposition.IncrementalPCA(3, batch_size=200).fit(np.concatenate(tiles)),
    )
    assert seen[-1] == (f"batches {name}", len(tiles), len(tiles))


def test_partial_fit_goes_on_also_after_saving(slide: Any, own_study: Study) -> None:
    theirs = decomposition.IncrementalPCA(3)
    ours = IncrementalPCA(3)
    parts = np.array_split(slide.X, 4)
    for part in parts[:3]:
        theirs.partial_fit(part)
        same(ours.partial_fit(part), theirs)
    pipeline = Pipeline([IncrementalPCA(3)])
    record = {"passes_": [], "slides_": [], "slide_digests_": {}, "where_": None, "labels_": []}
    pipeline.restore([ours], ours.channels_in, record)
    pipeline.save(own_study, name="incremental")
    loaded = Pipeline.load(own_study, name="incremental").steps_[0]
    assert isinstance(loaded, IncrementalPCA)
    given = parts[3].copy()
    same(loaded.partial_fit(given), theirs.partial_fit(parts[3]))
    assert given.tobytes() == parts[3].tobytes()


def test_a_second_fit_begins_anew(slide: Any) -> None:
    model = IncrementalPCA(3, batch_size=80).fit(slide.X[:200])
    model.fit(slide.X)
    same(model, decomposition.IncrementalPCA(3, batch_size=80).fit(slide.X))


def test_spectra_that_are_not_finite(slide: Any) -> None:
    X = slide.X.copy()
    X[3, 2], X[90, 0] = np.nan, np.inf
    ours = IncrementalPCA(3, batch_size=100).fit(X)
    same(ours, decomposition.IncrementalPCA(3, batch_size=100).fit(np.delete(X, [3, 90], axis=0)))
    assert ours.n_nonfinite_ == 2
    with pytest.raises(UsageError, match="nothing to fit on"):
        IncrementalPCA(2).fit(np.full((9, 4), np.nan))


def test_what_it_refuses(slide: Any) -> None:
    with pytest.raises(UsageError, match="takes no part in the fit of a Pipeline: use PCA"):
        Pipeline([TICNormalize(), IncrementalPCA(2)]).fit(slide.X)
    with pytest.raises(UsageError, match="a batch holds at least n_components=5 spectra"):
        IncrementalPCA(5, batch_size=4).fit(slide.X)
    with pytest.raises(UsageError, match="between 1 and the 40 channels"):
        IncrementalPCA(41).fit(slide.X)
    for n, X in ((3, slide.X[:2]), (1, slide.X[:1])):
        with pytest.raises(
            UsageError, match=f"the first batch has {len(X)} finite spectra, at least {max(2, n)}"
        ):
            IncrementalPCA(n).fit(X)
    assert IncrementalPCA(2).fit(slide.X[:2]).noise_variance_ == 0.0
    model = IncrementalPCA(2).partial_fit(slide.X)
    with pytest.raises(UsageError, match="X has 3 features, but IncrementalPCA is expecting 40"):
        model.partial_fit(slide.X[:, :3])


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 30), st.data())
def test_batches_are_those_of_gen_batches(lengths: list[int], size: int, data: Any) -> None:
    at_least = data.draw(st.integers(1, size))
    X = np.arange(sum(lengths), dtype=float)[:, None]
    blocks = iter(np.split(X, np.cumsum(lengths)[:-1])) if lengths else iter([])
    expected = [X[part] for part in gen_batches(len(X), size, min_batch_size=at_least)] if len(X) else []
    found = list(batches(blocks, size, at_least))
    assert [part.ravel().tolist() for part in found] == [part.ravel().tolist() for part in expected]
