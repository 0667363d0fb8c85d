"""From features back to spectra: arrays, datasets, studies, and what cannot be undone."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn import decomposition
from sklearn.preprocessing import StandardScaler

from msicube.errors import NotFittedError, UsageError
from msicube.preprocess import PCA, Pipeline, SelectChannels, Standardize
from msicube.store import Study


@pytest.mark.parametrize("whiten", [False, True])
def test_a_pipeline_is_undone_as_scikit_learn_does(slide: Any, whiten: bool) -> None:
    pipeline = Pipeline([Standardize(), PCA(4, whiten=whiten)]).fit(slide.X)
    scaler = StandardScaler().fit(slide.X)
    pca = decomposition.PCA(4, svd_solver="full", whiten=whiten).fit(scaler.transform(slide.X))
    expected = scaler.inverse_transform(pca.inverse_transform(pca.transform(scaler.transform(slide.X))))
    scores = pipeline.transform(slide.X)
    np.testing.assert_allclose(pipeline.inverse_transform(scores), expected, rtol=1e-9, atol=1e-9)
    assert len(pipeline.inverse_transform(scores).shape) == 2


def test_all_components_give_the_spectra_back(slide: Any) -> None:
    pipeline = Pipeline([Standardize(), PCA(40)]).fit(slide.X)
    np.testing.assert_allclose(pipeline.inverse_transform(pipeline.transform(slide.X)), slide.X, atol=1e-10)
    for options in ({"with_mean": False}, {"with_std": False}):
        step = Standardize(**options).fit(slide.X)
        np.testing.assert_allclose(step.inverse_transform(step.transform(slide.X)), slide.X, atol=1e-10)


def test_a_dataset_lazily(slide: Any) -> None:
    dataset = slide.dataset((7, 7, 40))
    pipeline = Pipeline([Standardize(), PCA(40)]).fit(dataset)
    back = pipeline.inverse_transform(pipeline.transform(dataset))
    assert isinstance(back["intensity"].data, da.Array)
    assert back["intensity"].dims == ("y", "x", "channel")
    np.testing.assert_array_equal(back["mz"], slide.mz)
    np.testing.assert_allclose(back["intensity"].values, slide.cube, atol=1e-9)
    assert not back["intensity"].values[~slide.acquired].any()
    with pytest.raises(UsageError, match="needs a variable 'features' of dims"):
        pipeline.inverse_transform(dataset)


def test_a_study_lazily(study: Study) -> None:
    pca = PCA(6).fit(study)
    back = pca.inverse_transform(pca.transform(study))
    assert list(back) == study.slides
    assert len(back) == len(study)
    name = study.slides[3]
    spectra = study[name]["intensity"].values[study.acquired(name)]
    expected = (spectra - pca.mean_) @ pca.components_.T @ pca.components_ + pca.mean_
    found = back[name]["intensity"].values[study.acquired(name)]
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_what_cannot_be_undone(slide: Any) -> None:
    pipeline = Pipeline([SelectChannels(5), PCA(2)]).fit(slide.X, slide.y)
    with pytest.raises(
        UsageError, match="SelectChannels cannot be undone: call inverse_transform of the steps behind"
    ):
        pipeline.inverse_transform(pipeline.transform(slide.X))
    with pytest.raises(NotFittedError):
        PCA(2).inverse_transform(np.ones((1, 2)))
