"""Damaged Agilent images: an error, or what agilent_format reads of the same bytes; never a hang or silent garbage."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import agilent_format
import numpy as np
import pytest
from agilent_files import random_cube, write_mosaic, write_single
from test_imzml_fuzz import damage, limited

from msicube.errors import CorruptSource
from msicube.readers import CubeReader, find_sources, open_source
from msicube.readers.agilent.headers import HEADER_BYTES
from msicube.tiling import Window

ROUNDS = 150


def read_all(reader: CubeReader) -> np.ndarray:
    ny, nx = reader.info.shape
    assert ny * nx < 10_000
    return reader.read_tile(Window(0, ny, 0, nx)).values


def oracle_axis(master: Path) -> np.ndarray:
    with master.open("rb") as file:
        return np.array(agilent_format.agilent._get_wavenumbers(file)["wavenumbers"])


def check(path: Path) -> bool:
    """Open an image and compare every number with the oracle; return whether it could be read at all."""
    opened = False
    for on_error in ("report", "stop"):
        try:
            reader = open_source(path, on_error=on_error)  # type: ignore[arg-type]
            values = read_all(reader)
        except CorruptSource:
            continue
        opened = True
        info, edge = reader.info, reader.info.source["tiles"]["shape"][0]
        assert info.axis is not None
        np.testing.assert_array_equal(info.axis, oracle_axis(path))
        assert np.isnan(values[~info.acquired]).all()
        assert bool(info.masked) == (not info.acquired.all())
        assert not info.masked or info.remarks
        for row, column in np.ndindex(info.shape[0] // edge, info.shape[1] // edge):
            place = Window(row * edge, (row + 1) * edge, column * edge, (column + 1) * edge)
            if info.acquired[place.slices].all():
                expected = oracle_tile(path, row, column, len(info.axis), edge)
                np.testing.assert_array_equal(values[place.slices], expected)
    return opened


def oracle_tile(master: Path, row: int, column: int, n_points: int, edge: int) -> np.ndarray:
    name = "tile.dat" if master.suffix == ".bsp" else f"Mosaic_{column:04d}_{row:04d}.dmd"
    data = np.fromfile(master.with_name(name), "<f4")
    return agilent_format.agilent._reshape_tile(data, (n_points, edge, edge))[::-1]


def blur(data: bytes, rng: np.random.Generator, places: tuple[int, ...]) -> bytes:
    """Damage anywhere, or, as often, a number where it counts."""
    if rng.random() < 0.5:
        return damage(data, rng)
    out = bytearray(data)
    at = int(rng.choice(places))
    values = [0, -1, 1, 2, 3, 2**31 - 1, -(2**31), int(rng.integers(-(2**31), 2**31))]
    struct.pack_into("<i", out, at, values[rng.integers(0, len(values))])
    if rng.random() < 0.3:
        out[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(out)


@pytest.mark.parametrize("what", ["master", "tile", "grid", "envi"])
def test_damaged_mosaics(what: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(what))
    path = write_mosaic(tmp_path, random_cube((6, 9, 8)), edge=3)
    (tmp_path / "mosaic.hdr").write_text(
        "ENVI\nsamples = 9\nlines = 6\nbands = 8\nwavelength = { 900.5, 902.5 }\n"
    )
    victim = {
        "master": path,
        "tile": tmp_path / "Mosaic_0001_0000.dmd",
        "grid": tmp_path / "IrMosaicInfo.cfg",
        "envi": tmp_path / "mosaic.hdr",
    }[what]
    places = {"master": (2216, 2220, 2228, 2236, 0), "tile": (9, 24, 26, 0)}.get(what, (0, 12))
    data = victim.read_bytes()
    n_read = 0
    with limited(120):
        for _ in range(ROUNDS):
            victim.write_bytes(blur(data, rng, places))
            n_read += check(path)
    assert n_read > ROUNDS // 20


def test_damaged_single_tiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = write_single(tmp_path, random_cube((4, 4, 8)))
    originals = {name: (tmp_path / name).read_bytes() for name in ("tile.bsp", "tile.dat")}
    places = {"tile.bsp": (2216, 2220, 2228, 2236, 0), "tile.dat": (9, 24, 26, 0)}
    n_read = n_refused = 0
    with limited(120):
        for number in range(ROUNDS):
            name = ("tile.bsp", "tile.dat")[number % 2]
            for other, data in originals.items():
                (tmp_path / other).write_bytes(data)
            (tmp_path / name).write_bytes(blur(originals[name], rng, places[name]))
            read = check(path)
            n_read += read
            n_refused += not read
    assert min(n_read, n_refused) > ROUNDS // 20


def test_every_length_of_a_tile(tmp_path: Path) -> None:
    """A file cut anywhere is masked and named, one that is too long is refused: no length gives other numbers."""
    cube = random_cube((4, 2, 3))
    path = write_mosaic(tmp_path, cube, edge=2)
    victim = tmp_path / "Mosaic_0000_0001.dmd"
    data = victim.read_bytes()
    for length in range(HEADER_BYTES - 4, len(data)):
        victim.write_bytes(data[:length])
        reader = open_source(path)
        assert reader.info.masked == 4
        np.testing.assert_array_equal(read_all(reader)[:2], cube[:2])
    victim.write_bytes(data + b"\0")
    with pytest.raises(CorruptSource, match="one of them is damaged"):
        open_source(path)


def test_files_that_change_places(tmp_path: Path) -> None:
    """Names of tiles mangled and files of other kinds under the names of tiles: nothing but clear errors."""
    rng = np.random.default_rng(5)
    letters = list("0123456789_aA.dmDM -")
    with limited(120):
        for number in range(60):
            folder = tmp_path / str(number)
            write_mosaic(folder, random_cube((4, 4, 3)), edge=2)
            names = sorted(folder.iterdir())
            for _ in range(int(rng.integers(1, 4))):
                old = names[rng.integers(0, len(names))]
                stem = list(old.name)
                stem[rng.integers(0, len(stem))] = str(rng.choice(letters))
                new = folder / "".join(stem).strip()
                if old.exists() and new.name not in ("", ".", ".."):
                    shutil.move(old, new)
            for path in find_sources([folder]):
                try:
                    reader = open_source(path)
                except CorruptSource:
                    continue
                assert np.isfinite(read_all(reader)[reader.info.acquired]).all()
