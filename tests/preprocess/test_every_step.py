"""What holds for every step: clones, saved and loaded, any chunking, array, dataset and study alike."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone

import msicube as mc
import msicube.preprocess
from msicube.errors import NotFittedError
from msicube.preprocess import Pipeline, Step
from msicube.preprocess.fingerprints import plain
from msicube.preprocess.recipes import PipelineSection, StepTable, build_pipeline
from msicube.store import Study

AXIS = np.linspace(700.0, 720.0, 60)
PEAKS = {"half_window": 3, "noise_window": 30, "snr": 1.0}

STEPS: list[Step] = [
    mc.TICNormalize(),
    mc.RMSNormalize(target=2.0),
    mc.MedianNormalize(),
    mc.VectorNormalize(),
    mc.MinMaxNormalize(),
    mc.ReferenceNormalize(ranges=[(703.0, 706.0)]),
    mc.ReferenceNormalize(at=[704.0], tolerance="ppm:400"),
    mc.Log1p(),
    mc.Sqrt(),
    mc.Standardize(),
    mc.Standardize(by="slide"),
    mc.SelectChannels(7),
    mc.SelectChannels(7, criterion="t"),
    mc.SelectChannels(7, criterion="variance"),
    mc.SelectChannels(at=[701.0, 711.5], tolerance=0.5),
    mc.Crop(702.0, 715.0, exclude=[(705.0, 706.0)]),
    mc.Blank([(703.0, 706.0), (712.0, 713.0)]),
    mc.SNIPBaseline(half_window=8),
    mc.SNIPBaseline(half_window=8, lls=True, decreasing=False),
    mc.TopHatBaseline(half_window=6),
    mc.ALSBaseline(lam=1e3),
    mc.PolynomialBaseline(degree=2),
    mc.SavitzkyGolay(window=7, degree=3, deriv=1),
    mc.Resample([701.0, 702.25, 719.9]),
    mc.Resample(AXIS[1:] - 0.1, kind="cubic"),
    mc.PeakPick(**PEAKS),  # type: ignore[arg-type]
    mc.PeakPick(spectrum="max", measure="area", tolerance="ppm:500", **PEAKS),  # type: ignore[arg-type]
    mc.PeakAlign(reference=[704.2, 707.9, 712.1, 716.0], tolerance=0.8, **PEAKS),  # type: ignore[arg-type]
    mc.PCA(3),
]


def named(step: Any) -> str:
    return str(step).replace("\n", "")


every_step = pytest.mark.parametrize("step", STEPS, ids=named)


@lru_cache
def cube() -> NDArray[np.float64]:
    """15 x 13 spectra with four peaks on a baseline."""
    rng = np.random.default_rng(8)
    peaks = np.exp(-(((AXIS - np.array([[704.0], [708.1], [712.0], [716.2]])) / 0.6) ** 2))
    values = rng.gamma(2.0, 3.0, (15, 13, 4)) @ peaks + 2 + np.exp(-(AXIS - 700) / 8)
    return values + rng.normal(0, 0.05, values.shape)


@lru_cache
def classes() -> NDArray[Any]:
    return np.where(np.random.default_rng(9).random((15, 13)) < 0.5, "tumour", "normal")


def dataset(chunks: tuple[int, int], dtype: Any = np.float64) -> xr.Dataset:
    values = cube().astype(dtype)
    made = xr.Dataset({"intensity": (("y", "x", "channel"), values)}, {"mz": ("channel", AXIS)})
    return made.chunk({"y": chunks[0], "x": chunks[1], "channel": 60})


@lru_cache
def fitted(text: str) -> Pipeline:
    (step,) = (one for one in STEPS if named(one) == text)
    return Pipeline([clone(step)]).fit(dataset((15, 13)), classes())


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_every_step_of_this_page_has_its_turn() -> None:
    names = ["normalize", "intensity", "standardize", "selection", "baseline", "smoothing", "resample"]
    modules = {f"msicube.preprocess.{name}" for name in (*names, "peakpick", "peakalign", "pca", "blank")}
    exported = [getattr(msicube.preprocess, name) for name in msicube.preprocess.__all__]
    ours = {kind for kind in exported if inspect.isclass(kind) and kind.__module__ in modules}
    assert ours == {type(step) for step in STEPS}


@every_step
def test_parameters_are_cloned_and_shown(step: Step) -> None:
    again = clone(step)
    assert str(again) == str(step)
    assert again.set_params(**step.get_params()).get_params().keys() == step.get_params().keys()
    with pytest.raises(NotFittedError):
        again.transform(np.ones((2, 60)))


@every_step
@settings(deadline=None, max_examples=3)
@given(chunks=st.tuples(st.integers(1, 15), st.integers(1, 13)))
def test_any_chunking_is_one_chunk(step: Step, chunks: tuple[int, int]) -> None:
    one = fitted(named(step))
    many = Pipeline([clone(step)]).fit(dataset(chunks), classes())
    expected = one.transform(dataset((15, 13)))["features"].values
    close(many.transform(dataset(chunks))["features"].values, expected)


@every_step
@settings(deadline=None, max_examples=3)
@given(rows=st.lists(st.integers(0, 194), min_size=1, max_size=30))
def test_a_spectrum_is_mapped_by_itself(step: Step, rows: list[int]) -> None:
    X = cube().reshape(-1, 60)
    pipeline = fitted(named(step))
    close(pipeline.transform_block(X[rows]), pipeline.transform_block(X)[rows], 1e-9)


@every_step
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_types_and_input(step: Step, dtype: Any) -> None:
    X = (cube().reshape(-1, 60) * (10 if dtype == np.uint16 else 1)).astype(dtype)
    before = X.tobytes()
    pipeline = fitted(named(step))
    Y = pipeline.transform_block(X)
    assert X.tobytes() == before
    assert Y.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert Y.shape == (195, pipeline.n_features_out_) == (195, len(pipeline.get_feature_names_out()))
    assert np.isfinite(Y).all()
    close(Y, pipeline.transform_block(X.astype(np.float64)), 2e-4)
    turned = np.asfortranarray(X)
    close(pipeline.transform_block(turned), Y, 1e-6)
    assert turned.tobytes() == before


@every_step
def test_a_dataset_is_an_array_with_places(step: Step) -> None:
    pipeline = fitted(named(step))
    features = pipeline.transform(dataset((4, 6)))
    close(
        features["features"].values.reshape(195, -1), pipeline.transform_block(cube().reshape(-1, 60)), 1e-9
    )
    if pipeline.channels_out().on_axis:
        np.testing.assert_array_equal(features["mz"], pipeline.channels_out().values)


@every_step
def test_it_is_saved_and_loaded(step: Step, own_study: Study) -> None:
    pipeline = fitted(named(step))
    pipeline.save(own_study, name="one")
    loaded = Pipeline.load(own_study, name="one")
    X = cube().reshape(-1, 60)
    assert loaded.transform_block(X).tobytes() == pipeline.transform_block(X).tobytes()
    assert loaded.fingerprint() == pipeline.fingerprint()


@every_step
def test_it_is_a_step_of_a_recipe(step: Step) -> None:
    parameters = plain(step.get_params(deep=False))  # TOML has lists, and no tuples
    section = PipelineSection((StepTable(type(step).__name__, parameters),))
    (built,) = build_pipeline(section).steps
    assert plain(built.get_params(deep=False)) == parameters


@every_step
def test_it_folds_or_runs_between_others(step: Step) -> None:
    X, y = cube().reshape(-1, 60), classes().ravel()
    steps = [mc.VectorNormalize(), clone(step), mc.Standardize(), mc.PCA(2)]
    given_ = xr.Dataset({"intensity": (("y", "x", "channel"), X[None])}, {"mz": ("channel", AXIS)})
    pipeline = Pipeline(steps).fit(given_, y[None])
    block = X
    for one in pipeline.steps_:
        block = one.transform_block(block)
    close(pipeline.transform_block(X), block, 1e-9)


@every_step
def test_a_study_gives_each_slide_its_features(step: Step, build_study: Any, slide: Any) -> None:
    everywhere = np.ones((15, 13), bool)
    first = replace(slide, cube=cube(), acquired=everywhere, mz=AXIS)
    slides = {"a": first, "b": replace(first, cube=cube() * 1.1)}
    study = build_study(slides, samples={"a": {"label": "tumour"}, "b": {"label": "normal"}})
    pipeline = Pipeline([clone(step)]).fit(study)
    for name, one in slides.items():
        features = pipeline.transform(study)[name]["features"].values
        close(features.reshape(195, -1), pipeline.transform_block(one.X, slide=name), 1e-9)
