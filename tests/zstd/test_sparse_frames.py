"""Frames that are put together, read by the decoder that everybody uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from msicube.zstd import SparseFrames
from msicube.zstd.frames import MAX_BLOCKS
from msicube.zstd.fse import FSETable
from msicube.zstd.sequences import LITERAL_CODES, MATCH_CODES, MATCH_TABLE

VALUES = np.array([1.5, -2.0, -0.0, np.nan, np.inf, 1e-45, 3e38])


def chunk_of(length: int, places: NDArray[np.intp], rng: np.random.Generator, dtype: str) -> NDArray[Any]:
    chunk = np.zeros(length, dtype)
    chunk[places] = rng.choice(VALUES, len(places)).astype(dtype)
    return chunk


def check(chunks: dict[int, NDArray[Any]]) -> list[bytes]:
    """Encode chunks by their numbers, decode them, and compare every bit."""
    first = next(iter(chunks.values()))
    frames = SparseFrames.of(len(first), first.itemsize)
    assert frames is not None
    bits = {number: chunk.view(f"u{chunk.itemsize}") for number, chunk in chunks.items()}
    address = np.concatenate([np.flatnonzero(words) + number * len(words) for number, words in bits.items()])
    values = np.concatenate([chunk[bits[number] != 0] for number, chunk in chunks.items()])
    made = list(frames.encode(np.array(list(chunks)), address, values))
    for frame, chunk in zip(made, chunks.values(), strict=True):
        assert Zstd().decode(frame) == chunk.tobytes()
    return made


@settings(max_examples=300)
@given(
    length=st.sampled_from([1024, 3000, 4096, 2**15, 3 * 2**15, 2**17]),
    density=st.sampled_from([0.0, 0.0005, 0.01, 0.05, 0.3, 0.5]),
    clustered=st.booleans(),
    numbers=st.sets(st.integers(0, 40), min_size=1, max_size=5),
    dtype=st.sampled_from(["f4", "f8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_encoded_is_decoded(
    length: int, density: float, clustered: bool, numbers: set[int], dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    chunks = {}
    for number in sorted(numbers):
        taken = rng.random(length) < (density / 9 if clustered else density)
        if clustered:  # neighbours, as of a peak that several channels share
            taken = np.repeat(taken, 1 + rng.integers(0, 9, length))[:length]
        taken[rng.integers(length)] = True
        chunks[number] = chunk_of(length, np.flatnonzero(taken), rng, dtype)
    check(chunks)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("run", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 100, 1000, 5000, 16000])
def test_runs_of_neighbours_of_any_length(run: int, dtype: str) -> None:
    """Literals of every code; at the start of a block, in its midst, up to its end, and over a border."""
    rng = np.random.default_rng(run)
    length = 2**17
    block = 2**17 // np.dtype(dtype).itemsize
    for first in (0, 5, block - run, block - 1, length - run):
        check({0: chunk_of(length, np.arange(first, first + run), rng, dtype)})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gaps_of_any_length(dtype: str) -> None:
    """Every code of a match, on both sides of its baseline."""
    rng = np.random.default_rng(0)
    itemsize = np.dtype(dtype).itemsize
    words = [int(length) // itemsize + step for length in MATCH_CODES.baseline for step in (-1, 0, 1, 2)]
    for gap in sorted({word for word in words if 0 < word < 2**17 // itemsize - 2}):
        places = np.arange(0, 2**15, gap + 1)
        check({0: chunk_of(2**15, places, rng, dtype), 3: chunk_of(2**15, places[-1:], rng, dtype)})


def test_a_chunk_that_is_one_value() -> None:
    rng = np.random.default_rng(0)
    for place in (0, 1, 2**14, 2**15 - 1):
        (frame,) = check({7: chunk_of(2**15, np.array([place]), rng, "f4")})
        assert len(frame) < 100


def test_frames_are_about_as_short_as_those_of_a_compressor() -> None:
    rng = np.random.default_rng(1)
    chunk = np.zeros(2**17, "f4")
    places = rng.choice(2**17, 1500, replace=False)
    chunk[places] = rng.random(1500, "f4")
    (frame,) = check({0: chunk})
    assert len(frame) < 1.05 * len(Zstd(level=1).encode(chunk))


def test_what_cannot_be_cut_into_blocks_has_no_frames() -> None:
    assert SparseFrames.of(100, 2) is None
    assert SparseFrames.of(2**15 * (MAX_BLOCKS + 1), 4) is None
    assert SparseFrames.of(2**15 + 1, 4) is not None  # 3 blocks
    assert SparseFrames.of(32771, 4) is None  # a prime number
    assert SparseFrames.of(64, 4) is None  # shorter than its tables
    assert SparseFrames.of(1024, 4) is not None


def test_a_block_that_is_nearly_full_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="not sparse"):
        check({0: chunk_of(2**15, np.arange(2**15 - 1), rng, "f4")})
    for length in (1024, 2**15):
        scattered = np.sort(rng.choice(length, length // 5 * 4, replace=False))
        even = np.flatnonzero(np.arange(length) % 5)
        for places in (scattered, even, np.arange(length // 5 * 4)):
            check({0: chunk_of(length, places, rng, "f4")})


@pytest.mark.parametrize(
    ("shares", "log"),
    [(MATCH_TABLE.probabilities.tolist(), 5), ([1] * 35 + [221], 8), ([0, 3, 0, 0, 0, 0, 28, 1], 5)],
)
def test_each_state_follows_one_state_of_each_symbol(shares: list[int], log: int) -> None:
    table = FSETable.of(shares, log)
    assert np.bincount(table.symbol, minlength=len(shares)).tolist() == shares
    for symbol in np.flatnonzero(shares).tolist():
        before, step, bits = table.leading_to(symbol)
        assert (table.symbol[before] == symbol).all()
        assert (table.base[before] + step == np.arange(1 << log)).all()
        assert (table.bits[before] == bits).all()
        assert (step < 1 << bits).all()


def test_lengths_are_split_as_the_standard_has_it() -> None:
    """Examples from the tables of RFC 8878, 3.1.1.3.2.1.1."""
    for codes, examples in (
        (LITERAL_CODES, {0: (0, 0, 0), 15: (15, 0, 0), 17: (16, 1, 1), 47: (23, 7, 3), 65536: (35, 0, 16)}),
        (MATCH_CODES, {3: (0, 0, 0), 34: (31, 0, 0), 36: (32, 1, 1), 131: (43, 0, 7), 65539: (52, 0, 16)}),
    ):
        for length, expected in examples.items():
            assert tuple(int(part[0]) for part in codes.split(np.array([length]))) == expected
