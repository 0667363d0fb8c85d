"""Slides on axes of their own, brought onto one by the first step of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from sklearn import decomposition

import msicube as mc
from msicube.errors import AxisMismatch, UsageError
from msicube.preprocess import PCA, Log1p, Pipeline, Resample, Standardize, TICMask, TICNormalize
from msicube.preprocess.peakalign import PeakAlign
from msicube.store import Study
from msicube.stream import SpectrumStream

#: Four slides, the first two on one axis; the last falls.
AXES = {
    "a": np.linspace(600.0, 900.0, 61),
    "b": np.linspace(600.0, 900.0, 61),
    "c": np.linspace(590.0, 905.0, 43),
    "d": np.geomspace(880.0, 601.0, 61),
}
GRID = np.linspace(610.0, 870.0, 30)


def resampled(name: str, X: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return spectra at the positions of the grid, as NumPy or SciPy has them."""
    order = np.argsort(AXES[name])
    axis, X = AXES[name][order], X[:, order]
    if kind == "cubic":
        return CubicSpline(axis, X, axis=1)(GRID)
    return np.stack([np.interp(GRID, axis, x) for x in X])


@pytest.fixture
def slides(slide: Any) -> dict[str, Any]:
    """The same bands, sampled anew for each slide."""
    rng, found = np.random.default_rng(5), {}
    for name, axis in AXES.items():
        bands = np.exp(-(((axis - np.array([[650.0], [720.0], [800.0]])) / 25) ** 2))
        cube = rng.gamma(2.0, 1.0, (9, 8, 3)) @ bands + 0.1
        acquired = rng.random((9, 8)) < 0.8
        cube[~acquired] = 0
        found[name] = replace(slide, cube=cube, acquired=acquired, mz=axis)
    return found


@pytest.fixture
def axes(slides: dict[str, Any], build_study: Any) -> Study:
    study: Study = build_study(slides)
    return study


@pytest.fixture
def X(slides: dict[str, Any]) -> Callable[..., NDArray[Any]]:  # noqa: N802
    return lambda names, kind="linear": np.concatenate(
        [resampled(name, slides[name].X, kind) for name in names]
    )


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_a_fit_is_that_of_the_spectra_on_the_new_axis(axes: Study, slides: Any, X: Any, kind: Any) -> None:
    pipeline = Pipeline([Resample(GRID, kind=kind), PCA(2)]).fit(axes)
    expected = decomposition.PCA(2, svd_solver="full").fit(X(AXES, kind))
    pca: Any = pipeline.steps_[1]
    np.testing.assert_allclose(pca.mean_, expected.mean_, rtol=1e-10)
    np.testing.assert_allclose(pca.explained_variance_, expected.explained_variance_, rtol=1e-9)
    assert pipeline.slides_ == list(AXES)
    np.testing.assert_array_equal(pipeline.steps_[0].channels_out().values, GRID)
    for name, slide in slides.items():
        scores = expected.transform(resampled(name, slide.X, kind)) * np.sign(
            np.sum(expected.components_ * pca.components_, axis=1)
        )
        for features in (pipeline.transform(axes)[name], pipeline.transform(axes[name])):
            np.testing.assert_allclose(features["features"].values[slide.acquired], scores, atol=1e-8)
            assert not features["features"].values[~slide.acquired].any()


def test_the_bits_are_the_same_everywhere_and_statistics_are_kept(axes: Study, client: Client) -> None:
    steps = [Resample(GRID), TICNormalize(), Standardize()]
    fits = [
        Pipeline(steps).fit(axes, **options)
        for options in ({"workers": 1}, {"workers": 3}, {"scheduler": client}, {"cache": True})
    ]
    assert len({fit.fingerprint() for fit in fits}) == 1
    some = Pipeline(steps).fit(axes, slides=["b", "c"], cache=True)
    assert some.passes_[0].n_kept == 2, "what is gathered of a slide depends on no other slide's axis"
    again = Pipeline(steps).fit(axes, cache=True)
    assert again.passes_[0].n_kept == 4
    assert again.fingerprint() == fits[0].fingerprint()


def test_it_is_saved_loaded_and_applied(axes: Study, slides: Any, X: Any, client: Client) -> None:
    fitted = Pipeline([Resample(GRID), Log1p(), Standardize()]).fit(axes, slides=["b"])
    fitted.save(axes, name="even")
    loaded = Pipeline.load(axes, name="even")
    assert mc.apply(axes, name="even", slides=["a", "b"]) == ["a", "b"]
    assert mc.apply(axes, name="even", scheduler=client) == ["c", "d"]
    logged = np.log1p(X(["b"]))
    for name, slide in slides.items():
        expected = (np.log1p(X([name])) - logged.mean(axis=0)) / logged.std(axis=0)
        stored = mc.open_study(axes.path)[name]["even"]
        np.testing.assert_allclose(stored.values[slide.acquired], expected, rtol=1e-4, atol=1e-4)
        features = loaded.transform(axes)[name]["features"].values
        np.testing.assert_allclose(features[slide.acquired], expected, rtol=1e-8, atol=1e-8)
    stream = SpectrumStream(mc.open_study(axes.path), variable="even", labels=None, batch_size=16)
    assert len(next(iter(stream))["spectra"][0]) == len(GRID)
    with pytest.raises(AxisMismatch, match="stream slides of one axis, or what apply has stored"):
        SpectrumStream(axes, labels=None, batch_size=16)
    with pytest.raises(AxisMismatch, match="slide d lies on another axis"):
        SpectrumStream(axes, slides=["d"], pipeline=loaded, labels=None, batch_size=16)


def test_masks_and_numbers_of_each_slide(axes: Study, slides: Any, X: Any) -> None:
    made = mc.make_mask(axes, Pipeline([Resample(GRID), TICMask()]), name="bright")
    mask = TICMask().fit(X(AXES))
    for one, name in zip(made, AXES, strict=True):
        held = mc.open_study(axes.path)[name]["bright"].values[slides[name].acquired]
        np.testing.assert_array_equal(held, mask.predict(X([name])))
        assert one.held == held.sum()
    mc.make_mask(axes, Pipeline([Resample(GRID), TICMask()]), name="own", per_slide=True)
    steps = [Resample(GRID), Standardize(by="slide")]
    added = Pipeline(steps).fit(axes, slides=["b"]).add_slides(axes)
    for name in AXES:
        features = added.transform(axes)[name]["features"].values[slides[name].acquired]
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-9)


def test_without_it_the_error_says_so(axes: Study) -> None:
    with pytest.raises(AxisMismatch, match=r"a \(61.*c \(43.*begin the pipeline with Resample\(axis\)"):
        PCA(2).fit(axes)
    with pytest.raises(AxisMismatch, match="begin the pipeline"):
        Pipeline([Log1p(), Resample(GRID)]).fit(axes)
    wide = Resample([595.0, 700.0])
    with pytest.raises(
        AxisMismatch, match=r"slide d: Resample to positions from 610 to 890.*nothing is extr"
    ):
        Pipeline([Resample([610.0, 890.0]), PCA(1)]).fit(axes)
    fitted = Pipeline([wide, PCA(1)]).fit(axes, slides=["c"])
    with pytest.raises(AxisMismatch, match="slide a: Resample to positions from 595 to 700"):
        fitted.transform(axes)["a"]
    fitted.save(axes, name="wide")
    with pytest.raises(AxisMismatch, match="slide a: Resample"):
        mc.apply(axes, name="wide")
    assert not Path(axes.path, "c", "wide").exists()
    with pytest.raises(UsageError, match="43 features, but"):
        Pipeline([Resample([2.0, 3.0])]).fit(np.ones((3, 9))).transform(np.ones((3, 43)))
    # A slide is aligned on its own channels: what comes before it is not asked for another axis.
    with pytest.raises(AxisMismatch, match="begin the pipeline"):
        PeakAlign().fit(axes)
