"""The infrared readers on the real files of other projects, against other libraries and published numbers."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import opusFC
import pytest
import scipy.io
from brukeropus import read_opus
from numpy.typing import NDArray

from msicube.errors import AxisRequired
from msicube.readers import CubeReader, find_sources, open_source, open_sources
from msicube.readers.envi import main_file as envi_main_file
from msicube.testing import CubeReaderContract
from msicube.tiling import Window


def whole(reader: CubeReader) -> NDArray[Any]:
    ny, nx = reader.info.shape
    return reader.read_tile(Window(0, ny, 0, nx)).values


def cytospec_blocks(path: Path) -> NDArray[np.float64]:
    """Return ``(block, y, x, channel)`` by scipy, NaN as NumPy writes it."""
    blocks = scipy.io.loadmat(path)["C"].transpose(3, 1, 0, 2)
    return np.where(np.isnan(blocks), np.nan, blocks)


class TestPerkinElmer(CubeReaderContract):
    """Read as specio and orange-spectroscopy do: x fastest, positions growing; drawn with y upwards."""

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "ftir/perkinelmer/4x4_pixel_PE_image.fsm"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        content = self.path.read_bytes()
        spectra = [
            np.frombuffer(content, "<f4", 1626, match.end())
            for match in re.finditer(re.escape(struct.pack("<Hi", 5105, 4 * 1626)), content)
        ]
        return np.arange(4000, 748, -2.0)[::-1], np.array(spectra).reshape(4, 4, 1626)[::-1, :, ::-1]

    def test_what_the_file_says(self) -> None:
        info = self.make_reader().info
        assert info.shape == (4, 4)
        assert info.pixel_size is not None
        assert (info.pixel_size.y, info.pixel_size.x) == pytest.approx((50, 50))
        assert info.source["quantity"] == "%T"
        assert info.source["stage_origin"] == pytest.approx({"x": 17480, "y": 2749})
        # The first spectrum of the file has the lowest y on the stage: it is in the last row.
        assert info.spectrum_index[3, 0] == 0
        assert len(info.source["geometry"]["flips"]) == 2


class TestNicolet(CubeReaderContract):
    """A header without a byte order; the values of this file are all zero."""

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "ftir/envi/example2.img"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        text = self.path.with_suffix(".hdr").read_text().partition("wavelength = {")[2].partition("}")[0]
        return np.array(text.split(","), float), np.fromfile(self.path, "<f4").reshape(30, 14, 1738)

    def test_what_the_file_says(self) -> None:
        info = self.make_reader().info
        assert info.pixel_size is None
        assert any("no byte order" in remark for remark in info.remarks)
        assert any("pixel size {0.005000, 0.005000} has no unit" in remark for remark in info.remarks)


class TestGivenAxis(CubeReaderContract):
    """An ENVI image of a satellite: bands without a unit, until an axis is laid beside it."""

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path, tmp_path: Path) -> None:
        self.data = shared_data / "ftir/envi/toy.bil"
        for name in ("toy.bil", "toy.hdr"):
            (tmp_path / name).symlink_to(self.data.with_name(name))
        (tmp_path / "toy.wavenumber.csv").write_text("400\n300\n200\n100\n")
        self.path = tmp_path / "toy.bil"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        stored = np.fromfile(self.data, "<u2").reshape(167, 4, 150)
        return np.array([100.0, 200, 300, 400]), stored.transpose(0, 2, 1)[..., ::-1]

    # One read for each of 25,000 pixels shows nothing that smaller cubes do not.
    test_any_tiling_reads_the_same_numbers = None  # type: ignore[assignment]
    test_many_threads_read_at_once = None  # type: ignore[assignment]

    def test_without_it_the_image_is_refused(self) -> None:
        with pytest.raises(AxisRequired, match=r"toy\.wavenumber\.txt beside it"):
            open_source(self.data)


@pytest.mark.parametrize("block", [0, 1])
class TestCytoSpec(CubeReaderContract):
    """Each block of data is a slide; 22 of 77 pixels were cut away and are NaN."""

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path, block: int) -> None:
        self.path, self.block = shared_data / "ftir/matlab/cytospec.mat", block

    def make_reader(self) -> CubeReader:
        return open_sources(self.path)[self.block]

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return np.linspace(499.1158, 3100.0358, 981), cytospec_blocks(self.path)[self.block]

    def test_what_the_file_says(self) -> None:
        info = self.make_reader().info
        assert info.name == f"cytospec_b{self.block + 1}"
        assert info.source["block"]["holds"] == ("original", "preprocessed")[self.block]
        assert (info.shape, info.masked, info.n_spectra) == ((11, 7), 22, 55)

    def test_numbers_that_hyperspec_publishes(self) -> None:
        """The tests of R's hySpc.read.mat name one value of each block, counting spectra that are not empty."""
        reader = self.make_reader()
        spectra = whole(reader)[reader.info.acquired]
        row, channel, value = ((7, 69, 2113.17), (4, 99, 39.35))[self.block]
        assert spectra[row, channel] == pytest.approx(value, abs=0.005)
        assert reader.info.axis is not None
        assert reader.info.axis[871] == pytest.approx(2810.75, abs=0.005)


class TestOpusPoint(CubeReaderContract):
    """One spectrum, against both libraries."""

    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "ftir/opus/single_point.0"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        found = read_opus(self.path).a
        return found.wn[::-1], found.y[np.newaxis, np.newaxis, ::-1]

    def test_opusfc_reads_the_same(self) -> None:
        found = opusFC.getOpusData(str(self.path), ("AB", "2D", "NONE"))
        reader = self.make_reader()
        np.testing.assert_array_equal(reader.info.axis, found.x[::-1])
        np.testing.assert_array_equal(whole(reader)[0, 0], found.y[::-1])
        assert reader.info.source["quantity"] == "Absorbance"


def test_a_folder_of_all_formats_is_listed_once(shared_data: Path) -> None:
    folders = [shared_data / "ftir" / name for name in ("envi", "matlab", "opus", "perkinelmer")]
    names = [path.name for path in find_sources(folders)]
    assert names == ["example2.hdr", "toy.hdr", "cytospec.mat", "single_point.0", "4x4_pixel_PE_image.fsm"]


def test_the_headers_of_agilent_are_left_to_its_reader(shared_data: Path) -> None:
    files = [p for p in (shared_data / "ftir/agilent").iterdir() if p.suffix in (".hdr", ".dat")]
    assert len(files) == 4
    assert [envi_main_file(path) for path in files] == [None] * 4
