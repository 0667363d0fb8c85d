"""The parts that make an index out of rows: offsets that ran over, arrays that overlap, bytes that do not unpack."""

from __future__ import annotations

import lzma
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lz4 import frame as lz4_frame
from numcodecs import lz4, zstd
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.imzml.compression import unpack
from msicube.readers.imzml.params import Integer, integer
from msicube.readers.imzml.resolve import WRAP, _clashing, _unwrap_in_order


@pytest.mark.parametrize("shared", [False, True])
def test_offsets_beyond_four_gigabytes_are_unwrapped_in_the_order_of_the_file(shared: bool) -> None:
    """Ten GiB in steps of 70 MB, kept in signed 32 bits."""
    offsets = np.stack([np.arange(150) * 70_000_000 + 16, np.arange(150) * 70_000_000 + 35_000_016], axis=1)
    if shared:
        offsets[:, 0] = 16
    wrapped = (offsets + WRAP // 2) % WRAP - WRAP // 2
    assert (wrapped < 0).any()
    assert (wrapped[offsets >= WRAP] >= 0).any()
    np.testing.assert_array_equal(_unwrap_in_order(wrapped), offsets)


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=12)


@given(ranges=RANGES)
def test_clashes_are_those_of_every_pair(ranges: list[tuple[int, int]]) -> None:
    starts: NDArray[np.int64] = np.array([start for start, _ in ranges], np.int64)
    ends = starts + np.array([length for _, length in ranges], np.int64)
    sets = [set(range(start, start + length)) for start, length in ranges]
    expected = [any(a & b for j, b in enumerate(sets) if i != j) for i, a in enumerate(sets)]
    assert _clashing(starts, ends).tolist() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16", Integer(16, False)),
        ("007", Integer(7, False)),
        ("1.0", Integer(1, False)),
        ("1.25e+02", Integer(125, False)),
        ("1.156e+09", Integer(1_156_000_000, True)),
    ],
)
def test_numbers_as_they_are_written(text: str, expected: Integer) -> None:
    assert integer(text, "it") == expected


@pytest.mark.parametrize(
    "text", [None, "", "x", "1.5", "1_000", "٣", "nan", "inf", "-1", "1e30", "9" * 19, "0x10"]
)
def test_what_is_no_number_is_an_error(text: str | None) -> None:
    with pytest.raises(CorruptSource, match="it is"):
        integer(text, "it")


PACKERS = {
    "zlib": zlib.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstd.compress(data, 3),
    "lz4": lambda data: lz4.compress(data)[4:],
    "lz4 frame": lz4_frame.compress,
}


@pytest.mark.parametrize("how", PACKERS)
def test_unpacking_gives_the_declared_bytes_or_an_error(how: str) -> None:
    plain = np.random.default_rng(0).integers(0, 4, 4000).astype(np.uint8).tobytes()
    packed = PACKERS[how](plain)
    how = how.removesuffix(" frame")
    assert unpack(packed, how, len(plain)) == plain
    for size in (len(plain) - 1, len(plain) + 1, 1, 10**17):
        with pytest.raises(ValueError, match=r"."):
            unpack(packed, how, size)
    for cut in (0, 1, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ValueError, match=r"."):
            unpack(packed[:cut], how, len(plain))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(200 * 2**20))
    with pytest.raises(ValueError, match="more than is declared"):
        unpack(bomb, "zlib", 1000)
