"""Peaks of one spectrum against SciPy, and how far they reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.signal import argrelmax
from scipy.stats import median_abs_deviation

from msicube.preprocess.peaks import find_peaks, local_noise, windows_of

FREE = {"snr": 0.0, "noise_window": 10_000}


def gaussians(axis: NDArray[np.float64], centres: list[float], width: float = 0.05) -> NDArray[np.float64]:
    return sum((np.exp(-(((axis - c) / width) ** 2) / 2) for c in centres), np.zeros(len(axis)))


@settings(deadline=None)
@given(arrays(np.float64, 80, elements=st.floats(0, 100)), st.integers(1, 8))
def test_peaks_are_scipys_strict_maxima(values: NDArray[np.float64], half_window: int) -> None:
    values = values + np.arange(80) * 1e-7  # no two are alike
    found = find_peaks(values, np.arange(80.0), half_window=half_window, **FREE)  # type: ignore[arg-type]
    (expected,) = argrelmax(values, order=half_window, mode="clip")
    expected = expected[(expected > 0) & (expected < 79) & (values[expected] > np.median(values))]
    np.testing.assert_array_equal(found.channels, expected)


def test_a_plateau_is_one_peak_and_a_step_none() -> None:
    plateau = np.array([0, 1, 3, 3, 3, 1, 0, 0, 0.0])
    np.testing.assert_array_equal(
        find_peaks(plateau, np.arange(9.0), half_window=1, **FREE).channels,
        [2],  # type: ignore[arg-type]
    )
    falling = np.array([5.0, 5, 5, 2, 0, 0, 0, 0])
    assert not len(find_peaks(falling, np.arange(8.0), half_window=1, **FREE))  # type: ignore[arg-type]
    assert not len(find_peaks(np.ones(30), np.arange(30.0), half_window=2, **FREE))  # type: ignore[arg-type]


def test_noise_is_the_median_absolute_deviation() -> None:
    values = np.random.default_rng(0).normal(5, 2, 4000)
    level, noise = local_noise(values, 10_000)
    np.testing.assert_allclose(level, np.median(values))
    np.testing.assert_allclose(noise, median_abs_deviation(values, scale="normal"), rtol=1e-4)
    level, noise = local_noise(values * np.repeat([1, 3], 2000), 400)
    np.testing.assert_allclose(noise[:1600].mean(), 2, rtol=0.1)
    np.testing.assert_allclose(noise[2400:].mean(), 6, rtol=0.1)
    assert len(local_noise(values, 333)[0]) == 4000


def test_positions_lie_between_the_channels() -> None:
    axis = np.linspace(26.45, 26.65, 500) ** 2
    centres = [701.2345, 704.5, 708.777]
    peaks = find_peaks(gaussians(axis, centres), axis, snr=3, half_window=5, noise_window=100)
    np.testing.assert_allclose(peaks.positions, centres, atol=1e-3)
    assert np.isinf(peaks.snr).all() or (peaks.snr > 3).all()


def test_windows_reach_as_far_as_the_spectrum_falls_and_never_overlap() -> None:
    axis = np.linspace(0, 10, 1001)
    spectrum = gaussians(axis, [2.0, 2.3, 6.0])
    peaks = find_peaks(spectrum, axis, snr=3, half_window=10, noise_window=500)
    assert len(peaks) == 3
    lower, upper = windows_of(peaks, spectrum, axis, reach=None, half_window=12)
    np.testing.assert_array_equal(lower[[0, 2]], [188, 588])
    np.testing.assert_array_equal(upper[[0, 2]], [213, 613])
    lower, upper = windows_of(peaks, spectrum, axis, reach=np.full(3, 0.25), half_window=12)
    assert (upper[:-1] <= lower[1:]).all()
    assert upper[0] == lower[1] == 215  # the valley between two peaks that are 30 channels apart
    np.testing.assert_allclose(axis[[lower[2], upper[2] - 1]], [5.75, 6.25], atol=1e-9)
    lower, upper = windows_of(peaks, spectrum, axis, reach=np.full(3, 1e-9), half_window=12)
    np.testing.assert_array_equal(upper - lower, 1)


@settings(deadline=None)
@given(arrays(np.float64, 60, elements=st.floats(0, 100)), st.integers(1, 4), st.floats(0.1, 20))
def test_windows_hold_their_peak_within_reach(
    values: NDArray[np.float64], half_window: int, reach: float
) -> None:
    axis = np.arange(60.0) * 0.5
    peaks = find_peaks(values, axis, half_window=half_window, **FREE)  # type: ignore[arg-type]
    lower, upper = windows_of(peaks, values, axis, reach=np.full(len(peaks), reach), half_window=half_window)
    assert (lower <= peaks.channels).all()
    assert (peaks.channels < upper).all()
    assert (upper[:-1] <= lower[1:]).all()
    for place, first, last in zip(peaks.positions, lower, upper, strict=True):
        assert np.abs(axis[first:last] - place).max() <= max(reach, 0.5)


@pytest.mark.parametrize("snr", [1, 3, 10])
def test_noise_makes_few_peaks(snr: float) -> None:
    rng = np.random.default_rng(5)
    axis = np.linspace(700, 800, 5000)
    spectrum = (
        20 * gaussians(axis, [720.0, 750.0], 0.1) + 5 * np.exp(-axis / 100) + rng.normal(size=5000) * 0.3
    )
    peaks = find_peaks(spectrum, axis, snr=snr, half_window=10, noise_window=300)
    assert (len(peaks) == 2) == (snr == 10)
    assert {720, 750} <= set(peaks.positions.round().astype(int).tolist())
