"""OMNIC maps: where spectra go by their positions on the stage, and the library's reading of the same files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import ftir_map
import numpy as np
import pytest
import xarray as xr
from ftir_files import AXIS, CASES, cube, omnic, omnic_grid
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.readers import CubeReader, open_source
from msicube.readers.base import PixelSize
from msicube.readers.omnic.positions import place
from msicube.testing import CubeReaderContract
from msicube.tiling import Window

GIVEN = [name for name in CASES if name.startswith("omnic")]


def opened(folder: Path, content: bytes) -> CubeReader:
    (folder / "c.map").write_bytes(content)
    return open_source(folder / "c.map")


@pytest.mark.parametrize("case", GIVEN)
def test_the_library_reads_the_same(case: str, tmp_path: Path) -> None:
    """Stage y grows upwards in the library's grid, so its rows are turned."""
    path = CASES[case].write(tmp_path)
    with xr.open_dataset(path, engine="omnic") as lazy:
        found = ftir_map.read_omnic(path)
        np.testing.assert_array_equal(lazy.wavenumber, found.axis)
        np.testing.assert_array_equal(lazy.intensity, found.spectra_grid()[::-1])
        np.testing.assert_array_equal(lazy.intensity, found.to_xarray().spectra.sortby("y", ascending=False))
        assert lazy.attrs["source"]["quantity"] == found.data_kind == "absorbance"
        assert lazy.attrs["source"]["layout"] == found.layout


@pytest.mark.parametrize(
    ("case", "flips"),
    [
        ("omnic", ["rows: the file begins at the lowest", "channels: the file descends"]),
        ("omnic meander", []),
        ("omnic classic", ["channels: the file descends"]),
    ],
)
def test_what_the_file_says(case: str, flips: list[str], tmp_path: Path) -> None:
    info = open_source(CASES[case].write(tmp_path)).info
    assert info.pixel_size is not None
    assert (info.pixel_size.y, info.pixel_size.x) == pytest.approx((25, 10))
    assert info.pixel_size.provenance == "positions on the stage, micrometre in OMNIC"
    written = info.source["geometry"]["flips"]
    assert len(written) == len(flips)
    assert all(text.startswith(start) for text, start in zip(written, flips, strict=True))
    # The spectrum that was measured first: in the lowest row where the file goes upwards.
    assert info.spectrum_index[3 if case == "omnic" else 0, 0] == 0
    assert info.source["stage_origin"]["y"] == (425 if case == "omnic" else 500)


class TestSparseMap(CubeReaderContract):
    """A third of the grid was not measured, and the points come in no order."""

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(4)
        self.values = np.abs(cube("i2", (5, 6, 9))).astype("f4")
        kept = rng.permutation(30)[:20]
        row, column = np.divmod(kept, 6)
        self.missing = np.setdiff1d(np.arange(30), kept)
        # The stage does not stop exactly where it should.
        x, y = (rng.uniform(-0.1, 0.1, 20) for _ in "xy")
        (tmp_path / "c.map").write_bytes(
            omnic(self.values[row, column], 5 * column + x, -8 * row + y, ends=(AXIS[0], AXIS[-1]))
        )
        self.path = tmp_path / "c.map"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        values = self.values.copy()
        values.reshape(30, 9)[self.missing] = np.nan
        return AXIS, values

    def test_what_is_missing_is_said(self) -> None:
        info = self.make_reader().info
        assert (info.n_spectra, info.masked) == (20, 0)
        assert info.pixel_size is not None
        assert (info.pixel_size.y, info.pixel_size.x) == pytest.approx((8, 5), abs=0.05)
        assert any("10 points of the grid have no spectrum" in remark for remark in info.remarks)


@pytest.mark.parametrize(
    ("x", "y", "order", "step"),
    [
        ([30, 20, 10], [5, 5, 5], [2, 1, 0], 10),
        ([7, 7, 7], [0, 4, 8], [2, 1, 0], 4),
        ([0, 3, 6], [0, 4, 8], [2, 1, 0], 5),
        ([0, 4, 8], [0, 3, 6], [0, 1, 2], 5),
        ([27, 10, 0], [0, 0, 0], [2, 1, 0], None),
    ],
)
def test_a_line_is_a_cube_of_one_row(
    x: list[float], y: list[float], order: list[int], step: float | None, tmp_path: Path
) -> None:
    values = cube("i2", (1, 3, 9)).astype("f4")[0]
    reader = opened(tmp_path, omnic(values, np.array(x), np.array(y), ends=(AXIS[0], AXIS[-1])))
    np.testing.assert_array_equal(reader.read_tile(Window(0, 1, 0, 3)).values[0], values[order])
    found = reader.info.pixel_size
    assert (found is None) == (step is None)
    assert found is None or (found.y, found.x) == pytest.approx((step, step))
    assert any("taken as one row" in remark for remark in reader.info.remarks)


def test_a_gap_of_a_line_is_not_acquired() -> None:
    placed = place(np.array([0.0, 10, 20, 40, 50]), np.zeros(5), "c.map")
    np.testing.assert_array_equal(placed.numbers, [[0, 1, 2, -1, 3, 4]])
    assert placed.pixel_size == PixelSize(10, 10, "positions on the stage, micrometre in OMNIC")


def test_one_spectrum_is_one_pixel(tmp_path: Path) -> None:
    info = opened(tmp_path, omnic(np.ones((1, 9)), np.array([3.0]), np.array([4.0]))).info
    assert (info.shape, info.pixel_size) == ((1, 1), None)


def test_uneven_rows_and_columns_have_no_pixel_size(tmp_path: Path) -> None:
    x, y = np.meshgrid([0.0, 3, 10], [9.0, 2, 0])
    values = cube("i2", (3, 3, 9)).astype("f4")
    reader = opened(tmp_path, omnic(values.reshape(9, 9), x.ravel(), y.ravel(), ends=(AXIS[0], AXIS[-1])))
    np.testing.assert_array_equal(reader.read_tile(Window(0, 3, 0, 3)).values, values)
    assert reader.info.pixel_size is None
    assert "positions on the stage are unevenly spaced" in reader.info.remarks


def test_a_second_block_of_spectra_is_reported(tmp_path: Path) -> None:
    info = opened(tmp_path, omnic_grid(cube(), series=2)).info
    assert any("has 2 blocks of spectra: the first is read" in remark for remark in info.remarks)


@given(
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    steps=st.tuples(st.floats(1.1, 500), st.floats(1.1, 500)),
    start=st.floats(-1e5, 1e5),
    seed=st.integers(0, 99),
)
def test_any_grid_in_any_order_is_found(
    shape: tuple[int, int], steps: tuple[float, float], start: float, seed: int
) -> None:
    """Also as float32, in which the file has them."""
    order = np.random.default_rng(seed).permutation(shape[0] * shape[1])
    row, column = np.divmod(order, shape[1])
    x, y = start + steps[1] * column, -start - steps[0] * row
    placed = place(x.astype("f4").astype(float), y.astype("f4").astype(float), "c.map")
    np.testing.assert_array_equal(placed.numbers, np.argsort(order).reshape(shape))
    assert placed.pixel_size is not None
    assert (placed.pixel_size.y, placed.pixel_size.x) == pytest.approx(steps, abs=0.05)


@pytest.mark.parametrize("classic", [False, True])
def test_memory_does_not_grow_with_the_map(classic: bool, tmp_path: Path) -> None:
    """A map of 12 MB: the library would take several times as much."""
    values = np.random.default_rng(0).normal(size=(40, 50, 1500)).astype("f4")
    path = tmp_path / "c.map"
    path.write_bytes(omnic_grid(values, classic=classic, ends=(900, 2399)))
    window = Window(2, 10, 4, 12)
    expected = values[window.slices].copy()
    size = values.nbytes
    del values
    open_source(path)  # imports, once
    tracemalloc.start()
    try:
        got = open_source(path).read_tile(window).values
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(got, expected)
    assert peak < size / 6
