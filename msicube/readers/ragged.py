"""Spectra with an m/z array each: how a source of them is read, surveyed and summed into channels.

What a format has to give is a :class:`PeakSource`; everything here works on runs of spectra whose peaks lie one after
the other, so that the interpreter is entered once for many spectra and memory is bounded by the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from msicube.axis import SpectralBins, suggest_law
from msicube.readers.base import AxisSurvey, BinningTally, CubeReader, SparseTile, Tile

#: Peaks that are worked on at a time: some megabytes of arrays.
BLOCK_PEAKS = 2**17
#: m/z above this are damaged values: no instrument reaches them, and one alone would stretch an axis without end.
MAX_MZ = 1e6
SPACING_SPECTRA = 64
#: A tile with a peak for each so many values, or more, is not worth reading without its zeros: places take memory too.
DENSE = 4


class Peaks(NamedTuple):
    """The peaks of some spectra, one spectrum after the other.

    Attributes
    ----------
    mz, intensity
        ``(peak,)`` in the source's types and order.
    """

    mz: NDArray[Any]
    intensity: NDArray[Any]


class PeakSource(Protocol):
    """Every (m/z, intensity) pair of a ragged source; picklable, read from any thread or process."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(spectrum,)`` pairs of each spectrum; 0 for a spectrum that the cube does not hold."""

    @property
    def mz_dtype(self) -> np.dtype[Any]:
        """Of the m/z values."""

    @property
    def intensity_dtype(self) -> np.dtype[Any]:
        """Of the intensities."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return some of the spectra, in the order of ``rows``; it pickles to little more than their index."""

    def read(self, start: int, stop: int) -> Peaks:
        """Read the spectra ``start`` to ``stop``.

        Raises
        ------
        CorruptSource, CorruptStore
            They cannot be read as the index promises.
        """

    def read_mz(self, start: int, stop: int) -> NDArray[Any]:
        """Read the m/z values alone."""


@runtime_checkable
class RaggedReader(CubeReader, Protocol):
    """A reader of a format that knows spectra with an m/z array each."""

    def peaks(self) -> PeakSource | None:
        """Return every peak by the number of its spectrum in the source; None where all spectra share one axis."""


def binned_dtype(intensity: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of binned intensities.

    Sums of 32-bit floats stay 32-bit; sums of integers need the 53 bits of a double to stay exact.
    """
    return intensity if intensity == np.float32 else np.dtype(np.float64)


def runs(lengths: NDArray[np.int64], limit: int = BLOCK_PEAKS) -> Iterator[tuple[int, int]]:
    """Cut spectra into runs of at most ``limit`` peaks, one spectrum at the least."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield start, stop
        start = stop


@dataclass(frozen=True)
class RaggedTile:
    """A tile of spectra with an m/z array each: intensities are summed into channels.

    Attributes
    ----------
    peaks
        The spectra of the tile.
    pixels
        ``(spectrum,)`` their flat positions in the tile.
    shape
        ``(y, x, channel)`` of the tile.
    dtype
        Of the tile.
    bins
        The channels.
    """

    peaks: PeakSource
    pixels: NDArray[np.intp]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bins: SpectralBins

    @property
    def is_sparse(self) -> bool:
        """Whether a value in :data:`DENSE` is a peak, or fewer."""
        return int(self.peaks.lengths.sum()) * DENSE <= int(np.prod(self.shape))

    def read(self) -> Tile:
        """Read the tile; see :class:`msicube.readers.TileSource`."""
        values = np.zeros(self.shape, self.dtype)
        flat, tally = values.reshape(-1, self.shape[2]), BinningTally()
        for (pixel, channel, sums), binned in self._binned():
            flat[pixel, channel] = sums
            tally += binned
        return Tile(values, tally)

    def read_sparse(self) -> SparseTile:
        """Read the tile without its zeros; see :class:`msicube.readers.SparseTileSource`."""
        empty = np.empty(0, np.int32)
        parts = [(empty, empty, np.empty(0, self.dtype))]
        tally = BinningTally()
        for places, binned in self._binned():
            parts.append(places)
            tally += binned
        pixel, channel, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return SparseTile(self.shape, pixel, channel, values, tally)

    def _binned(self) -> Iterator[tuple[Binned, BinningTally]]:
        """Yield what is binned, of one run of spectra after another."""
        lengths = self.peaks.lengths
        for start, stop in runs(lengths):
            pixels = np.repeat(self.pixels[start:stop].astype(np.int32), lengths[start:stop])
            yield bin_peaks(self.peaks.read(start, stop), pixels, self.bins, self.dtype)


#: Pixel, channel and sum of what was binned.
Binned = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]


def bin_peaks(
    peaks: Peaks, pixels: NDArray[np.int32], bins: SpectralBins, dtype: np.dtype[Any]
) -> tuple[Binned, BinningTally]:
    """Sum the peaks of many spectra into channels; intensity is conserved.

    The peaks of a channel are added in the order in which they come, in float64, whatever the other spectra are.

    Parameters
    ----------
    peaks
        Of whole spectra.
    pixels
        ``(peak,)`` the pixel of each.
    bins
        The channels.
    dtype
        Of the sums.

    Returns
    -------
    Binned
        ``(value,)`` pixel, channel and sum; each channel of a pixel once.
    BinningTally
        What was read, and what no channel takes.
    """
    channel: NDArray[np.int32] = bins.assign(peaks.mz).astype(np.int32)
    inside = channel >= 0
    kept = int(np.count_nonzero(inside))
    intensity = peaks.intensity
    tally = BinningTally(len(channel), len(channel) - kept, _finite_sum(intensity))
    if kept < len(channel):
        channel, pixels, intensity = channel[inside], pixels[inside], intensity[inside]
    # Equal places are made neighbours; nearly all are of one peak.
    same_pixel = pixels[1:] == pixels[:-1]
    if ((channel[1:] < channel[:-1]) & same_pixel).any():
        order = np.lexsort((channel, pixels))
        channel, pixels, intensity = channel[order], pixels[order], intensity[order]
        same_pixel = pixels[1:] == pixels[:-1]
    first = np.ones(kept, bool)
    np.logical_or(channel[1:] != channel[:-1], ~same_pixel, out=first[1:])
    return (pixels[first], channel[first], _sums_of_runs(intensity, first, dtype)), tally


def _finite_sum(values: NDArray[Any]) -> float:
    """Return the sum of the finite values in float64."""
    # Damaged values may be signalling NaN or overflow: they are kept as they are and counted, not warned about.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(values.sum(dtype=np.float64))
        return total if np.isfinite(total) else float(values.sum(dtype=np.float64, where=np.isfinite(values)))


def _sums_of_runs(values: NDArray[Any], first: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the sum of each run of values, in order and in float64; ``first`` is True where a run begins."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums: NDArray[Any] = values[first].astype(dtype) + dtype.type(0)  # -0.0 is no intensity, but a 0
        rest = np.flatnonzero(~first)
        run = rest - np.arange(1, len(rest) + 1)
        longer, place = np.unique(run, return_inverse=True)
        exact = values[first][longer].astype(np.float64)
        np.add.at(exact, place, values[rest].astype(np.float64))
        sums[longer] = exact.astype(dtype)
    return sums


def survey(source: PeakSource) -> AxisSurvey:
    """Look through every m/z value once: range, spacing, and whether all spectra share one axis.

    Parameters
    ----------
    source
        The spectra.
    """
    lengths = source.lengths
    lowest, highest = np.inf, -np.inf
    spacing: list[NDArray[np.float64]] = []
    common: NDArray[Any] | None = None
    all_equal = len(np.unique(lengths)) == 1
    sampled = np.unique(np.linspace(0, len(lengths) - 1, SPACING_SPECTRA).astype(np.intp))
    for start, stop in runs(lengths):
        mz = source.read_mz(start, stop)
        if all_equal:
            block = mz.reshape(stop - start, -1)
            common = block[0].copy() if common is None else common
            all_equal = bool((block == common).all())
        plausible = mz[plausible_mz(mz)]
        if len(plausible):
            lowest, highest = min(lowest, float(plausible.min())), max(highest, float(plausible.max()))
        ends = np.cumsum(lengths[start:stop])
        for number in sampled[(sampled >= start) & (sampled < stop)] - start:
            one = mz[ends[number] - lengths[start + number] : ends[number]]
            spacing.append(np.sort(one[plausible_mz(one)]).astype(np.float64))
    return AxisSurvey(
        lowest if np.isfinite(lowest) else np.nan,
        highest if np.isfinite(highest) else np.nan,
        suggest_law(np.concatenate([np.diff(s) for s in spacing]), np.concatenate([s[1:] for s in spacing])),
        _usable(common) if all_equal else None,
    )


def plausible_mz(mz: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values can be an m/z at all; only these take part in planning an axis."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is no reason to warn
        return (mz > 0) & (mz <= MAX_MZ)


def _usable(axis: NDArray[Any] | None) -> NDArray[np.float64] | None:
    """Return an axis that can serve as one: finite and strictly ascending."""
    if axis is None or not len(axis) or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        return None
    return axis.astype(np.float64)
