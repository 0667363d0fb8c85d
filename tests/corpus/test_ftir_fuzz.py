"""Damaged infrared files: an error of msicube's own, or the numbers that another reading of the same bytes gives."""

from __future__ import annotations

import re
import shutil
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ftir_map
import h5py
import numpy as np
import pytest
from damage import damage, limited
from ftir_files import CASES, ENVI_TYPES, INTERLEAVES
from numpy.typing import NDArray

from msicube.errors import MSICubeError
from msicube.readers import CubeReader, open_source, open_sources
from msicube.tiling import Window

ROUNDS, SEED = 120, 1
ANY_NUMBER = rb"(-?\d+)"


def by_fsm(path: Path) -> NDArray[Any]:
    """Read every spectrum of a PerkinElmer image in the order of the file."""
    data = path.read_bytes()
    at, spectra, grid = 44, [], b""
    while at + 6 <= len(data):
        number, length = struct.unpack_from("<Hi", data, at)
        content = data[at + 6 : at + 6 + length]
        grid = content if number == 5100 else grid
        if number == 5105 and len(content) == length:
            spectra.append(np.frombuffer(content, "<f4"))
        at += 6 + length
    start = 2 + struct.unpack_from("<h", grid)[0]
    dx, dy, dz = struct.unpack_from("<3d", grid, start)
    nx, ny, nz = struct.unpack_from("<3i", grid, start + 80)
    cube = np.array(spectra).reshape(ny, nx, nz)
    return cube[:: -1 if dy > 0 else 1, :: -1 if dx < 0 else 1, :: -1 if dz < 0 else 1]


def by_envi(path: Path) -> NDArray[Any]:
    """Read an ENVI image whose header is in order."""
    text = path.read_text("latin-1")

    def value(key: str) -> str:
        (found,) = re.findall(rf"^ *{key} *= *(\S+) *$", text, re.MULTILINE | re.IGNORECASE)
        return str(found)

    kinds = {str(number): name for name, number in ENVI_TYPES.items()}
    dtype = np.dtype(kinds[value("data type")]).newbyteorder("<>"[int(value("byte order"))])
    shape = [int(value(key)) for key in ("lines", "samples", "bands")]
    order = INTERLEAVES[value("interleave").lower()]
    values = np.fromfile(
        path.with_suffix(".img"), dtype, int(np.prod(shape)), offset=int(value("header offset"))
    )
    return values.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def by_position(name: str, path: Path) -> NDArray[Any]:
    """Read a MATLAB variable where it was written; what stands before must be whole (scipy crashes on some damage)."""
    cube = CASES[name].cube
    order = (2, 0, 1) if name == "cytospec" else (2, 1, 0)
    stored = np.ascontiguousarray(cube.transpose(order))
    folder = path.parent / "whole"
    folder.mkdir(exist_ok=True)
    whole = CASES[name].write(folder).read_bytes()
    at, found = whole.index(stored.tobytes()), path.read_bytes()
    if found[:at] != whole[:at]:
        raise ValueError("the header is damaged")
    return (
        np.frombuffer(found, stored.dtype, stored.size, at).reshape(stored.shape).transpose(np.argsort(order))
    )


def by_checksum(path: Path) -> NDArray[Any]:
    """A stream whose checksum is met holds what was written."""
    return CASES["mat packed"].cube


def by_h5py(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        return file["cube"][()].T if "cube" in file else file["sample/intensity"][()]


def by_numpy(path: Path) -> NDArray[Any]:
    loaded = np.load(path, allow_pickle=False)
    return loaded if isinstance(loaded, np.ndarray) else loaded["cube"]


def by_omnic(path: Path) -> NDArray[Any]:
    """Read a map as its library does, whole; ``agrees`` takes the channels in the order of the file."""
    found = ftir_map.read_omnic(path)
    turned = found.collection.first_x > found.collection.last_x
    return found.spectra_grid()[::-1, :, :: -1 if turned else 1]


ORACLES: dict[str, Callable[[Path], NDArray[Any]]] = {
    "fsm": by_fsm,
    "envi": by_envi,
    "mat": partial(by_position, "mat"),
    "mat packed": by_checksum,
    "mat 7.3": by_h5py,
    "cytospec": partial(by_position, "cytospec"),
    "hdf5": by_h5py,
    "npz": by_numpy,
    "npz packed": by_numpy,
    "npy": by_numpy,
    "omnic": by_omnic,
    "omnic classic": by_omnic,
}


def agrees(reader: CubeReader, path: Path, oracle: Callable[[Path], NDArray[Any]]) -> bool:
    """Compare a cube with the oracle's, the channels either way round; False where the oracle gives up."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = oracle(path)
    except Exception:
        return False
    ny, nx = reader.info.shape
    values = reader.read_tile(Window(0, ny, 0, nx)).values
    acquired = reader.info.acquired
    turned = any(flip.startswith("channels") for flip in reader.info.source["geometry"]["flips"])
    if oracle is not by_fsm and turned:
        expected = expected[..., ::-1]
    with np.errstate(invalid="ignore"):  # signalling NaN
        np.testing.assert_array_equal(values[acquired], expected.astype(values.dtype)[acquired])
        assert np.isnan(expected[~acquired].astype("f8")).all()
    return True


@pytest.mark.parametrize("name", ORACLES)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    path = CASES[name].write(tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    compared = 0
    with limited(120):
        for turn in range(ROUNDS):
            for file, content in files.items():
                hit = file == path or turn % 3 == 0
                file.write_bytes(damage(content, rng, ANY_NUMBER) if hit else content)
            try:
                with np.errstate(all="raise"):
                    readers = open_sources(path, on_error=("stop", "report")[turn % 2])
                    for reader in readers:
                        ny, nx = reader.info.shape
                        reader.read_tile(Window(0, ny, 0, nx))
                        reader.verify()
            except MSICubeError:
                continue
            if len(readers) == 1:
                compared += agrees(readers[0], path, ORACLES[name])
    # Nearly nothing of an .npz can change without its checksums seeing it.
    assert compared > 0 or "npz" in name


@pytest.mark.parametrize("name", ORACLES)
def test_every_truncation(name: str, tmp_path: Path) -> None:
    """A file that was not copied to its end: an error, never another cube."""
    case = CASES[name]
    path = case.write(tmp_path)
    main = path.with_suffix(".img") if name == "envi" else path
    content = main.read_bytes()
    with limited(120):
        for length in range(0, len(content) - 1, max(1, len(content) // 60)):
            main.write_bytes(content[:length])
            with suppress(MSICubeError):
                reader = open_source(path)
                reader.verify()
                ny, nx = reader.info.shape
                np.testing.assert_array_equal(reader.read_tile(Window(0, ny, 0, nx)).values, case.cube)


def test_damaged_opus_files(shared_data: Path, tmp_path: Path) -> None:
    """brukeropus is asked for one block at a time: its parsers do not end on every damaged file."""
    from brukeropus import read_opus

    rng = np.random.default_rng(SEED)
    source = shared_data / "ftir/opus/single_point.0"
    content, whole = source.read_bytes(), read_opus(source).a
    path = tmp_path / "c.0"
    same = 0
    with limited(120):
        for turn in range(ROUNDS):
            # Half of the time only the directory and what comes first are hit: there the lengths are.
            upto = len(content) if turn % 2 else 2000
            path.write_bytes(damage(content[:upto], rng, ANY_NUMBER) + content[upto:])
            with suppress(MSICubeError):
                reader = open_source(path)
                values = reader.read_tile(Window(0, 1, 0, 1)).values
                same += np.array_equal(values[0, 0, ::-1], whole.y)
    assert same > ROUNDS // 10


@pytest.mark.parametrize(
    "ending", [".fsm", ".hdr", ".mat", ".h5", ".hdf5", ".npy", ".npz", ".0", ".map", ".img", ""]
)
def test_files_of_another_kind(ending: str, tmp_path: Path) -> None:
    """Empty files, noise, and the content of every other format under this name."""
    path = tmp_path / f"c{ending}"
    folder = tmp_path / "cases"
    contents = [b"", b"\0" * 5000, np.random.default_rng(0).bytes(5000)]
    for case in CASES.values():
        folder.mkdir()
        contents.append(case.write(folder).read_bytes())
        shutil.rmtree(folder)
    for content in contents:
        path.write_bytes(content)
        with suppress(MSICubeError):
            for reader in open_sources(path):
                ny, nx = reader.info.shape
                reader.read_tile(Window(0, ny, 0, nx))
