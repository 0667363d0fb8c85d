"""PeakPick: the peaks of a simulated study are its analytes, and every spectrum is measured there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import msicube as mc
from msicube.errors import UsageError
from msicube.preprocess import Log1p, PeakPick, Pipeline, SelectChannels, SNIPBaseline, TICNormalize
from msicube.simulate import simulate_msi
from msicube.simulate.analytes import AVERAGE_NOMINAL_MASS, isotopes
from msicube.store import Study

#: Half the width of a simulated peak at half height, in ppm.
HALF_WIDTH = 0.5e6 / 10_000


@pytest.fixture(name="simulated", scope="module")
def _simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, Any]]:
    """Three profile slides without shifts, in which neighbouring ions are resolved."""
    folder = tmp_path_factory.mktemp("peaks")
    report = simulate_msi(
        folder / "slides",
        slides=3,
        seed=5,
        shape=(16, 16),
        channels=3000,
        mz_range=(740.0, 800.0),
        resolution=10_000.0,
        ions=16,
        markers=4,
        batch_effect=0.0,
    )
    mc.convert(report.folder, folder / "study.zarr", samples=report.samples)
    return mc.open_study(folder / "study.zarr"), json.loads(Path(report.truth).read_text())


def lines(truth: dict[str, Any]) -> NDArray[np.float64]:
    """Every m/z at which there is something: the ions with their isotopes, and the chemical noise."""
    ions = np.array([ion["mz"] for ion in truth["ions"]])
    return np.sort(np.append(isotopes(ions)[0].ravel(), np.arange(740, 801) * AVERAGE_NOMINAL_MASS))


def nearest(places: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """Return how far the nearest place is from each wanted one, in ppm."""
    return np.abs(places - np.asarray(wanted)[:, None]).min(axis=1) / wanted * 1e6


def test_the_peaks_are_the_analytes(simulated: tuple[Study, dict[str, Any]]) -> None:
    study, truth = simulated
    picked = PeakPick(snr=2).fit(study)
    assert nearest(lines(truth), picked.peaks_).max() < HALF_WIDTH
    everything = lines(truth)
    for ion in truth["ions"]:
        others = everything[everything != ion["mz"]]
        alone = nearest(others, np.array([ion["mz"]]))[0] > 4 * HALF_WIDTH
        abundant = np.mean(list(ion["abundance"].values())) > 1
        if alone and abundant:
            assert nearest(picked.peaks_, np.array([ion["mz"]]))[0] < 15, ion["name"]


def test_fewer_peaks_are_sure(simulated: tuple[Study, dict[str, Any]]) -> None:
    study, _ = simulated
    some, all_of_them = PeakPick(snr=10).fit(study), PeakPick(snr=1).fit(study)
    assert 0 < some.n_features_out_ < all_of_them.n_features_out_
    assert np.isin(some.peaks_, all_of_them.peaks_).all()
    assert (some.snr_ > 10).all()


def test_what_only_one_spectrum_has_is_in_the_maximum() -> None:
    axis = np.linspace(0, 1, 300)
    X = np.random.default_rng(0).normal(10, 1, (400, 300)) + np.exp(-(((axis - 0.3) / 0.02) ** 2)) * 50
    X[7] += np.exp(-(((axis - 0.8) / 0.02) ** 2)) * 20
    options = {"snr": 5.0, "half_window": 12, "noise_window": 150}
    mean, largest = (PeakPick(spectrum=kind, **options).fit(X) for kind in ("mean", "max"))  # type: ignore[arg-type]
    assert mean.peaks_.round(-1).tolist() == [90]
    assert largest.peaks_.round(-1).tolist() == [90, 240]
    assert Pipeline([largest]).fit(X).passes_[0].gathered == "maxima"


@pytest.mark.parametrize("tolerance", [None, 0.03, "ppm:40"])
@pytest.mark.parametrize(
    ("measure", "function"), [("sum", np.sum), ("max", np.max), ("area", None)], ids=["sum", "max", "area"]
)
def test_every_peak_is_measured_in_its_window(
    simulated: tuple[Study, dict[str, Any]],
    load: Any,
    tolerance: Any,
    measure: Any,
    function: Callable[..., Any],
) -> None:
    study, _ = simulated
    X = load(study, ["slide_002"]).X
    picked = PeakPick(snr=2, tolerance=tolerance, measure=measure).fit(study)
    axis = study.axis("slide_002")
    widths = np.gradient(axis) if measure == "area" else 1.0
    expected = np.stack(
        [
            (np.sum if function is None else function)((X * widths)[:, lower:upper], axis=1)
            for lower, upper in zip(picked.lower_, picked.upper_, strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(picked.transform_block(X), expected, rtol=1e-5)
    assert (picked.upper_[:-1] <= picked.lower_[1:]).all()
    if tolerance == 0.03:
        for lower, upper, peak in zip(picked.lower_, picked.upper_, picked.peaks_, strict=True):
            assert np.abs(axis[lower:upper] - peak).max() <= 0.03


def test_many_slides_become_a_peak_matrix_in_one_lazy_step(simulated: tuple[Study, dict[str, Any]]) -> None:
    study, _ = simulated
    pipeline = Pipeline(
        [TICNormalize(), SNIPBaseline(half_window=20), PeakPick(), Log1p(), SelectChannels(5)]
    )
    features = pipeline.fit(study).transform(study)
    assert [one.gathered for one in pipeline.passes_] == ["moments", "moments by label"]
    values = {slide: features[slide] for slide in features}
    axes = {tuple(one["mz"].values) for one in values.values()}
    assert len(axes) == 1
    assert set(axes.pop()) <= set(pipeline.steps_[2].peaks_)  # type: ignore[attr-defined]
    assert values["slide_001"]["features"].shape == (*study.acquired("slide_001").shape, 5)


def test_a_nan_stays_in_its_peak() -> None:
    axis = np.linspace(0, 1, 120)
    X = np.stack([np.exp(-(((axis - c) / 0.03) ** 2)) for c in (0.25, 0.75)]).sum(axis=0)[None] * np.ones(
        (4, 1)
    )
    picked = PeakPick(noise_window=60).fit(X)
    assert picked.n_features_out_ == 2
    X[0, 30], X[1, 90], X[2] = np.nan, np.inf, 0
    Y = picked.transform(X)
    np.testing.assert_array_equal(
        np.isnan(Y), [[True, False], [False, False], [False, False], [False, False]]
    )
    assert np.isposinf(Y[1, 1])
    assert not Y[2].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": -1.0}, "snr=-1.0.*0 or more"),
        ({"half_window": 0}, "half_window=0"),
        ({"half_window": 20}, "less than half of the 40 channels"),
        ({"noise_window": 8}, "noise_window=8.*more channels"),
        ({"tolerance": "Da:3"}, "expected a positive number"),
        ({"measure": "mean"}, "expected 'sum', 'area' or 'max'"),
        ({"spectrum": "median"}, "the 'mean' or the 'max' spectrum"),
    ],
    ids=str,
)
def test_parameters_must_fit(slide: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PeakPick(**options).fit(slide.X)


def test_no_peak_is_an_error() -> None:
    with pytest.raises(UsageError, match="finds no peak in the mean of 5 spectra: lower snr"):
        PeakPick().fit(np.tile(np.arange(50.0), (5, 1)))
