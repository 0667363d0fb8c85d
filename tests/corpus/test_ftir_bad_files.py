"""Infrared files that are wrong in one way: one clear error, or a remark."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from ftir_files import AXIS, CASES, cube, cytospec, envi, fsm, hdf5, omnic, omnic_grid

from msicube.errors import AxisRequired, CorruptSource, MSICubeError, UnknownFormat, UsageError
from msicube.readers import open_source, open_sources
from msicube.tiling import Window

VALUES = cube("i2").astype("f4")
BLOCKS = VALUES.astype("f8").transpose(1, 0, 2)


def edited(header: Path, old: str, new: str) -> Path:
    text = header.read_text()
    assert re.search(old, text)
    header.write_text(re.sub(old, new, text))
    return header


def longer(header: Path) -> Path:
    data = header.with_suffix(".img")
    data.write_bytes(data.read_bytes() + b"x")
    return header


def shorter(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-1])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(path: Path, **content: Any) -> Path:
    if path.suffix == ".mat":
        scipy.io.savemat(path, content)
    else:
        np.savez(path, **content)
    return path


def stacked(folder: Path) -> Path:
    with h5py.File(folder / "c.h5", "w") as file:
        file.create_dataset("huge", (2**20, 2**20, 9), "f4", chunks=(64, 64, 9))
        file["wavenumber"] = AXIS
    return folder / "c.h5"


def bzipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "c.npz", "w", zipfile.ZIP_BZIP2) as archive:
        for name, values in (("cube", VALUES), ("wavenumber", AXIS)):
            content = io.BytesIO()
            np.save(content, values)
            archive.writestr(f"{name}.npy", content.getvalue())
    return folder / "c.npz"


def packed_by_envi(folder: Path) -> Path:
    return envi(folder, VALUES, extra="file compression = 1")


Bad = tuple[Callable[[Path], Path], type[MSICubeError], str]
BAD: dict[str, Bad] = {
    "fsm: magic": (lambda d: written(d / "c.fsm", fsm(VALUES, first=b"PEPF")), UnknownFormat, "begins with"),
    "fsm: short": (lambda d: shorter(written(d / "c.fsm", fsm(VALUES))), CorruptSource, "11 whole spectra"),
    "fsm: grid": (
        lambda d: written(d / "c.fsm", fsm(VALUES, points=(3, 5, 9))),
        CorruptSource,
        "its grid has 15 pixels",
    ),
    "fsm: points": (
        lambda d: written(d / "c.fsm", fsm(VALUES, points=(3, 4, 8))),
        CorruptSource,
        "8 points need 32",
    ),
    "fsm: units": (
        lambda d: written(d / "c.fsm", fsm(VALUES, labels=("X", "Y", "seconds", "A"))),
        UnknownFormat,
        "in 'seconds'",
    ),
    "fsm: axis": (
        lambda d: written(d / "c.fsm", fsm(VALUES, z=(900.0, 0.0))),
        CorruptSource,
        "strictly ascending",
    ),
    "fsm: empty": (lambda d: written(d / "c.fsm", b""), UnknownFormat, "begins with b''"),
    "envi: short": (lambda d: shorter(envi(d, VALUES).with_suffix(".img")), CorruptSource, "has 431 bytes"),
    "envi: long": (lambda d: longer(envi(d, VALUES)), CorruptSource, "433 bytes, its header promises 432"),
    "envi: no data": (
        lambda d: envi(d, VALUES, ending=".other"),
        CorruptSource,
        "no data file beside it: expected image",
    ),
    "envi: two data files": (
        lambda d: envi(envi(d, VALUES, ending=".dat").parent, VALUES),
        CorruptSource,
        "image.dat, image.img",
    ),
    "envi: no samples": (
        lambda d: edited(envi(d, VALUES), "samples = 3", ""),
        CorruptSource,
        "samples is None",
    ),
    "envi: no bands": (
        lambda d: edited(envi(d, VALUES), "bands = 9", "bands = 0"),
        CorruptSource,
        "empty image",
    ),
    "envi: complex": (
        lambda d: edited(envi(d, VALUES), "data type = 4", "data type = 6"),
        UnknownFormat,
        "complex64: expected real numbers",
    ),
    "envi: type": (
        lambda d: edited(envi(d, VALUES), "data type = 4", "data type = 7"),
        CorruptSource,
        "data type is '7'",
    ),
    "envi: interleave": (
        lambda d: edited(envi(d, VALUES), "= bip", "= bop"),
        CorruptSource,
        "one of bsq, bil, bip",
    ),
    "envi: compressed": (packed_by_envi, UnknownFormat, "is compressed"),
    "envi: library": (
        lambda d: edited(envi(d, VALUES), "ENVI Standard", "ENVI Spectral Library"),
        UnknownFormat,
        "expected an image",
    ),
    "envi: open brace": (lambda d: edited(envi(d, VALUES), "}\n\n$", "\n"), CorruptSource, "never closed"),
    "envi: twice": (lambda d: envi(d, VALUES, extra="bands = 8"), CorruptSource, "bands is '9' and '8'"),
    "envi: no wavelength": (
        lambda d: edited(envi(d, VALUES), "wavelength =", "somewhere ="),
        AxisRequired,
        "add a line 'wavelength",
    ),
    "envi: no units": (lambda d: envi(d, VALUES, units=""), AxisRequired, "wavelength units = nothing"),
    "envi: odd units": (lambda d: envi(d, VALUES, units="GHz"), AxisRequired, "write 'wavelength units"),
    "envi: axis length": (
        lambda d: envi(d, VALUES, axis=AXIS[:8]),
        CorruptSource,
        "has 8 values, the spectra have 9",
    ),
    "envi: axis order": (
        lambda d: envi(d, VALUES, axis=np.roll(AXIS, 1)),
        CorruptSource,
        "strictly ascending or descending",
    ),
    "mat: short": (lambda d: shorter(CASES["mat"].write(d)), CorruptSource, "truncated"),
    "mat: another": (lambda d: written(d / "c.mat", b"MATLAB 4" * 50), UnknownFormat, "save it with save"),
    "mat: no cube": (
        lambda d: saved(d / "c.mat", flat=VALUES[0], wavenumber=AXIS),
        UnknownFormat,
        r"no array of three axes .*flat \(3, 9\)",
    ),
    "mat: complex": (lambda d: saved(d / "c.mat", cube=VALUES * 1j, wn=AXIS), UnknownFormat, "complex128"),
    "mat: no axis": (
        lambda d: saved(d / "c.mat", cube=VALUES),
        AxisRequired,
        "save it as a variable 'wavenumber'",
    ),
    "mat: axis length": (lambda d: saved(d / "c.mat", cube=VALUES, wn=AXIS[:8]), CorruptSource, "8 values"),
    "cytospec: grid": (
        lambda d: cytospec(d / "c.mat", BLOCKS, info={"XDI": 4}),
        CorruptSource,
        "XDI = 4, the cube C has 3",
    ),
    "cytospec: limits": (
        lambda d: cytospec(d / "c.mat", BLOCKS, info={"LWN": "x"}),
        CorruptSource,
        "no wavenumbers LWN and VWN",
    ),
    "cytospec: nothing": (
        lambda d: cytospec(d / "c.mat", BLOCKS * np.nan),
        CorruptSource,
        "none of its 1 blocks holds a number",
    ),
    "hdf5: short": (lambda d: shorter(CASES["hdf5"].write(d)), CorruptSource, "cannot be read as HDF5"),
    "hdf5: units": (lambda d: hdf5(d / "c.h5", VALUES, AXIS, unit="eV"), CorruptSource, "is in 'eV'"),
    "hdf5: unwritten": (stacked, UnknownFormat, "never written"),
    "npz: no axis": (
        lambda d: saved(d / "c.npz", cube=VALUES),
        AxisRequired,
        r"c\.wavenumber\.txt beside it",
    ),
    "npz: bzip2": (bzipped, UnknownFormat, "not packed by deflate"),
    "npz: objects": (
        lambda d: saved(d / "c.npz", cube=np.full((2, 2, 9), None), wavenumber=AXIS),
        CorruptSource,
        "no whole NumPy array",
    ),
    "npy: short": (lambda d: shorter(CASES["npy"].write(d)), CorruptSource, "truncated"),
    "npy: axis": (
        lambda d: written(CASES["npy"].write(d).with_name("c.wavenumber.txt"), b"1 2\nx").with_name("c.npy"),
        CorruptSource,
        r"cannot read the axis .*c\.wavenumber\.txt",
    ),
    "opus: short": (lambda d: written(d / "c.0", b"\n\n\xfe\xfe"), CorruptSource, "damaged"),
    "omnic: head only": (
        lambda d: written(d / "c.map", b"Spectral Data File\r\n"),
        CorruptSource,
        "cannot be read as a map of OMNIC .* copy it again",
    ),
    "omnic: short": (
        lambda d: shorter(CASES["omnic"].write(d)),
        CorruptSource,
        "points past the end of the file",
    ),
    "omnic: interferograms": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, units=2)),
        UnknownFormat,
        "in data points, expected cm-1",
    ),
    "omnic: units": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, units=3)),
        UnknownFormat,
        r"unknown \(code 3\), expected cm-1",
    ),
    "omnic: axis": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, ends=(900, 900))),
        CorruptSource,
        "strictly ascending",
    ),
    "omnic: points": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, points=8)),
        CorruptSource,
        "132 for each spectrum of 8 points",
    ),
    "omnic: points classic": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, points=8, classic=True)),
        CorruptSource,
        r"spectrum 1 \(from 1\) has 36 bytes, 8 points need 32",
    ),
    "omnic: many points": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, points=2**32 - 1)),
        CorruptSource,
        "do not fit into a file of",
    ),
    "omnic: no header": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, without=(0x02,))),
        CorruptSource,
        "no header of its spectra",
    ),
    "omnic: no spectra": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, without=(0x12D,))),
        UnknownFormat,
        "holds no spectra",
    ),
    "omnic: no spectra classic": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, classic=True, without=(0x03,))),
        UnknownFormat,
        "holds no spectra",
    ),
    "omnic: no positions": (
        lambda d: written(d / "c.map", omnic_grid(VALUES, without=(0x06,))),
        CorruptSource,
        "12 spectra and positions of none",
    ),
    "omnic: positions": (
        lambda d: written(d / "c.map", omnic(VALUES[0], [0, 1, np.nan], [0, 1, 2])),
        CorruptSource,
        "not finite",
    ),
    "omnic: scattered": (
        lambda d: written(d / "c.map", omnic(VALUES[:, 0], [0, 10, 17, 30], [0, 9, 2, 5])),
        UnknownFormat,
        "4 spectra are scattered over 30 x 9 micrometre, expected a grid",
    ),
    "omnic: one place": (
        lambda d: written(d / "c.map", omnic(VALUES[0], [1, 1, 1], [2, 2, 2])),
        UnknownFormat,
        "scattered over 0 x 0",
    ),
    "omnic: twice on a line": (
        lambda d: written(d / "c.map", omnic(VALUES[0], [1, 9, 9], [2, 2, 2])),
        UnknownFormat,
        "scattered over 8 x 0",
    ),
    "source map": (lambda d: written(d / "c.map", b"{}"), UnknownFormat, "no reader takes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(name: str, tmp_path: Path) -> None:
    write, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        open_sources(write(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_longer_data_file_is_read_where_wrong_files_are_to_be_reported(tmp_path: Path) -> None:
    info = open_source(longer(envi(tmp_path, VALUES)), on_error="report").info
    assert any("the bytes at the end are left out" in remark for remark in info.remarks)


def test_a_truncated_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Between opening and reading a file can change."""
    reader = open_source(envi(tmp_path, VALUES))
    shorter(tmp_path / "image.img")
    with pytest.raises(CorruptSource, match="truncated"):
        reader.read_tile(Window(0, 1, 0, 1))


def test_a_damaged_stream_does_not_meet_its_checksum(tmp_path: Path) -> None:
    path = CASES["npz"].write(tmp_path)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    reader = open_source(path)
    with pytest.raises(CorruptSource, match="CRC-32"):
        reader.verify()


def test_several_cubes_on_one_axis_are_slides_of_their_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.npz", first=VALUES, second=VALUES[:2], other=VALUES[..., :5], wavenumber=AXIS)
    assert [reader.info.name for reader in open_sources(path)] == ["c_first", "c_second"]
    with pytest.raises(UsageError, match="c_first, c_second"):
        open_source(path)
    assert open_source(path, cube="c_second").info.shape == (2, 3)
    with pytest.raises(UsageError, match="holds no cube 'second': name one of c_first, c_second"):
        open_source(path, cube="second")


def test_axis_and_pixel_size_as_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["group/cube"] = VALUES
        file["group/cube"].attrs["wavenumber"] = AXIS
        file["group"].attrs["pixel_size"] = [5.5, 6.0]
    info = open_source(tmp_path / "c.h5").info
    np.testing.assert_array_equal(info.axis, AXIS)
    assert info.pixel_size is not None
    assert (info.pixel_size.y, info.pixel_size.x) == (5.5, 6)


def test_blocks_of_cytospec_without_a_number_are_left_out(tmp_path: Path) -> None:
    blocks = np.stack([BLOCKS, np.full_like(BLOCKS, np.nan), -BLOCKS], axis=-1)
    readers = open_sources(cytospec(tmp_path / "c.mat", blocks))
    assert [reader.info.name for reader in readers] == ["c_b1", "c_b3"]
    assert any("block 2 (preprocessed) holds no number" in remark for remark in readers[0].info.remarks)


def test_a_cube_of_nothing_but_nan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorruptSource, match="none of its 12 spectra holds a number"):
        open_source(envi(tmp_path, VALUES * np.nan))
