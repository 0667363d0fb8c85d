from __future__ import annotations

import configparser
import struct
import tracemalloc
from datetime import datetime
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from agilent_format import agilentImage, agilentMosaic, agilentMosaicTiles
from hypothesis import given, settings
from hypothesis import strategies as st

from msicube.errors import UsageError
from msicube.writers import AgilentMosaicWriter, WavenumberGrid, write_agilent_tile
from msicube.writers.agilent_image import AgilentImage

TIME = datetime(2018, 1, 2, 14, 9, 36)
AXIS = WavenumberGrid(129, 9, step=15.427738)


def cube(shape: tuple[int, int], n_channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, n_channels)).astype(np.float32)


def write_mosaic(
    folder: Path, values: np.ndarray, tile_size: int, axis: WavenumberGrid, **options: object
) -> Path:
    tiles = values.shape[0] // tile_size, values.shape[1] // tile_size
    writer = AgilentMosaicWriter(
        folder, tiles=tiles, tile_size=tile_size, axis=axis, pixel_size=5.5, time=TIME, **options
    )
    with writer:
        for row, column in product(*map(range, tiles)):
            y, x = row * tile_size, column * tile_size
            writer.write_tile(row, column, values[y : y + tile_size, x : x + tile_size])
    return writer.path


def compound_streams(data: bytes) -> dict[str, bytes]:
    """Walk a compound file as the specification says; names are unique in these files but for the versions."""
    assert data[:8].hex() == "d0cf11e0a1b11ae1"
    n_fat, directory = struct.unpack_from("<II", data, 44)
    cutoff, mini_fat, n_mini_fat = struct.unpack_from("<III", data, 56)

    def sector(number: int) -> bytes:
        return data[512 * (number + 1) : 512 * (number + 2)]

    places = struct.unpack_from("<109I", data, 76)[:n_fat]
    fat = np.frombuffer(b"".join(map(sector, places)), "<u4")

    def chain(start: int, table: np.ndarray) -> list[int]:
        found = []
        while start != 0xFFFFFFFE:
            found.append(start)
            start = int(table[start])
        return found

    def stream(start: int) -> bytes:
        return b"".join(sector(number) for number in chain(start, fat))

    entries = stream(directory)
    rows = [entries[i : i + 128] for i in range(0, len(entries), 128)]
    root_start, root_size = struct.unpack_from("<IQ", rows[0], 116)
    mini = stream(root_start)[:root_size]
    assert len(mini) == root_size
    mini_table = np.frombuffer(stream(mini_fat), "<u4")
    assert len(mini_table) == 128 * n_mini_fat
    found = {}
    for row in rows:
        if row[66] != 2:
            continue
        name = row[: struct.unpack_from("<H", row, 64)[0] - 2].decode("utf-16-le")
        start, size = struct.unpack_from("<IQ", row, 116)
        if size >= cutoff:
            found[name] = stream(start)[:size]
        elif size:
            parts = chain(start, mini_table)
            found[name] = b"".join(mini[64 * n : 64 * (n + 1)] for n in parts)[:size]
        else:
            found[name] = b""
        assert len(found[name]) == size
    return found


@pytest.mark.parametrize(
    ("tiles", "tile_size", "n_channels"),
    [((1, 1), 2, 1), ((3, 2), 8, 9), ((2, 5), 4, 467), ((1, 3), 16, 30), ((2, 1), 64, 5), ((1, 1), 128, 3)],
)
def test_agilent_format_reads_the_same_numbers(
    tmp_path: Path, tiles: tuple[int, int], tile_size: int, n_channels: int
) -> None:
    values = cube((tiles[0] * tile_size, tiles[1] * tile_size), n_channels)
    axis = WavenumberGrid(467, n_channels)
    path = write_mosaic(tmp_path / "Core_a", values, tile_size, axis)
    as_image = agilentMosaic(str(path), MAT=True)
    np.testing.assert_array_equal(as_image.data, values)
    np.testing.assert_array_equal(as_image.wavenumbers, axis.wavenumber)
    np.testing.assert_array_equal(agilentMosaic(str(path)).data, values[::-1])
    lazy = agilentMosaicTiles(str(path))
    assert lazy.tiles.shape == tiles[::-1]
    np.testing.assert_array_equal(lazy.tiles[0, 0]()[::-1], values[:tile_size, :tile_size])
    info = as_image.info
    assert info["FPA Pixel Size"] * info["PixelAggregationSize"] == 5.5
    assert info["Time Stamp"] == "Tuesday, January 02, 2018 14:09:36"
    assert (info["Resolution"], info["Symmetry"]) == (4, "ASYM")
    assert info["Effective Laser Wavenumber"] == 15798.0039
    assert info["Rapid Stingray"]["MosaicScan"] == "Yes"


def test_a_tile_lies_bottom_row_first_behind_its_header(tmp_path: Path) -> None:
    values = cube((8, 4), 9)
    path = write_mosaic(tmp_path / "a", values, 4, AXIS)
    top = np.fromfile(path.with_name("a_0000_0000.dmd"), "<f4", offset=1020).reshape(9, 4, 4)
    bottom = np.fromfile(path.with_name("a_0000_0001.dmd"), "<f4", offset=1020).reshape(9, 4, 4)
    np.testing.assert_array_equal(top.transpose(1, 2, 0)[::-1], values[:4])
    np.testing.assert_array_equal(bottom.transpose(1, 2, 0)[::-1], values[4:])


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_tiles_in_any_order_make_the_same_mosaic_and_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ny, nx = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    order = data.draw(st.permutations(list(product(range(ny), range(nx)))))
    values = cube((4 * ny, 4 * nx), 3, seed=ny * 10 + nx)
    folder = tmp_path_factory.mktemp("any") / "a"
    with AgilentMosaicWriter(
        folder, tiles=(ny, nx), tile_size=4, axis=WavenumberGrid(500, 3), pixel_size=1, whole=True
    ) as writer:
        for row, column in order:
            writer.write_tile(row, column, values[4 * row : 4 * row + 4, 4 * column : 4 * column + 4])
    np.testing.assert_array_equal(agilentMosaic(str(writer.path), MAT=True).data, values)
    whole = np.fromfile(folder / "a.dms", "<f4", offset=1020).reshape(3, 4 * ny, 4 * nx)
    np.testing.assert_array_equal(whole.transpose(1, 2, 0)[::-1], values)


def test_the_grid_and_the_extent_are_in_every_place(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path / "a", cube((12, 8), 9), 4, AXIS, whole=True)
    config = configparser.ConfigParser()
    config.read(path.with_name("IrMosaicInfo.cfg"))
    grid, microns = config["GridInfo"], config["MicronMeasurements"]
    assert (grid["IrCollectFilesX"], grid["IrCollectFilesY"]) == ("2", "3")
    assert (float(microns["IrCollectWidthMicrons"]), float(microns["IrCollectHeightMicrons"])) == (44, 66)
    for name, expected in (("a.dms", (8, 12)), ("a_0001_0002.dmd", (4, 4))):
        header = path.with_name(name).read_bytes()[:1020]
        assert struct.unpack_from("<i", header, 9) == (9,)
        assert struct.unpack_from("<hh", header, 24) == expected
        assert struct.unpack_from("<ff", header, 174) == (5.5 * expected[0], 5.5 * expected[1])


@pytest.mark.parametrize(("name", "whole"), [("_0000_0000.dmd", False), (".dms", True)])
def test_headers_are_those_of_a_real_mosaic(shared_data: Path, name: str, whole: bool) -> None:
    real = (shared_data / "ftir/agilent" / f"5_Mosaic_agg1024{name}").read_bytes()[:1020]
    image = AgilentImage(AXIS, 4, (2, 1), 701 / 4, "00072562-5A4BE6E3", TIME)
    ours = bytearray(image.header(whole=whole))
    # The real pixels are not quite square, 701 by 722 micrometre for a tile.
    ours[178:182] = real[178:182]
    assert bytes(ours) == real


def test_the_header_of_a_single_tile_is_that_of_a_real_one(shared_data: Path, tmp_path: Path) -> None:
    real = (shared_data / "ftir/agilent/4_noimage_agg256.dat").read_bytes()[:1020]
    path = write_agilent_tile(tmp_path / "a.bsp", cube((8, 8), 9), axis=AXIS, pixel_size=701 / 8)
    ours = bytearray(path.with_suffix(".dat").read_bytes()[:1020])
    ours[178:182] = real[178:182]
    assert bytes(ours) == real


def test_the_master_file_is_a_compound_file_like_a_real_one(shared_data: Path, tmp_path: Path) -> None:
    real = (shared_data / "ftir/agilent/5_mosaic_agg1024.dmt").read_bytes()
    values = cube((4, 4), 9)
    ours = write_mosaic(tmp_path / "a", values, 4, AXIS).read_bytes()
    for data in (real, ours):
        streams = compound_streams(data)
        (identity,) = [name for name in streams if "-" in name]
        assert streams["Version"] == struct.pack("<i", 6)
        assert streams["IndexTable"] == struct.pack("<ii", 1, 17) + identity.encode()
        # The axis is in the stream, and once more where readers look for it.
        assert streams[identity][20:64] == data[0x894:0x8C0]
        assert struct.unpack_from("<d", data, 2216)[0] == pytest.approx(AXIS.step, abs=1e-6)
        assert struct.unpack_from("<i", data, 2228) == (129,)
        assert struct.unpack_from("<i", data, 2236) == (9,)
    spectrum = np.frombuffer(streams[identity][68 : 68 + 72], "<f8")
    np.testing.assert_array_equal(spectrum, values[-1, 0])


def test_a_long_axis_takes_more_than_one_table_of_sectors(tmp_path: Path) -> None:
    values = cube((2, 2), 20_000)
    path = write_mosaic(tmp_path / "a", values, 2, WavenumberGrid(1, 20_000, step=0.2))
    streams = compound_streams(path.read_bytes())
    assert max(map(len, streams.values())) > 160_000
    np.testing.assert_array_equal(agilentMosaic(str(path), MAT=True).data, values)


def test_a_single_tile_is_read_by_agilent_format(tmp_path: Path) -> None:
    values = cube((16, 16), 40)
    axis = WavenumberGrid(467, 40)
    path = write_agilent_tile(tmp_path / "one.bsp", values, axis=axis, pixel_size=5.5, time=TIME)
    image = agilentImage(str(path), MAT=True)
    np.testing.assert_array_equal(image.data, values)
    np.testing.assert_array_equal(image.wavenumbers, axis.wavenumber)
    assert image.info["FPA Pixel Size"] * image.info["PixelAggregationSize"] == 5.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.bsp", "one.dat"]
    with pytest.raises(UsageError, match=r"one\.bsp and one\.dat already"):
        write_agilent_tile(path, values, axis=axis, pixel_size=5.5)
    write_agilent_tile(path, values[::-1], axis=axis, pixel_size=5.5, overwrite=True)
    np.testing.assert_array_equal(agilentImage(str(path)).data, values)


def test_the_range_of_the_paper_holds_467_channels() -> None:
    axis = WavenumberGrid.within(900, 1800)
    assert axis.n_channels == 467
    assert 900 <= axis.wavenumber[0] < 902
    assert 1798 < axis.wavenumber[-1] <= 1800
    np.testing.assert_allclose(np.diff(axis.wavenumber), 15798.0039 / 8192, rtol=1e-12)
    for low, high in ((1800, 900), (900, float("nan")), (-1, 5)):
        with pytest.raises(UsageError, match="the lower one first"):
            WavenumberGrid.within(low, high)
    with pytest.raises(UsageError, match="no channel"):
        WavenumberGrid.within(900.7, 901.0)


def test_not_a_number_survives_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    values = cube((4, 4), 9)
    values[1, 2] = np.nan
    path = write_mosaic(tmp_path / "a", values, 4, AXIS)
    np.testing.assert_array_equal(agilentMosaic(str(path), MAT=True).data, values)
    path = write_mosaic(tmp_path / "b", np.arange(144).reshape(4, 4, 9), 4, AXIS)
    assert agilentMosaic(str(path), MAT=True).data[3, 3, 8] == 143


def test_the_folder_appears_only_at_the_end(tmp_path: Path) -> None:
    with AgilentMosaicWriter(tmp_path / "a", tiles=(1, 1), tile_size=4, axis=AXIS, pixel_size=1) as writer:
        writer.write_tile(0, 0, cube((4, 4), 9))
        assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "IrMosaicInfo.cfg",
        "a.dmt",
        "a_0000_0000.dmd",
    ]


def test_after_an_exception_or_with_a_tile_missing_nothing_remains(tmp_path: Path) -> None:
    def incomplete(error: BaseException | None) -> None:
        with AgilentMosaicWriter(
            tmp_path / "a", tiles=(2, 2), tile_size=4, axis=AXIS, pixel_size=1
        ) as writer:
            for row, column in ((0, 0), (1, 0), (1, 1)):
                writer.write_tile(row, column, cube((4, 4), 9))
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        incomplete(KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"3 of its 4 tiles.*\(0, 1\)"):
        incomplete(None)
    assert list(tmp_path.iterdir()) == []


def test_a_mosaic_is_kept_unless_overwriting_is_allowed_and_other_files_always(tmp_path: Path) -> None:
    first, second = cube((8, 4), 9), cube((4, 4), 9, seed=1)
    path = write_mosaic(tmp_path / "a", first, 4, AXIS)
    with pytest.raises(UsageError, match="already"):
        write_mosaic(tmp_path / "a", second, 4, AXIS)
    np.testing.assert_array_equal(agilentMosaic(str(path), MAT=True).data, first)
    write_mosaic(tmp_path / "a", second, 4, AXIS, overwrite=True)
    np.testing.assert_array_equal(agilentMosaic(str(path), MAT=True).data, second)
    (tmp_path / "a" / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_mosaic(tmp_path / "a", first, 4, AXIS, overwrite=True)
    assert (tmp_path / "a" / "notes.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    write_mosaic(tmp_path / "empty", first, 4, AXIS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiles": (0, 1)}, "both 1 to"),
        ({"tiles": (1, 10_001)}, "both 1 to"),
        ({"tile_size": 3}, "a tile of 3 pixels"),
        ({"tile_size": 256}, "a tile of 256 pixels"),
        ({"pixel_size": 0}, "micrometres"),
        ({"axis": WavenumberGrid(1, 0)}, "at least one channel"),
        ({"tiles": (1, 9000), "whole": True}, r"less than 32,768"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AgilentMosaicWriter(
            tmp_path / "a", **{"tiles": (1, 1), "tile_size": 4, "axis": AXIS, "pixel_size": 1, **options}
        )


def test_tiles_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    options = {"tiles": (1, 2), "tile_size": 4, "axis": AXIS, "pixel_size": 1}
    tile = cube((4, 4), 9)
    writer = AgilentMosaicWriter(tmp_path / "a", **options)
    with pytest.raises(UsageError, match="not open"):
        writer.write_tile(0, 0, tile)
    with writer:
        writer.write_tile(0, 0, tile)
        with pytest.raises(UsageError, match="written already"):
            writer.write_tile(0, 0, tile)
        with pytest.raises(UsageError, match="outside the grid of 1 x 2"):
            writer.write_tile(1, 0, tile)
        for wrong in (tile[:, :, :8], tile[:2], tile.astype(complex), "text"):
            with pytest.raises(UsageError, match=r"shape \(4, 4, 9\)"):
                writer.write_tile(0, 1, wrong)
        writer.write_tile(0, 1, tile)
    with (
        pytest.raises(UsageError, match="no folder"),
        AgilentMosaicWriter(tmp_path / "absent" / "a", **options),
    ):
        pass
    with pytest.raises(UsageError, match=r"must end in \.bsp"):
        write_agilent_tile(tmp_path / "a.dat", tile, axis=AXIS, pixel_size=1)
    with pytest.raises(UsageError, match="a tile of 0 pixels"):
        write_agilent_tile(tmp_path / "a.bsp", 1.0, axis=AXIS, pixel_size=1)


def test_memory_is_that_of_one_tile(tmp_path: Path) -> None:
    tile, axis = cube((16, 16), 400), WavenumberGrid(467, 400)

    def peak(rows: int) -> int:
        tracemalloc.start()
        with AgilentMosaicWriter(
            tmp_path / f"{rows}", tiles=(rows, 2), tile_size=16, axis=axis, pixel_size=1, whole=True
        ) as writer:
            for row, column in product(range(rows), range(2)):
                writer.write_tile(row, column, tile)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few = peak(1)
    assert peak(8) < few + 2**16
    # One turned copy of the tile, and little else.
    assert few < 1.5 * tile.nbytes + 2**17
