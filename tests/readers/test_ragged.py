"""Ragged spectra in runs: the same numbers as one spectrum at a time, whatever the layout of the file."""

from __future__ import annotations

import pickle
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.axis import AxisLaw, SpectralBins
from msicube.errors import CorruptSource
from msicube.readers.base import BinningTally
from msicube.readers.imzml.index import ArrayColumns
from msicube.readers.imzml.peaks import IbdPeaks
from msicube.readers.imzml.rows import KINDS
from msicube.readers.ragged import Peaks, bin_peaks, runs, survey

BINS = AxisLaw.parse("da:1").bins(100.0, 120.0)
DOUBLE = np.dtype("<f8")
GAPPED = SpectralBins(np.array([101.0, 110.0]), np.array([100.5, 109.0]), np.array([101.5, 111.0]))


def bin_spectrum(
    mz: NDArray[Any], intensity: NDArray[Any], bins: SpectralBins
) -> tuple[NDArray[np.float64], BinningTally]:
    """Sum one spectrum, the plain way."""
    spectrum = np.zeros(len(bins))
    outside = 0
    for value, weight in zip(mz, intensity, strict=True):
        found = np.flatnonzero((bins.lower <= value) & (value < bins.upper))
        outside += len(found) == 0
        spectrum[found] += float(weight)
    finite = intensity[np.isfinite(intensity)]
    return spectrum, BinningTally(len(mz), outside, float(finite.sum(dtype=np.float64)))


def columns_of(
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    encoded: NDArray[np.int64],
    dtype: np.dtype[Any],
    packed: str,
) -> ArrayColumns:
    """Return columns of arrays that are all of one kind."""
    kind = next(i for i, (name, how) in enumerate(KINDS) if np.dtype(name) == dtype and how == packed)
    return ArrayColumns.of(offset, length, encoded, np.full(len(offset), kind))


mz_values = st.one_of(st.floats(95.0, 125.0, width=32), st.sampled_from([np.nan, np.inf, -1.0, 1e35]))
weights = st.one_of(st.floats(-1e3, 1e6, width=32), st.sampled_from([np.nan, np.inf, -0.0]))
spectra = st.lists(st.lists(st.tuples(mz_values, weights), max_size=12), min_size=1, max_size=6)


@given(spectra, st.sampled_from([np.float32, np.float64]), st.sampled_from([BINS, GAPPED]))
def test_many_spectra_at_once_are_each_spectrum_alone(
    found: list[list[tuple[float, float]]], dtype: type, bins: SpectralBins
) -> None:
    arrays = [np.array(spectrum, dtype).reshape(-1, 2) for spectrum in found]
    rows = np.random.default_rng(len(found)).permutation(len(found) + 2)[: len(found)].astype(np.int32)
    out = np.zeros((len(found) + 2, len(bins)), dtype)
    whole = np.concatenate(arrays)
    pixels = np.repeat(rows, [len(a) for a in arrays])
    (pixel, channel, sums), tally = bin_peaks(Peaks(whole[:, 0], whole[:, 1]), pixels, bins, np.dtype(dtype))
    assert len(set(zip(pixel.tolist(), channel.tolist(), strict=True))) == len(sums)
    out[pixel, channel] = sums
    expected, counted = np.zeros_like(out), BinningTally()
    for row, array in zip(rows, arrays, strict=True):
        with np.errstate(invalid="ignore"):
            spectrum, one = bin_spectrum(array[:, 0], array[:, 1], bins)
            expected[row] = spectrum
        counted += one
    np.testing.assert_array_equal(out, expected)
    assert (tally.peaks, tally.out_of_range) == (counted.peaks, counted.out_of_range)
    assert tally.tic_source == pytest.approx(counted.tic_source, rel=1e-6, abs=1e-3)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 60))
def test_runs_cover_every_spectrum_once_within_the_limit(lengths: list[int], limit: int) -> None:
    sizes = np.array(lengths)
    cut = list(runs(sizes, limit))
    assert [cut[0][0], cut[-1][1]] == [0, len(sizes)]
    assert all(a[1] == b[0] for a, b in pairwise(cut))
    assert all(sizes[a:b].sum() <= limit or b == a + 1 for a, b in cut)


def ibd_of(path: Path, order: list[tuple[int, int]], arrays: list[list[bytes]], gap: int) -> list[list[int]]:
    """Write arrays (kind, spectrum) in an order with gaps of junk; return their offsets by kind and spectrum."""
    offsets = [[0] * len(kind) for kind in arrays]
    with path.open("wb") as file:
        for kind, number in order:
            file.write(b"\xff" * gap)
            offsets[kind][number] = file.tell()
            file.write(arrays[kind][number])
    return offsets


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.sampled_from(["interleaved", "blocks", "shuffled"]),
    st.sampled_from(["none", "zlib"]),
    st.sampled_from([0, 3, 5000]),
    st.integers(0, 2**32 - 1),
)
def test_every_layout_of_the_file_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], layout: str, packed: str, gap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    types = (np.dtype("<f8"), np.dtype("<f4"))
    plain = [[rng.random(n).astype(t) for n in sizes] for t in types]
    stored = [[zlib.compress(a.tobytes()) if packed == "zlib" else a.tobytes() for a in k] for k in plain]
    order = [(k, i) for i in range(len(sizes)) for k in (0, 1)]
    if layout == "blocks":
        order.sort()
    elif layout == "shuffled":
        order = [order[i] for i in rng.permutation(len(order))]
    path = tmp_path_factory.mktemp("ibd") / "x.ibd"
    offsets = ibd_of(path, order, stored, gap)
    columns = [
        columns_of(np.array(at), np.array(sizes), np.array([len(b) for b in data]), dtype, packed)
        for at, data, dtype in zip(offsets, stored, types, strict=True)
    ]
    source = IbdPeaks(path, *columns, *types)
    start = len(sizes) // 3
    mz, intensity = pickle.loads(pickle.dumps(source)).read(start, len(sizes))
    np.testing.assert_array_equal(mz, np.concatenate(plain[0][start:]))
    np.testing.assert_array_equal(intensity, np.concatenate(plain[1][start:]))
    assert (mz.dtype, intensity.dtype) == (source.mz_dtype, source.intensity_dtype)
    rows = rng.permutation(len(sizes))
    taken = source.take(rows)
    np.testing.assert_array_equal(
        taken.read_mz(0, len(sizes)), np.concatenate([plain[0][row] for row in rows])
    )
    np.testing.assert_array_equal(taken.lengths, np.array(sizes)[rows])


def test_arrays_of_changing_types_come_in_the_type_that_holds_them_all(tmp_path: Path) -> None:
    path = tmp_path / "x.ibd"
    path.write_bytes(np.array([1.5, 2.5], "<f4").tobytes() + np.array([1 / 3], "<f8").tobytes())
    codes = [next(i for i, kind in enumerate(KINDS) if kind == (name, "none")) for name in ("<f4", "<f8")]
    columns = ArrayColumns.of(np.array([0, 8]), np.array([2, 1]), np.array([0, 0]), np.array(codes))
    source = IbdPeaks(path, columns, columns, DOUBLE, DOUBLE)
    np.testing.assert_array_equal(source.read_mz(0, 2), [1.5, 2.5, 1 / 3])
    assert source.read_mz(0, 1).dtype == DOUBLE


def test_a_file_that_ends_too_early_and_a_damaged_array_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.ibd"
    path.write_bytes(bytes(40))
    columns = columns_of(np.array([0, 24]), np.array([3, 3]), np.array([24, 24]), np.dtype("<f8"), "none")
    with pytest.raises(CorruptSource, match="ends at byte 40"):
        IbdPeaks(path, columns, columns, DOUBLE, DOUBLE).read(0, 2)
    packed = columns_of(np.array([0]), np.array([3]), np.array([24]), np.dtype("<f8"), "zlib")
    with pytest.raises(CorruptSource, match="zlib"):
        IbdPeaks(path, packed, packed, DOUBLE, DOUBLE).read_mz(0, 1)


def test_the_survey_sees_the_range_and_a_shared_axis(tmp_path: Path) -> None:
    def source(rows: list[NDArray[np.float64]]) -> IbdPeaks:
        path = tmp_path / "x.ibd"
        path.write_bytes(np.concatenate(rows).tobytes())
        size = np.array([row.nbytes for row in rows])
        columns = columns_of(np.cumsum(size) - size, size // 8, size, np.dtype("<f8"), "none")
        return IbdPeaks(path, columns, columns, DOUBLE, DOUBLE)

    axis = np.array([100.0, 100.01, 250.0])
    same = survey(source([axis, axis, axis]))
    np.testing.assert_array_equal(same.common_axis, axis)
    other = survey(source([axis, axis[::-1], np.array([-5.0, np.nan, 1e35])]))
    assert other.common_axis is None
    assert (other.lowest, other.highest) == (100.0, 250.0)
    empty = survey(source([np.empty(0), np.empty(0)]))
    assert np.isnan(empty.lowest)
    assert empty.common_axis is None
