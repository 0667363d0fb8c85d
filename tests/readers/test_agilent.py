"""Agilent images against agilent_format, against the file of the whole mosaic, and against what was written."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agilent_format
import numpy as np
import pytest
from agilent_files import axis_of, random_cube, tile_bytes, write_mosaic, write_single
from numpy.typing import NDArray

from msicube.errors import CorruptSource, UnknownFormat, UsageError
from msicube.readers import CubeReader, find_sources, open_source
from msicube.readers.agilent import spectra
from msicube.testing import CubeReaderContract
from msicube.tiling import Window, windows

MOSAIC, SINGLE = "5_mosaic_agg1024", "4_noimage_agg256"
LOST = Window(4, 8, 4, 8)


def whole(reader: CubeReader) -> NDArray[Any]:
    ny, nx = reader.info.shape
    return reader.read_tile(Window(0, ny, 0, nx)).values


class TestRealMosaic(CubeReaderContract):
    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "ftir/agilent" / f"{MOSAIC}.dmt"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        # In the orientation of images; without MAT=True it gives the same upside down.
        mosaic = agilent_format.agilentMosaic(str(self.path), MAT=True)
        return np.array(mosaic.wavenumbers), mosaic.data


class TestRealSingleTile(CubeReaderContract):
    @pytest.fixture(autouse=True)
    def _data(self, shared_data: Path) -> None:
        self.path = shared_data / "ftir/agilent" / f"{SINGLE}.bsp"

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        image = agilent_format.agilentImage(str(self.path.with_suffix(".dat")), MAT=True)
        return np.array(image.wavenumbers), image.data


class TestMosaicWithGaps(CubeReaderContract):
    """Three by two tiles, one of them missing and one cut short, read a few bands at a time."""

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spectra, "READ_BYTES", 4 * 4 * 4 * 3)
        self.cube = random_cube((8, 12, 10))
        self.cube[0, 0, 3] = np.nan  # measured, and kept
        self.path = write_mosaic(tmp_path, self.cube, edge=4)
        (tmp_path / "Mosaic_0001_0001.dmd").unlink()
        short = tmp_path / "Mosaic_0002_0000.dmd"
        short.write_bytes(short.read_bytes()[:-8])

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        cube = self.cube.copy()
        cube[4:, 4:8] = cube[:4, 8:] = np.nan
        return axis_of(10), cube

    def test_the_mask_and_the_report_say_which(self) -> None:
        info = self.make_reader().info
        acquired = np.ones((8, 12), bool)
        acquired[4:, 4:8] = acquired[:4, 8:] = False
        np.testing.assert_array_equal(info.acquired, acquired)
        assert info.masked == 32
        assert info.source["tiles"]["missing"] == ["mosaic_0002_0000.dmd", "mosaic_0001_0001.dmd"]
        text = " ".join(info.remarks)
        assert "missing tiles, masked: 1 (mosaic_0001_0001.dmd)" in text
        assert "1 (Mosaic_0002_0000.dmd has 1652 of 1660 bytes)" in text


class TestGeneratedSingleTile(CubeReaderContract):
    @pytest.fixture(autouse=True)
    def _data(self, tmp_path: Path) -> None:
        self.tile = random_cube((4, 4, 7))
        self.path = write_single(tmp_path, self.tile)

    def make_reader(self) -> CubeReader:
        return open_source(self.path)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return axis_of(7), self.tile


def test_the_mosaic_is_the_file_of_the_whole_with_the_top_row_first(
    shared_data: Path, tmp_path: Path
) -> None:
    """The geometry contract: the tiles against the .dms, whose rows run from the bottom to the top."""
    folder = shared_data / "ftir/agilent"
    data = np.frombuffer((folder / "5_Mosaic_agg1024.dms").read_bytes(), "<f4", offset=1020)
    upright = data.reshape(9, 8, 4)[:, ::-1].transpose(1, 2, 0)
    reader = open_source(folder / f"{MOSAIC}.dmt")
    np.testing.assert_array_equal(whole(reader), upright)
    assert reader.info.source["geometry"]["flips"] == [
        "rows: the files have the bottom row of each tile first, and the top row of tiles first"
    ]
    # agilent_format gives one orientation by default: the exact vertical flip.
    np.testing.assert_array_equal(
        agilent_format.agilentMosaic(str(folder / f"{MOSAIC}.dmt")).data, upright[::-1]
    )
    for name in (f"{MOSAIC}.dmt", "5_Mosaic_agg1024.dms", "IrMosaicInfo.cfg"):
        shutil.copy(folder / name, tmp_path)
    alone = open_source(tmp_path / "5_Mosaic_agg1024.dms")
    np.testing.assert_array_equal(whole(alone), upright)


def test_spectra_are_numbered_as_the_files_have_them(tmp_path: Path) -> None:
    cube = random_cube((4, 6, 3))
    reader = open_source(write_mosaic(tmp_path, cube, edge=2))
    index = reader.info.spectrum_index
    for y, x in np.ndindex(4, 6):
        tile, place = divmod(int(index[y, x]), 4)
        row, column = divmod(tile, 3)
        data = np.fromfile(tmp_path / f"Mosaic_{column:04d}_{row:04d}.dmd", "<f4", offset=1020).reshape(3, 4)
        np.testing.assert_array_equal(data[:, place], cube[y, x])


def test_pixel_size_and_remarks(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ftir/agilent"
    size = open_source(folder / f"{MOSAIC}.dmt").info.pixel_size
    assert size is not None
    params = agilent_format.agilentMosaicTiles(str(folder / f"{MOSAIC}.dmt")).info
    assert size.y == size.x == params["FPA Pixel Size"] * params["PixelAggregationSize"] == 176
    assert "FPA Pixel Size 5.5" in size.provenance
    unknown = open_source(write_mosaic(tmp_path / "a", random_cube((2, 2, 3)), edge=2, summed=None))
    assert unknown.info.pixel_size is None
    assert "does not tell the pixel size" in unknown.info.remarks[0]
    odd = open_source(write_mosaic(tmp_path / "b", random_cube((2, 2, 3)), edge=2, step=2.0))
    assert "no whole fraction of the laser" in odd.info.remarks[0]
    assert open_source(folder / f"{MOSAIC}.dmt").info.remarks == ()


@pytest.mark.parametrize(
    "name", [f"{MOSAIC}.dmt", "5_Mosaic_agg1024.dms", "5_Mosaic_agg1024_0000_0001.dmd", ""]
)
def test_a_mosaic_opens_from_any_of_its_files(shared_data: Path, tmp_path: Path, name: str) -> None:
    for path in (shared_data / "ftir/agilent").glob("5_*"):
        shutil.copy(path, tmp_path)
    reader = open_source(tmp_path / name)
    assert reader.info.name == MOSAIC
    assert reader.info.shape == (8, 4)


def test_a_folder_holds_one_source_for_each_image(shared_data: Path) -> None:
    folder = shared_data / "ftir/agilent"
    assert [path.name for path in find_sources([folder])] == [f"{SINGLE}.bsp", f"{MOSAIC}.dmt"]
    tiles = folder.glob("5_*.dmd")
    assert [path.name for path in find_sources([*tiles, folder / "5_mosaic_agg1024.hdr"])] == [
        f"{MOSAIC}.dmt"
    ]
    with pytest.raises(UsageError, match="holds 2 sources"):
        open_source(folder)
    for name in ("IrCutout.bmp", "IrMosaicInfo.cfg"):
        with pytest.raises(UnknownFormat):
            open_source(folder / name)


def test_only_the_file_of_spectra_is_read_of_a_single_tile(shared_data: Path, tmp_path: Path) -> None:
    """Today's .seq holds interferograms; that of older software holds spectra."""
    for ending in (".bsp", ".seq"):
        shutil.copy(shared_data / "ftir/agilent" / f"{SINGLE}{ending}", tmp_path)
    with pytest.raises(CorruptSource, match="holds interferograms"):
        open_source(tmp_path / f"{SINGLE}.seq")
    tile = random_cube((4, 4, 6))
    path = write_single(tmp_path, tile, stem="old", ending=".SEQ")
    np.testing.assert_array_equal(whole(open_source(path)), tile)
    np.testing.assert_array_equal(whole(open_source(path.with_name("old.SEQ"))), tile)


def test_the_case_of_names_may_differ_everywhere(tmp_path: Path) -> None:
    cube = random_cube((2, 6, 3))
    write_mosaic(tmp_path, cube, edge=2)
    for old, new in (
        ("Mosaic_0000_0000.dmd", "MOSAIC_0000_0000.DMD"),
        ("Mosaic_0001_0000.dmd", "mosaic_0001_0000.Dmd"),
        ("mosaic.dmt", "MoSaIc.DMT"),
        ("IrMosaicInfo.cfg", "irmosaicinfo.CFG"),
    ):
        (tmp_path / old).rename(tmp_path / new)
    for path in tmp_path.iterdir():
        if path.suffix.lower() != ".cfg":
            np.testing.assert_array_equal(whole(open_source(path)), cube)
    assert len(find_sources([tmp_path])) == 1


def test_two_mosaics_share_a_folder(tmp_path: Path) -> None:
    cubes = {"Alpha": random_cube((2, 4, 3), 1), "Alpha_2": random_cube((4, 2, 3), 2)}
    paths = [write_mosaic(tmp_path, cube, edge=2, stem=stem) for stem, cube in cubes.items()]
    for path, cube in zip(paths, cubes.values(), strict=True):
        reader = open_source(path)
        np.testing.assert_array_equal(whole(reader), cube)
        assert "several mosaics" in reader.info.remarks[0]
    assert find_sources([tmp_path]) == sorted(paths)


def test_the_files_decide_over_the_property_and_the_grid_file_adds_missing_tiles(tmp_path: Path) -> None:
    cube = random_cube((4, 6, 3))
    path = write_mosaic(tmp_path, cube, edge=2, grid_file=False)
    assert open_source(path).info.shape == (4, 6)
    (tmp_path / "IrMosaicInfo.cfg").write_text("[GridInfo]\nIrCollectFilesX=4\nIrCollectFilesY=3\n")
    info = open_source(path).info
    assert info.shape == (6, 8)
    assert info.n_spectra == 24
    assert "missing tiles, masked: 6" in info.remarks[0]
    (tmp_path / "IrMosaicInfo.cfg").write_text("[GridInfo]\nIrCollectFilesX=2\nIrCollectFilesY=3\n")
    with pytest.raises(CorruptSource, match=r"says 2 x 3 tiles .* go up to 3 x 2"):
        open_source(path)
    reported = open_source(path, on_error="report")
    assert reported.info.shape == (4, 6)
    assert "the files decide" in reported.info.remarks[0]
    for text in (
        "[GridInfo]\nIrCollectFilesX=x\n",
        "no section",
        "[GridInfo]\nIrCollectFilesX=0\nIrCollectFilesY=1",
    ):
        (tmp_path / "IrMosaicInfo.cfg").write_text(text)
        left = open_source(path).info
        assert left.shape == (4, 6)
        assert "left aside" in left.remarks[0]


def test_tiles_with_a_blank_header_are_square(tmp_path: Path) -> None:
    cube = random_cube((6, 3, 5))
    reader = open_source(write_mosaic(tmp_path, cube, edge=3, blank=True))
    np.testing.assert_array_equal(whole(reader), cube)
    assert "blank header" in reader.info.remarks[0]


def test_the_envi_header_beside_it_is_compared(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "ftir/agilent").glob("5_*"):
        shutil.copyfile(path, tmp_path / path.name)
    header = tmp_path / f"{MOSAIC}.hdr"
    header.write_text(header.read_text().replace("lines   = 8", "lines = 9").replace("2005.60596", "2006.0"))
    assert open_source(tmp_path).info.remarks == (
        f"{MOSAIC}.hdr says otherwise, left aside: lines 9 instead of 8, other wavelengths",
    )


def poke(path: Path, at: int, form: str, *values: float) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, at, *values)
    path.write_bytes(data)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no master": (lambda f: (f / "mosaic.dmt").unlink(), "no .dmt beside it"),
    "empty master": (lambda f: (f / "mosaic.dmt").write_bytes(b""), "begins with nothing"),
    "master of another kind": (lambda f: poke(f / "mosaic.dmt", 0, "<i", 7), "expected the compound document"),
    "master cut off": (lambda f: os.truncate(f / "mosaic.dmt", 2230), "truncated"),
    "no points": (lambda f: poke(f / "mosaic.dmt", 2236, "<i", 0), "no infrared axis"),
    "too many points": (lambda f: poke(f / "mosaic.dmt", 2236, "<i", 2**31 - 1), "no infrared axis"),
    "points differ": (lambda f: poke(f / "mosaic.dmt", 2236, "<i", 8), "spectra of 7 points"),
    "step NaN": (lambda f: poke(f / "mosaic.dmt", 2216, "<d", np.nan), "no infrared axis"),
    "step 0": (lambda f: poke(f / "mosaic.dmt", 2216, "<d", 0), "no infrared axis"),
    "negative start": (lambda f: poke(f / "mosaic.dmt", 2228, "<i", -3), "no infrared axis"),
    "no tiles": (lambda f: [p.unlink() for p in f.glob("*.dmd")], "neither tiles"),
    "tile of another kind": (lambda f: poke(f / "Mosaic_0000_0000.dmd", 0, "<i", 9), "begins with 09000000"),
    "tile of another shape": (
        lambda f: (f / "Mosaic_0001_0000.dmd").write_bytes(tile_bytes(random_cube((3, 3, 7)))),
        "3 x 3 pixels, the other tiles have 2 x 2",
    ),
    "tile with a header not square": (lambda f: poke(f / "Mosaic_0000_0001.dmd", 24, "<2h", 4, 1), "square"),
    "tile of negative size": (lambda f: poke(f / "Mosaic_0000_0001.dmd", 24, "<2h", -2, -2), "-2 x -2"),
    "tile with more bytes": (
        lambda f: os.truncate(f / "Mosaic_0000_0001.dmd", 1136),
        "has 1136 bytes",
    ),
    "tile with other points": (lambda f: poke(f / "Mosaic_0001_0001.dmd", 9, "<i", 6), "spectra of 6 points"),
    "a tile far away": (
        lambda f: shutil.copy(f / "Mosaic_0001_0001.dmd", f / "Mosaic_9999_9999.dmd"),
        "5 whole tiles in a grid of 10000 x 10000",
    ),
    "a grid without end": (
        lambda f: (f / "IrMosaicInfo.cfg").write_text("[GridInfo]\nIrCollectFilesX=2\nIrCollectFilesY=999999999\n"),
        "in a grid of 2 x 999999999",
    ),
    "one tile twice": (
        lambda f: shutil.copy(f / "Mosaic_0001_0001.dmd", f / "mosaic_0001_0001.dmd"),
        "are both the tile of column 1 and row 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_clear_error(tmp_path: Path, case: str) -> None:
    write_mosaic(tmp_path, random_cube((4, 4, 7)), edge=2, grid_file=False)
    change, message = WRONG[case]
    change(tmp_path)
    (source,) = find_sources([tmp_path])
    with pytest.raises(CorruptSource, match=message):
        open_source(source)


@pytest.mark.parametrize("case", [case for case in WRONG if case.startswith("tile")])
def test_wrong_tiles_are_masked_where_they_are_to_be_reported(tmp_path: Path, case: str) -> None:
    cube = random_cube((4, 4, 7))
    path = write_mosaic(tmp_path, cube, edge=2)
    change, message = WRONG[case]
    change(tmp_path)
    reader = open_source(path, on_error="report")
    assert reader.info.masked == 4
    assert message in " ".join(reader.info.remarks)
    expected = np.where(reader.info.acquired[..., None], cube, np.float32(np.nan))
    np.testing.assert_array_equal(whole(reader), expected)


def test_a_single_tile_cut_short_is_an_error(tmp_path: Path) -> None:
    path = write_single(tmp_path, random_cube((4, 4, 6)))
    os.truncate(path.with_suffix(".dat"), 1100)
    with pytest.raises(CorruptSource, match="1100 of 1404 bytes"):
        open_source(path)
    path.with_suffix(".dat").unlink()
    with pytest.raises(CorruptSource, match=r"expected tile\.dat"):
        open_source(path)


def test_a_tile_that_goes_after_opening_is_an_error(tmp_path: Path) -> None:
    reader = open_source(write_mosaic(tmp_path, random_cube((4, 2, 50)), edge=2))
    os.truncate(tmp_path / "Mosaic_0000_0001.dmd", 1200)
    np.testing.assert_array_equal(reader.read_tile(Window(0, 2, 0, 2)).values, random_cube((4, 2, 50))[:2])
    with pytest.raises(CorruptSource, match="ends at byte 1200"):
        whole(reader)
    (tmp_path / "Mosaic_0000_0001.dmd").unlink()
    with pytest.raises(CorruptSource, match="cannot open"):
        whole(reader)


def test_only_the_byte_ranges_of_the_channels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One range a tile for whole tiles; for a part of one, a range for each band."""
    reader = open_source(write_mosaic(tmp_path, random_cube((8, 8, 60)), edge=4))
    read: list[tuple[int, int]] = []
    original = os.preadv

    def preadv(handle: int, buffers: list[memoryview], offset: int) -> int:
        count = original(handle, buffers, offset)
        read.append((offset, count))
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    axis = axis_of(60)
    crop = reader.crop(axis[10], axis[29])
    crop.read_tile(Window(0, 8, 0, 8))
    assert read == [(1020 + 10 * 64, 20 * 64)] * 4
    read.clear()
    crop.read_tile(Window(5, 6, 2, 3))
    assert read == [(1020 + (10 + band) * 64 + 4 * (2 * 4 + 2), 4) for band in range(20)]
    read.clear()
    reader.crop(axis[7], axis[7]).read_tile(Window(0, 4, 0, 8))
    assert read == [(1020 + 7 * 64, 64)] * 2


def test_every_window_of_many_tiles(tmp_path: Path) -> None:
    cube = random_cube((9, 12, 5))
    reader = open_source(write_mosaic(tmp_path, cube, edge=3))
    for step in ((2, 5), (4, 4), (9, 7), (1, 12)):
        for window in windows((9, 12), step):
            np.testing.assert_array_equal(reader.read_tile(window).values, cube[window.slices])


def test_a_wide_file_of_the_whole_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "WIDE", 10)
    cube = random_cube((6, 15, 7))
    path = write_mosaic(tmp_path, cube, edge=3)
    for tile in tmp_path.glob("*.dmd"):
        tile.unlink()
    (tmp_path / "Mosaic.dms").write_bytes(tile_bytes(cube))
    reader = open_source(path)
    for step in ((2, 3), (6, 15), (4, 2), (1, 1)):
        for window in windows((6, 15), step):
            np.testing.assert_array_equal(reader.read_tile(window).values, cube[window.slices])
    (tmp_path / "Mosaic.dms").write_bytes(tile_bytes(cube.reshape(15, 6, 7)))
    with pytest.raises(CorruptSource, match="which are square"):
        open_source(path)
