"""PeakAlign: a simulated shift of the mass axis is found and undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import msicube as mc
from msicube.errors import UsageError
from msicube.preprocess import PeakAlign, PeakPick, Pipeline
from msicube.preprocess.peakalign import Warp, lowess, match
from msicube.simulate import simulate_msi
from msicube.store import Study


@pytest.fixture(name="simulated", scope="module")
def _simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, Any]]:
    """Five slides whose mass axes are off by up to 64 ppm, about half the width of a peak."""
    folder = tmp_path_factory.mktemp("shifted")
    report = simulate_msi(
        folder / "slides",
        slides=5,
        seed=3,
        shape=(16, 16),
        channels=3000,
        mz_range=(740.0, 800.0),
        resolution=10_000.0,
        ions=16,
        markers=6,
        batch_effect=2.0,
    )
    mc.convert(report.folder, folder / "study.zarr", samples=report.samples)
    return mc.open_study(folder / "study.zarr"), json.loads(Path(report.truth).read_text())


def true_shifts(truth: dict[str, Any], slides: list[str]) -> NDArray[np.float64]:
    return np.array([truth["slides"][slide]["batch_effect"]["mass_shift"] for slide in slides])


def found_shifts(step: PeakAlign, study: Study) -> NDArray[np.float64]:
    return (step.shift_ / study.axis(study.slides[0]) * 1e6).mean(axis=1)


@pytest.mark.parametrize("warp", ["shift", "linear", "quadratic", "lowess"])
def test_slides_are_aligned_with_each_other(simulated: tuple[Study, dict[str, Any]], warp: Any) -> None:
    study, truth = simulated
    step = PeakAlign(warp=warp).fit(study, slides=study.slides, allow_test=True)
    true = true_shifts(truth, step.slides_)
    assert np.ptp(true) > 100
    assert np.ptp(found_shifts(step, study) - true) < 5
    assert (step.n_matched_ >= 20).all()


def test_known_masses_align_with_the_truth(simulated: tuple[Study, dict[str, Any]]) -> None:
    study, truth = simulated
    step = PeakAlign(reference=[ion["mz"] for ion in truth["ions"]], snr=2).fit(
        study, slides=study.slides, allow_test=True
    )
    np.testing.assert_allclose(found_shifts(step, study), true_shifts(truth, step.slides_), atol=4)


def test_aligned_slides_have_the_same_peaks(simulated: tuple[Study, dict[str, Any]]) -> None:
    study, truth = simulated
    names = study.slides
    aligned = Pipeline([PeakAlign(reference=[ion["mz"] for ion in truth["ions"]], snr=2)]).fit(
        study, slides=names, allow_test=True
    )
    raw = [PeakPick().fit(study, slides=[name], allow_test=True).peaks_ for name in names]
    features = aligned.transform(study)
    means = [features[name]["features"].values[study.acquired(name)] for name in names]
    moved = [Pipeline([PeakPick()]).fit(X).channels_out().values for X in means]
    axis = study.axis(names[0])
    after = [np.interp(columns, np.arange(len(axis)), axis) for columns in moved]

    def disagreement(peaks: list[NDArray[Any]]) -> float:
        pairs = [match(peaks[0], other, "ppm:200") for other in peaks[1:]]
        return float(np.median(np.concatenate([np.abs(a - b) / 770e-6 for a, b in pairs])))

    assert disagreement(raw) > 20
    assert disagreement(after) < 5


def test_alignment_and_picking_are_one_pipeline(
    simulated: tuple[Study, dict[str, Any]], tmp_path: Path
) -> None:
    study, _ = simulated
    steps = [PeakAlign(), PeakPick(snr=5)]
    pipeline = Pipeline(steps).fit(study, slides=study.slides[:3], allow_test=True)
    assert [one.gathered for one in pipeline.passes_] == ["moments by slide", "moments"]
    with pytest.raises(UsageError, match="add_slides"):
        pipeline.transform(study)["slide_004"]
    picked = pipeline.steps_[1]
    aligned_height = picked.height_.max()  # type: ignore[attr-defined]
    smeared = PeakPick(snr=5).fit(study, slides=study.slides[:3], allow_test=True)
    assert aligned_height > 1.1 * smeared.height_.max()
    pipeline.add_slides(study)
    shape = pipeline.transform(study)["slide_004"]["features"].shape
    assert shape == (*study.acquired("slide_004").shape, picked.n_features_out_)


def test_the_spectra_of_an_array_are_one_slide() -> None:
    axis = np.arange(400.0)
    true = np.array([50.0, 120.0, 200.0, 260.0, 340.0])
    X = np.exp(-(((axis[:, None] - true - 1.3) / 4) ** 2)).sum(axis=1)[None] * np.array([[1.0], [2.0], [0.0]])
    step = PeakAlign(reference=true, tolerance=5.0, warp="shift", noise_window=100).fit(X)
    np.testing.assert_allclose(step.shift_, 1.3, atol=0.02)
    assert step.slides_ == [""]
    Y = step.transform(X)
    np.testing.assert_allclose(Y[1], 2 * np.exp(-(((axis[:, None] - true) / 4) ** 2)).sum(axis=1), atol=0.06)
    assert not Y[2].any()
    X[0, 100], X[1, 200] = np.nan, np.inf
    Y = step.transform(X)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(Y[0])), [98, 99])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(Y[1])), [198, 199])


def test_a_warp_reads_within_the_ends_of_the_axis() -> None:
    axis = np.array([1.0, 2.0, 4.0, 8.0])
    X = np.random.default_rng(0).normal(size=(5, 4))
    for shift in (-3.0, -0.5, 0.0, 0.7, 9.0):
        Y = Warp.of(axis, np.full(4, shift)).kernel(X)
        expected = np.stack([np.interp(axis + shift, axis, x) for x in X])
        np.testing.assert_allclose(Y, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12, unique=True),
    st.lists(st.floats(0, 100), min_size=1, max_size=12, unique=True),
)
def test_matches_are_mutually_nearest(reference: list[float], peaks: list[float]) -> None:
    first, second = np.sort(reference), np.sort(peaks)
    one, other = match(first, second, 5.0)
    for a, b in zip(one, other, strict=True):
        assert np.abs(second - a).min() == abs(a - b) <= 5
        assert np.abs(first - b).min() == abs(a - b)
    assert len(np.unique(other)) == len(other)
    assert len(match(first, second[:0], 5.0)[0]) == 0


def test_lowess_follows_a_line_and_leaves_outliers_out() -> None:
    x = np.sort(np.random.default_rng(2).uniform(0, 100, 60))
    np.testing.assert_allclose(lowess(x, 3 - 0.2 * x), 3 - 0.2 * x, atol=1e-9)
    noisy = 3 - 0.2 * x + 0.01 * np.random.default_rng(3).normal(size=60)
    noisy[[10, 40]] += 50
    np.testing.assert_allclose(lowess(x, noisy), 3 - 0.2 * x, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warp": "cubic"}, "expected 'shift', 'linear', 'quadratic' or 'lowess'"),
        ({"tolerance": 0}, "expected a positive number"),
        ({"snr": np.nan}, "snr=nan"),
        (
            {"reference": [100.0, 200.0]},
            "slide of the array has .* of which 0 lie within ppm:200 of the 2 reference",
        ),
    ],
    ids=str,
)
def test_parameters_must_fit(slide: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PeakAlign(**options).fit(slide.X)


def test_a_descending_axis_is_refused(slide: Any) -> None:
    with pytest.raises(UsageError, match="an axis that ascends"):
        PeakAlign().fit(slide.dataset().isel(channel=slice(None, None, -1)))
