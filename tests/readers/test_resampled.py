"""Cubes on another axis, against NumPy and SciPy, and as readers among readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agilent_files import axis_of, random_cube, write_mosaic
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from msicube.errors import UsageError
from msicube.readers import CubeReader, open_source
from msicube.readers import resampled as module
from msicube.readers.resampled import ResampledReader, interpolate, resampled
from msicube.testing import CubeReaderContract
from msicube.tiling import Window

TARGET = np.arange(905, 930, 1.7)


class Resampled(CubeReaderContract):
    """The contract on an interpolated mosaic with a gap, a few rows at a time."""

    method: module.Interpolation

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "STRIP_BYTES", 700)
        self.cube = random_cube((6, 9, 20))
        self.path = write_mosaic(tmp_path, self.cube, edge=3)
        (tmp_path / "Mosaic_0002_0001.dmd").unlink()

    def make_reader(self) -> CubeReader:
        return resampled(open_source(self.path), TARGET, self.method)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        flat = self.cube.reshape(-1, 20)
        cube = interpolate(flat, axis_of(20), TARGET, self.method).reshape(6, 9, -1).astype(np.float32)
        cube[3:, 6:] = np.nan
        return TARGET, cube


class TestLinear(Resampled):
    method = "linear"


class TestCubic(Resampled):
    method = "cubic"


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    n = draw(st.integers(4, 12))
    source = np.cumsum(draw(st.lists(st.floats(0.1, 5), min_size=n, max_size=n)))
    inside = st.floats(float(source[0]), float(source[-1])) | st.sampled_from(source.tolist())
    target = np.unique(draw(st.lists(inside, min_size=1, max_size=15)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.normal(size=(3, n)).astype(draw(st.sampled_from(["f4", "f8"]))), source, target


@given(problems())
@settings(max_examples=100, deadline=None)
def test_against_numpy_and_scipy(
    problem: tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    spectra, source, target = problem
    lines = np.array([np.interp(target, source, spectrum) for spectrum in spectra])
    np.testing.assert_allclose(interpolate(spectra, source, target, "linear"), lines, rtol=1e-12, atol=1e-12)
    spline = make_interp_spline(source, spectra.astype(float), k=3, axis=1)(target)
    np.testing.assert_allclose(interpolate(spectra, source, target, "cubic"), spline, rtol=1e-6, atol=1e-6)


def test_what_lies_on_a_channel_is_that_channel_whatever_lies_beside() -> None:
    source, spectra = np.array([1.0, 2.0, 4.0]), np.array([[0.1, np.nan, np.inf], [3, 5, 9]])
    np.testing.assert_array_equal(
        interpolate(spectra, source, np.array([1, 1.5, 2, 3, 4]), "linear"),
        [[0.1, np.nan, np.nan, np.nan, np.inf], [3, 4, 5, 7, 9]],
    )
    cubic = interpolate(spectra, source, np.array([1, 3.0]), "cubic")
    assert np.isnan(cubic[0]).all()
    assert np.isfinite(cubic[1]).all()


def test_only_neighbours_are_read_for_lines(tmp_path: Path) -> None:
    reader = open_source(write_mosaic(tmp_path, random_cube((4, 4, 50)), edge=4))
    axis = axis_of(50)
    lines = resampled(reader, np.array([axis[10] + 0.1, axis[12] + 0.1]), "linear")
    assert isinstance(lines, ResampledReader)
    np.testing.assert_array_equal(lines.source.info.axis, axis[10:14])
    exact = resampled(reader, axis[3:9], "cubic")
    assert not isinstance(exact, ResampledReader)
    np.testing.assert_array_equal(
        exact.read_tile(Window(0, 4, 0, 4)).values, random_cube((4, 4, 50))[..., 3:9]
    )
    assert resampled(reader, axis, "linear") is reader


@pytest.mark.parametrize(("first", "last"), [(900.5, 910), (910, 995.1)])
def test_no_axis_goes_beyond_the_source(tmp_path: Path, first: float, last: float) -> None:
    reader = open_source(write_mosaic(tmp_path, random_cube((2, 2, 50)), edge=2))
    with pytest.raises(UsageError, match=r"which was measured from 900\.5942165 to 995\.0891128"):
        resampled(reader, np.array([first, last]), "linear")
