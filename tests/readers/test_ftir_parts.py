"""Parts that infrared readers share: units, axes, layouts, pixel sizes, memory, and images of OPUS."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import opusFC
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, UnknownFormat
from msicube.readers import CubeReader, open_source
from msicube.readers.envi import EnviHeader
from msicube.readers.opus import images
from msicube.readers.strided import Layout
from msicube.readers.wavenumbers import ascending, per_centimetre
from msicube.testing import CubeReaderContract
from msicube.tiling import Window


@pytest.mark.parametrize("unit", ["cm-1", "Wavenumber", "1/cm", "cm^-1", "Wavenumbers (cm-1)", "cm^{-1}"])
def test_wavenumbers_stay(unit: str) -> None:
    values = np.array([900.0, 1800.0])
    assert per_centimetre(values, unit) is values


@pytest.mark.parametrize(
    ("unit", "values"), [("Nanometers", [5000, 10000]), ("µm", [5, 10]), ("um", [5, 10])]
)
def test_wavelengths_become_wavenumbers(unit: str, values: list[float]) -> None:
    np.testing.assert_array_equal(per_centimetre(np.array(values, float), unit), [2000, 1000])


@pytest.mark.parametrize("unit", ["", "Unknown", "GHz", "Index", "cm", "eV"])
def test_other_units_are_none(unit: str) -> None:
    assert per_centimetre(np.array([1.0]), unit) is None


@pytest.mark.parametrize("values", [[], [1, 1], [1, np.nan], [1, 3, 2], [np.inf, 1]])
def test_an_axis_goes_one_way(values: list[float]) -> None:
    with pytest.raises(CorruptSource, match="strictly ascending or descending"):
        ascending(np.array(values), "c.hdr")


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    order=st.permutations("yxc").map("".join),
    fortran=st.booleans(),
    offset=st.integers(0, 9),
    flips=st.lists(st.integers(0, 2), unique=True),
)
def test_a_layout_is_numpys_view(
    shape: tuple[int, int, int], order: str, fortran: bool, offset: int, flips: list[int]
) -> None:
    values = np.arange(np.prod(shape), dtype=">i4").reshape(shape)
    buffer = b"?" * offset + values.tobytes("F" if fortran else "C")
    layout = Layout.of_array(values.dtype, shape, order=order, offset=offset, fortran=fortran)
    expected = values.transpose([order.index(axis) for axis in "yxc"])
    for axis in flips:
        layout, expected = layout.flipped(axis), np.flip(expected, axis)
    assert layout.end == len(buffer)
    np.testing.assert_array_equal(layout.view(buffer), expected)


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("pixel size = {5.5, 6.25, units=Micrometers}", (6.25, 5.5)),
        ("pixel size = {0.005, 0.006, units=mm}", (6.0, 5.0)),
        ("map info = {Arbitrary, 1, 1, 0, 0, 2e-6, 3e-6, 0, units=Meters}", (3.0, 2.0)),
        ("pixel size = {5, 6}", None),
        ("pixel size = {0, 6, units=mm}", None),
        ("map info = {x}", None),
    ],
)
def test_the_pixel_size_of_an_envi_header(
    line: str, size: tuple[float, float] | None, tmp_path: Path
) -> None:
    (tmp_path / "c.hdr").write_text(f"ENVI\n{line}\n")
    found = EnviHeader.read(tmp_path / "c.hdr").pixel_size()
    assert (found and (found.y, found.x)) == (size and pytest.approx(size))


@pytest.mark.parametrize("kind", ["envi", "mat", "npz"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    """A cube of 11 MB, blank in part: opening it, reading a tile, checking it. An image of it has 18 kB."""
    values = np.random.default_rng(0).integers(0, 4, (96, 48, 600)).astype("f4")
    values[3, 5] = np.nan
    axis = np.arange(600.0)
    path = tmp_path / f"c.{kind}"
    if kind == "mat":
        scipy.io.savemat(path, {"cube": values, "wavenumber": axis}, do_compression=True)
    elif kind == "npz":
        np.savez_compressed(path, cube=values, wavenumber=axis)
    else:
        path = tmp_path / "c.hdr"
        path.write_text(
            "ENVI\nsamples = 48\nlines = 96\nbands = 600\ndata type = 4\ninterleave = bsq\n"
            f"wavelength units = cm-1\nwavelength = {{{', '.join(map(str, axis))}}}\n"
        )
        (tmp_path / "c.img").write_bytes(values.transpose(2, 0, 1).tobytes())
    window = Window(2, 10, 4, 12)
    expected = values[window.slices].copy()
    size = values.nbytes
    del values
    open_source(path)  # imports, once
    tracemalloc.start()
    try:
        reader = open_source(path)
        opening = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        got = reader.read_tile(window).values
        reader.verify()
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(got, expected)
    assert reading < size / 4
    # The search for blank pixels holds at most 4 million values.
    assert opening < 2**22 * 5 + size / 4


class Image(opusFC.ImageDataReturn):  # type: ignore[misc]
    """What opusFC documents of an image: no file with one is at hand."""

    def __init__(self, spectra: Any, x: Any, map_x: Any, map_y: Any) -> None:
        self.spectra, self.x, self.mapX, self.mapY = spectra, x, map_x, map_y


Image.__name__ = "ImageDataReturn"


@pytest.fixture
def opus_image(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Return what makes opusFC give an image for a file whose directory says that it has a series of spectra."""
    content = bytearray((shared_data / "ftir/opus/single_point.0").read_bytes())
    absorbance = struct.pack("<I", 0x100F)
    at = content.index(absorbance, 24)
    content[at : at + 4] = struct.pack("<I", 0x100F | 2 << 19)
    path = tmp_path / "c.0"
    path.write_bytes(content)

    def given(image: Any) -> Path:
        contents = [("TRC", "3D", "NONE"), ("AB", "3D", "1DER"), ("AB", "3D", "NONE")]
        monkeypatch.setattr(opusFC, "listContents", lambda path: contents)
        monkeypatch.setattr(opusFC, "getOpusData", lambda path, content: image)
        images._kept.clear()
        return path

    return given


SPECTRA = np.arange(4 * 3 * 9, dtype="f4").reshape(4, 3, 9)
SPECTRA[2, 1] = np.nan


@pytest.mark.parametrize("rising", [True, False])
class TestOpusImage(CubeReaderContract):
    """The contract on an image as opusFC documents it: ``spectra[row][column]``, rows by ``mapY``."""

    @pytest.fixture(autouse=True)
    def _data(self, opus_image: Callable[[Any], Path], rising: bool) -> None:
        self.rising = rising
        map_y = [10.0, 15, 20, 25] if rising else [25.0, 20, 15, 10]
        self.path = opus_image(Image(SPECTRA, np.arange(17.0, -1, -2), [1.0, 3, 5], map_y))

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return np.arange(1.0, 18, 2), SPECTRA[:: -1 if self.rising else 1, :, ::-1]

    def test_what_the_file_says(self) -> None:
        info = self.make_reader().info
        assert info.pixel_size is not None
        assert (info.pixel_size.y, info.pixel_size.x) == (5, 2)
        assert info.source["quantity"] == "AB"
        assert len(info.source["geometry"]["flips"]) == 1 + self.rising


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (SimpleNamespace(), UnknownFormat, "holds a SimpleNamespace, expected an image on a grid"),
        (
            Image(SPECTRA, np.arange(8.0), [1.0, 3, 5], [1.0, 2, 3, 4]),
            CorruptSource,
            "positions and axis need",
        ),
        (Image(SPECTRA, np.zeros(9), [1.0, 3, 5], [1.0, 2, 3, 4]), CorruptSource, "strictly ascending"),
    ],
)
def test_an_opus_image_that_is_none(
    image: Any, error: type[Exception], message: str, opus_image: Callable[[Any], Path]
) -> None:
    with pytest.raises(error, match=message):
        open_source(opus_image(image))


@pytest.mark.parametrize(
    ("ending", "module"), [(".h5", "h5py"), (".0", "brukeropus.file.block"), (".map", "ftir_map.omnic")]
)
def test_what_is_not_installed_is_named(
    ending: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"c{ending}"
    path.write_bytes(b"Spectral Exte File" if ending == ".map" else b"\n\n\xfe\xfe")
    with pytest.raises(MissingDependency, match="pip install"):
        open_source(path)
