"""Our shards are Zarr's shards: what we write zarr-python reads, and the other way round."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from msicube.codecs import CODECS, ChunkCodec
from msicube.errors import CorruptStore, UsageError
from msicube.readers import BinningTally, SparseTile
from msicube.shards import EMPTY, ShardLayout
from msicube.sparse_blocks import SPARSE
from msicube.store import CubeArray, CubeWriter, Location, array_metadata
from msicube.store.cube import shard_location
from msicube.tiling import Window, plan_tiles
from msicube.zstd.frames import MAX_BLOCKS

DIMS = ("y", "x", "channel")


def cube_of(shape: tuple[int, int, int], dtype: str = "f4") -> np.ndarray:
    rng = np.random.default_rng(1)
    cube = rng.poisson(0.7, shape).astype(dtype)
    cube[: shape[0] // 2, : shape[1] // 2] = 0
    return cube


def store_cube(
    folder: Path,
    cube: np.ndarray,
    codec: str,
    shard_bytes: int = 2**18,
    fill: float = 0,
    *,
    sparse: bool = False,
) -> CubeArray:
    plan = plan_tiles(cube.shape, cube.itemsize, shard_bytes=shard_bytes)
    layout = ShardLayout(plan.shard_shape, plan.chunk_shape, ChunkCodec.named(codec, cube.dtype), fill)
    location = Location.of(folder)
    writer = CubeWriter(location, layout)
    for window in plan.tiles():
        block = cube[window.slices]
        if sparse:
            y, x, channel = np.nonzero(block)
            pixel = (y * block.shape[1] + x).astype(np.int32)
            tile = SparseTile(
                block.shape, pixel, channel.astype(np.int32), block[y, x, channel], BinningTally()
            )
            writer.write_sparse(window, tile)
        else:
            writer.write(window, block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python says that pcodec is outside the specification
        metadata = array_metadata(
            cube.shape,
            cube.dtype,
            chunks=plan.chunk_shape,
            shards=plan.shard_shape,
            dims=DIMS,
            attrs={},
            fill_value=fill,
            codec=layout.codec.zarr_arguments(),
        )
    (location / "zarr.json").put(metadata)
    return CubeArray.open(location, slide="s", variable="v")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u2"])
def test_zarr_reads_what_we_write(tmp_path: Path, codec: str, dtype: str) -> None:
    cube = cube_of((50, 41, 150), dtype)
    ours = store_cube(tmp_path / "a", cube, codec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], cube)
    np.testing.assert_array_equal(ours.read(Window(0, 50, 0, 41)), cube)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_zarr_reads_what_we_write_without_the_zeros(tmp_path: Path, codec: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    cube = np.where(rng.random((40, 41, 1500)) < 0.02, rng.random((40, 41, 1500)), 0).astype(dtype)
    ours = store_cube(tmp_path / "a", cube, codec, 2**24, sparse=True)
    store_cube(tmp_path / "b", cube, codec, 2**24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], cube)
    np.testing.assert_array_equal(ours.read(Window(0, 40, 0, 41)), cube)
    sparse, dense = ((tmp_path / name / "c" / "0" / "0" / "0").read_bytes() for name in "ab")
    # Only zstd has frames that can be put together; what they are shows in that they are others.
    assert (sparse == dense) == (codec != "zstd")
    assert len(sparse) < 1.1 * len(dense)


@pytest.mark.parametrize("codec", ["zstd", "blosc-zstd", "lz4", "none"])
def test_we_read_what_zarr_writes(tmp_path: Path, codec: str) -> None:
    cube = cube_of((50, 41, 150))
    arguments = ChunkCodec.named(codec, cube.dtype).zarr_arguments()
    array = zarr.create_array(
        tmp_path / "a",
        shape=cube.shape,
        dtype=cube.dtype,
        chunks=(8, 8, 64),
        shards=(32, 16, 192),
        **arguments,
    )
    array[...] = cube
    ours = CubeArray.open(Location.of(tmp_path / "a"), slide="s", variable="v")
    np.testing.assert_array_equal(ours.read(Window(0, 50, 0, 41)), cube)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_part_reads_as_numpy_indexes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 300)))
    cube = cube_of(shape)
    ours = store_cube(tmp_path_factory.mktemp("cube"), cube, "zstd", shard_bytes=2**16)
    y0, x0 = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    window = Window(
        y0, data.draw(st.integers(y0 + 1, shape[0])), x0, data.draw(st.integers(x0 + 1, shape[1]))
    )
    np.testing.assert_array_equal(ours.read(window), cube[window.slices])
    start = data.draw(st.integers(0, shape[2]))
    channels = slice(start, data.draw(st.integers(start, shape[2])))
    np.testing.assert_array_equal(ours.read(window, channels=channels), cube[window.slices][..., channels])
    listed = np.array(data.draw(st.lists(st.integers(0, shape[2] - 1), max_size=12)), np.intp)
    np.testing.assert_array_equal(ours.read(window, channels=listed), cube[window.slices][..., listed])
    np.testing.assert_array_equal(ours[y0, ::3, ::2], cube[y0, ::3, ::2])


def test_every_bit_is_kept(tmp_path: Path) -> None:
    cube = np.zeros((4, 4, 8), "f4")
    cube[0, 0, 0] = -0.0
    cube[1, 1] = [np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3e38, 1.0, -0.0]
    assert store_cube(tmp_path, cube, "zstd").read(Window(0, 4, 0, 4)).tobytes() == cube.tobytes()


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 300)),
    st.floats(0, 0.5),
    st.sampled_from(["f4", "f8"]),
    st.integers(0, 2**32 - 1),
)
def test_a_sparse_block_reads_as_the_dense_one(
    shape: tuple[int, int, int], density: float, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layout = ShardLayout((12, 8, 384), (4, 4, 128), ChunkCodec.named("zstd", np.dtype(dtype)))
    place = rng.permutation(np.flatnonzero(rng.random(int(np.prod(shape))) < density))
    values = rng.choice([1.5, -2.0, 0.0, -0.0, np.nan, np.inf], len(place)).astype(dtype)
    block = np.zeros(shape, dtype)
    block.reshape(-1)[place] = values
    pixel, channel = (part.astype(np.int32) for part in np.divmod(place, shape[2]))
    sparse, dense = layout.encode_sparse(shape, pixel, channel, values), layout.encode(block)
    assert decoded(layout, b"".join(sparse)) == decoded(layout, b"".join(dense))


class InMemory(bytes):
    """A shard that was not stored."""

    def size(self) -> int:
        return len(self)

    def read(self, start: int, length: int) -> bytes:
        return self[start : start + length]


def decoded(layout: ShardLayout, shard: bytes) -> bytes:
    out = np.full(layout.shape, 7, layout.codec.dtype)
    region = tuple(slice(0, n) for n in layout.shape)
    layout.read(InMemory(shard), layout.read_index(InMemory(shard)), region, out)
    return out.tobytes()


@pytest.mark.parametrize(("equal", "fill"), [(False, 0.0), (True, 0.0), (False, np.nan)])
def test_chunks_without_zeros_are_left_to_the_codec_where_it_finds_more(equal: bool, fill: float) -> None:
    """Counts are often equal, which a compressor finds, and only zeros can be left out of a frame."""
    rng = np.random.default_rng(0)
    shape = (16, 16, 2048)
    place = np.sort(rng.choice(int(np.prod(shape)), 5000, replace=False))
    values = np.ones(5000, "f4") if equal else rng.random(5000, "f4")
    block = np.full(shape, fill, "f4")
    block.reshape(-1)[place] = values
    layout = ShardLayout(shape, (8, 8, 1024), ChunkCodec.named("zstd", np.dtype("f4")), fill)
    pixel, channel = (part.astype(np.int32) for part in np.divmod(place, shape[2]))
    sparse = b"".join(layout.encode_sparse(shape, pixel, channel, values))
    dense = b"".join(layout.encode(block))
    assert decoded(layout, sparse) == decoded(layout, dense) == block.tobytes()
    assert (sparse == dense) == (equal or fill != 0)
    assert len(sparse) < 1.1 * len(dense)


def test_the_values_of_a_sparse_chunk_may_stand_in_one_block_of_its_frame() -> None:
    """As full as a block can be: a chunk of the most blocks, with as many values as still count as few."""
    shape = (16, 16, 1024)
    layout = ShardLayout(shape, shape, ChunkCodec.named("zstd", np.dtype("f4")))
    size = int(np.prod(shape))
    frames = layout.codec.sparse_frames(size)
    assert frames is not None
    assert frames.blocks == MAX_BLOCKS
    few = (size - 1) // SPARSE
    for place in (np.arange(few), np.flatnonzero(np.arange(size) % 5)[:few]):
        values = np.random.default_rng(0).random(few, "f4")
        block = np.zeros(shape, "f4")
        block.reshape(-1)[place] = values
        pixel, channel = (part.astype(np.int32) for part in np.divmod(place, shape[2]))
        shard = b"".join(layout.encode_sparse(shape, pixel, channel, values))
        assert decoded(layout, shard) == block.tobytes()
        assert len(list(frames.encode(np.arange(1), place, values))) == 1


def test_values_of_a_sparse_block_come_in_any_order() -> None:
    rng = np.random.default_rng(0)
    shape, layout = (
        (8, 8, 600),
        ShardLayout((8, 8, 640), (4, 4, 128), ChunkCodec.named("zstd", np.dtype("f8"))),
    )
    place = rng.choice(int(np.prod(shape)), 900, replace=False)  # not sorted
    values = rng.random(900)
    block = np.zeros(shape)
    block.reshape(-1)[place] = values
    pixel, channel = (part.astype(np.int32) for part in np.divmod(place, shape[2]))
    sparse, dense = layout.encode_sparse(shape, pixel, channel, values), layout.encode(block)
    assert decoded(layout, b"".join(sparse)) == decoded(layout, b"".join(dense))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).normal(size=(40, 40, 150)).astype("f4")
    store_cube(tmp_path, cube, "zstd")
    shard = tmp_path / "c" / "0" / "0" / "0"
    data = shard.read_bytes()

    def read() -> np.ndarray:
        return CubeArray.open(Location.of(tmp_path), slide="s7", variable="v").read(Window(0, 8, 0, 8))

    read()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptStore, match=r"slide s7, v at Window\(y0=0.*CRC-32C"):
        read()
    shard.write_bytes(data[:10])
    with pytest.raises(CorruptStore, match="shorter than its index"):
        read()
    shard.write_bytes(b"\0" * 64 + data[64:])
    with pytest.raises(CorruptStore, match="does not decode"):
        read()
    shard.unlink()
    with pytest.raises(CorruptStore, match="missing"):
        read()


def test_a_window_outside_is_refused(tmp_path: Path) -> None:
    ours = store_cube(tmp_path, cube_of((10, 10, 5)), "none")
    with pytest.raises(UsageError, match="leaves slide s"):
        ours.read(Window(0, 11, 0, 10))


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UsageError, match="choose one of zstd"):
        ChunkCodec.named("rar", np.dtype("f4"))


@pytest.mark.parametrize("codec", ["zstd", "none"])
@pytest.mark.parametrize("shape", [(50, 41, 150), (64, 64, 128)])
def test_chunks_of_nan_are_left_out_and_read_back(
    tmp_path: Path, codec: str, shape: tuple[int, int, int]
) -> None:
    """Also beyond the edges of the cube, and not where one value is another NaN or a number."""
    cube = cube_of(shape)
    cube[cube == 0] = np.nan
    cube[:32, :32] = np.nan
    cube[40, 40, 3] = np.float32(0)
    cube.view("u4")[33, 5, 3] += 1  # another NaN
    ours = store_cube(tmp_path / "a", cube, codec, fill=np.nan)
    assert np.isnan(ours.layout.fill)
    assert ours.read(Window(0, shape[0], 0, shape[1])).tobytes() == cube.tobytes()
    theirs = zarr.open_array(tmp_path / "a", mode="r")
    assert theirs[...].tobytes() == cube.tobytes()
    assert np.isnan(theirs.fill_value)
    stored = 0
    for window in ours.tiles():
        index = ours.layout.read_index(shard_location(ours.location, ours.layout, window).source())
        stored += int((index[..., 0] != EMPTY).sum())
    cell, step = ours.cell[0], ours.layout.chunk[2]
    chunks = [
        cube[y : y + cell, x : x + cell, c : c + step]
        for y in range(0, shape[0], cell)
        for x in range(0, shape[1], cell)
        for c in range(0, shape[2], step)
    ]
    assert stored == sum(not np.isnan(chunk).all() for chunk in chunks)
    assert stored < len(chunks)


@given(st.data())
def test_spectra_of_a_cell_go_straight_into_rows(data: st.DataObject) -> None:
    layout = ShardLayout((8, 12, 12), (4, 6, 4), ChunkCodec.named("zstd", np.dtype(np.float32)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    block = rng.random((8, 12, 9), np.float32)
    block[:4, :6, :4] = 0  # one chunk that is not stored
    source = _Bytes(b"".join(layout.encode(block)))
    row, column = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    pixels = np.array(data.draw(st.lists(st.integers(0, 23), max_size=24)), np.intp)
    out = np.full((40, 9), -1, np.float32)
    rows = rng.permutation(40)[: len(pixels)]
    if data.draw(st.booleans()):
        rows = np.arange(3, 3 + len(pixels))
    layout.read_cell(source, layout.read_index(source), (row, column), pixels, out, rows)
    cell = block[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6].reshape(24, 9)
    expected = np.full((40, 9), -1, np.float32)
    expected[rows] = cell[pixels]
    assert np.array_equal(out, expected)


class _Bytes:
    """A shard in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def test_the_parts_of_a_shard_are_given_once() -> None:
    layout = ShardLayout((2, 2, 2), (2, 2, 2), ChunkCodec.named("zstd", np.dtype(np.float32)))
    encoded = layout.encode(np.ones((2, 2, 2), np.float32))
    assert len(b"".join(encoded)) == encoded.stored.size
    with pytest.raises(RuntimeError, match="once"):
        list(encoded)
