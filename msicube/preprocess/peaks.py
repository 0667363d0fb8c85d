"""Peaks of one spectrum, such as the mean of a study: where they are, how high, and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.moments import FloatArray

#: The median absolute deviation of normal noise is its standard deviation over this.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, eq=False)
class Peaks:
    """Local maxima that stand out of the noise.

    Attributes
    ----------
    channels
        ``(peak,)`` the channel of each maximum, ascending.
    positions
        ``(peak,)`` the maximum on the axis, between the channels.
    heights
        ``(peak,)`` above the local median.
    snr
        ``(peak,)`` height over noise; infinite where there is no noise.
    """

    channels: NDArray[np.intp]
    positions: FloatArray
    heights: FloatArray
    snr: FloatArray

    def __len__(self) -> int:
        return len(self.channels)


def find_peaks(
    spectrum: FloatArray, axis: FloatArray, *, snr: float, half_window: int, noise_window: int
) -> Peaks:
    """Return the peaks of a spectrum.

    A peak is the highest of ``half_window`` channels to both sides and stands above the local median by ``snr`` times
    the local noise. The first and the last channel are none.

    Parameters
    ----------
    spectrum, axis
        ``(channel,)``, finite.
    snr, half_window
        See above.
    noise_window
        Channels over which median and noise are taken.
    """
    from scipy.ndimage import maximum_filter1d

    level, noise = local_noise(spectrum, noise_window)
    highest = maximum_filter1d(spectrum, 2 * half_window + 1, mode="nearest")
    height = spectrum - level
    candidate = (spectrum == highest) & (height > snr * noise) & (height > 0)
    candidate[[0, -1]] = False
    channels: list[int] = []
    for channel in np.flatnonzero(candidate).tolist():
        # Of equal values within the window the first is taken, if it is a maximum and not the end of a plateau.
        if (not channels or channel - channels[-1] > half_window) and spectrum[channel] > spectrum[
            channel - 1
        ]:
            channels.append(channel)
    found = np.array(channels, np.intp)
    with np.errstate(divide="ignore"):
        ratio = height[found] / noise[found]
    return Peaks(found, _apexes(spectrum, axis, found), height[found], ratio)


def local_noise(spectrum: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """Return the local median and the local noise: the median absolute deviation from it, scaled to a sigma.

    Both are taken in windows that overlap by half and interpolated between their centres.

    Parameters
    ----------
    spectrum
        ``(channel,)``.
    window
        Channels in a window; all of them where there are no more.
    """
    n = len(spectrum)
    window = min(window, n)
    starts = np.unique(
        np.linspace(0, n - window, max(1, round(2 * (n - window) / window) + 1)).astype(np.intp)
    )
    values = spectrum[starts[:, None] + np.arange(window)]
    median = np.median(values, axis=1)
    deviation = MAD_TO_SIGMA * np.median(np.abs(values - median[:, None]), axis=1)
    centres, channels = starts + (window - 1) / 2, np.arange(n)
    return np.interp(channels, centres, median), np.interp(channels, centres, deviation)


def windows_of(
    peaks: Peaks, spectrum: FloatArray, axis: FloatArray, *, reach: FloatArray | None, half_window: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the channels that belong to each peak, as half-open ``lower`` and ``upper``; no channel is in two.

    Parameters
    ----------
    peaks, spectrum, axis
        As they were found.
    reach
        ``(peak,)`` the largest distance from the peak on the axis. None: as far as the spectrum falls, at most
        ``half_window`` channels.
    half_window
        See ``reach``.
    """
    lower, upper = peaks.channels.copy(), peaks.channels + 1
    for number, channel in enumerate(peaks.channels.tolist()):
        if reach is None:
            lower[number] = channel - _descent(spectrum[channel::-1], half_window)
            upper[number] = channel + 1 + _descent(spectrum[channel:], half_window)
        else:
            near = np.flatnonzero(np.abs(axis - peaks.positions[number]) <= reach[number])
            lower[number] = min(channel, near[0] if len(near) else channel)
            upper[number] = max(channel, near[-1] if len(near) else channel) + 1
    for number in range(len(peaks) - 1):
        if upper[number] > lower[number + 1]:
            # At the lowest channel of those that both would take.
            first = max(peaks.channels[number] + 1, lower[number + 1])
            last = min(peaks.channels[number + 1], upper[number])
            upper[number] = lower[number + 1] = first + int(np.argmin(spectrum[first : last + 1]))
    return lower, upper


def _descent(values: FloatArray, most: int) -> int:
    """Return over how many channels a spectrum falls from its first value."""
    falls = np.diff(values[: most + 1]) < 0
    return int(len(falls) if falls.all() else np.argmin(falls))


def _apexes(spectrum: FloatArray, axis: FloatArray, channels: NDArray[np.intp]) -> FloatArray:
    """Return the vertices of the parabolas through each maximum and its two neighbours."""
    left, here, right = (axis[channels + shift] for shift in (-1, 0, 1))
    before, top, after = (spectrum[channels + shift] for shift in (-1, 0, 1))
    rise, fall = (top - before) / (here - left), (after - top) / (right - here)
    curvature = (fall - rise) / (right - left)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (left + here) / 2 - rise / (2 * curvature)
    return np.where(np.isfinite(vertex), vertex, here)
