"""The reader contract on infrared files of every format, and every variant of ENVI against plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftir_files import AXIS, CASES, ENVI_TYPES, INTERLEAVES, cube, envi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.readers import CubeReader, open_source
from msicube.testing import CubeReaderContract
from msicube.tiling import Window


@pytest.mark.parametrize("case", CASES)
class TestEveryFormat(CubeReaderContract):
    """The contract, once for each file."""

    @pytest.fixture(autouse=True)
    def _data(self, case: str, tmp_path: Path) -> None:
        self.case, self.path = CASES[case], CASES[case].write(tmp_path)

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return AXIS, self.case.cube


@pytest.mark.parametrize("case", CASES)
def test_blank_spectra_are_masked_and_partial_ones_kept(case: str, tmp_path: Path) -> None:
    info = open_source(CASES[case].write(tmp_path)).info
    if np.isfinite(CASES[case].cube).all():
        assert info.acquired.all()
        return
    assert np.argwhere(~info.acquired).tolist() == [[1, 2]]
    assert info.masked == 1
    assert any("masked: NaN in every channel" in remark for remark in info.remarks)
    reader = open_source(CASES[case].write(tmp_path))
    assert np.isnan(reader.read_tile(Window(2, 3, 0, 1)).values[0, 0]).tolist() == [True] + [False] * 8


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    interleave=st.sampled_from(sorted(INTERLEAVES)),
    dtype=st.sampled_from(sorted(ENVI_TYPES)),
    endian=st.sampled_from("<>"),
    offset=st.integers(0, 40),
    ending=st.sampled_from([".img", ".dat", ".raw", ".bil", ".BIP", ".bsq", ".bin", ""]),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    turned=st.booleans(),
    data=st.data(),
)
def test_every_kind_of_envi_image(
    interleave: str,
    dtype: str,
    endian: str,
    offset: int,
    ending: str,
    shape: tuple[int, int, int],
    turned: bool,
    data: st.DataObject,
    tmp_path: Path,
) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    axis = AXIS[: shape[2]]
    for old in tmp_path.iterdir():
        old.unlink()
    stored, stored_axis = (values[..., ::-1], axis[::-1]) if turned else (values, axis)
    header = envi(
        tmp_path, stored, axis=stored_axis, interleave=interleave, endian=endian, offset=offset, ending=ending
    )
    reader = open_source(data.draw(st.sampled_from([header, header.with_name(f"image{ending}")])))
    assert reader.info.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(reader.info.axis, axis)
    y0, x0 = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    c0 = data.draw(st.integers(0, shape[2] - 1))
    window = Window(
        y0, data.draw(st.integers(y0 + 1, shape[0])), x0, data.draw(st.integers(x0 + 1, shape[1]))
    )
    c1 = data.draw(st.integers(c0 + 1, shape[2]))
    got = reader.crop(axis[c0], axis[c1 - 1]).read_tile(window).values
    np.testing.assert_array_equal(got, values[window.slices][..., c0:c1])


@pytest.mark.parametrize("name", ["mat packed", "npz packed", "npz fortran", "cytospec packed"])
def test_a_packed_cube_is_read_in_slabs(name: str, tmp_path: Path) -> None:
    """Every window of a stream that cannot be entered in the middle, cropped or not."""
    case = CASES[name]
    reader = open_source(case.write(tmp_path))
    for y in range(4):
        for x in range(3):
            for c in range(0, 9, 4):
                got = reader.crop(AXIS[c], AXIS[-1]).read_tile(Window(y, 4, x, 3)).values
                np.testing.assert_array_equal(got, case.cube[y:, x:, c:])


def test_a_blank_value_of_an_envi_image_is_not_acquired(tmp_path: Path) -> None:
    values = cube("i2")
    values[0, 1], values[3, 0, 0] = -9999, -9999
    info = open_source(envi(tmp_path, values, extra="data ignore value = -9999")).info
    assert np.argwhere(~info.acquired).tolist() == [[0, 1]]
    assert any("the ignored value -9999 in the first channel" in remark for remark in info.remarks)
