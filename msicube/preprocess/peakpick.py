"""From profile spectra to a peak matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import ClassMoments, FloatArray, finite_spectra
from msicube.preprocess.peaks import find_peaks, windows_of
from msicube.preprocess.positions import Tolerance, distances
from msicube.preprocess.request import Request, moments


@dataclass(frozen=True, eq=False)
class Maxima:
    """The largest value of each channel.

    Attributes
    ----------
    n
        Spectra in it.
    largest
        ``(channel,)`` float64; minus infinity where there is no spectrum.
    n_nonfinite
        Spectra left out because of a NaN or an infinity.
    """

    n: int
    largest: FloatArray
    n_nonfinite: int = 0

    @classmethod
    def from_block(cls, block: NDArray[Any], labels: Any = None) -> Maxima:
        """Return the maxima of a block ``(n, channel)``; labels do not matter to them."""
        block, n_nonfinite = finite_spectra(block)
        return cls(len(block), block.max(axis=0, initial=-np.inf).astype(np.float64), n_nonfinite)

    def merge(self, other: Maxima) -> Maxima:
        """Return the maxima of both sets of spectra."""
        largest = np.maximum(self.largest, other.largest)
        return Maxima(self.n + other.n, largest, self.n_nonfinite + other.n_nonfinite)

    def through(self, affine: Affine) -> None:
        """Return None: a maximum does not follow through a map that may turn it into a minimum."""


class PeakPick(Step):
    """Reduce profile spectra to the peaks of the mean spectrum.

    ``fit`` finds the peaks once, in the mean (or the maximum) of all spectra that it is given; ``transform`` measures
    each of them in every spectrum, so that all slides end with the same channels: one for each peak. Slides whose mass
    axes are shifted against each other should go through :class:`PeakAlign` first.

    A peak is a channel that is the highest of ``half_window`` channels to both sides and stands above the local median
    by ``snr`` times the local noise, which is the median absolute deviation in windows of ``noise_window`` channels.

    Parameters
    ----------
    snr
        Signal to noise that a peak needs. The noise of a mean of thousands of spectra is what many peaks too small to
        tell make together, not that of a detector.
    half_window
        Channels to both sides that are lower than a peak: about the width of a peak at half height.
    noise_window
        Channels over which median and noise are taken: wide against a peak, narrow against the baseline.
    tolerance
        Half the width of the window in which a peak is measured: a number in the unit of the axis, or ``"ppm:100"``.
        None: as far as the mean spectrum falls to both sides, at most ``half_window`` channels. Windows that would
        overlap are cut at the lowest channel of the overlap.
    measure
        ``"sum"`` of the intensities in the window, ``"area"`` (each times the width of its channel) or ``"max"``.
    spectrum
        ``"mean"``, or ``"max"`` to find also what only few spectra have.

    Attributes
    ----------
    peaks_ : (n_peaks,) float64
        Positions on the axis, ascending with the channels: the vertex of the parabola through the three highest.
    lower_, upper_ : (n_peaks,) int
        Channels of each window, ``lower_ <= channel < upper_``.
    height_, snr_ : (n_peaks,) float64
        Above the local median, and relative to the noise; infinite where there is no noise.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity.

    Notes
    -----
    A NaN or an infinity in the window of a peak makes that peak NaN or infinite and no other. A spectrum of zeros gives
    zeros. A baseline is measured with the peaks: subtract it before.

    References
    ----------
    S. Gibb and K. Strimmer, "MALDIquant: a versatile R package for the analysis of mass spectrometry data",
    Bioinformatics 28 (2012) 2270. Peaks of the mean spectrum: J. S. Morris et al., Bioinformatics 21 (2005) 1764, and
    Cardinal: K. D. Bemis et al., Bioinformatics 31 (2015) 2418.
    """

    learned_arrays: ClassVar = dict.fromkeys(("peaks_", "lower_", "upper_", "height_", "snr_"), ("peak",))
    learned_values = ("n_spectra_", "n_nonfinite_", "n_irregular_")

    peaks_: FloatArray
    lower_: NDArray[np.intp]
    upper_: NDArray[np.intp]
    height_: FloatArray
    snr_: FloatArray

    def __init__(
        self,
        *,
        snr: float = 3.0,
        half_window: int = 5,
        noise_window: int = 200,
        tolerance: Tolerance | None = None,
        measure: Literal["sum", "area", "max"] = "sum",
        spectrum: Literal["mean", "max"] = "mean",
    ) -> None:
        self.snr = snr
        self.half_window = half_window
        self.noise_window = noise_window
        self.tolerance = tolerance
        self.measure = measure
        self.spectrum = spectrum

    def plan(self, n_channels: int) -> int:
        """Check the parameters; the number of peaks is learned, at most one a channel."""
        check_peaks(self, n_channels)
        if self.tolerance is not None:
            distances(self.tolerance, np.ones(1))
        if self.measure not in ("sum", "area", "max") or self.spectrum not in ("mean", "max"):
            raise UsageError(
                f"PeakPick(measure={self.measure!r}, spectrum={self.spectrum!r}): expected 'sum', 'area' or 'max' of a "
                f"window, and peaks of the 'mean' or the 'max' spectrum"
            )
        return n_channels

    def foresee(self, channels: Channels) -> None:
        """Return None: how many peaks there are is learned."""
        self.plan(channels.n)

    def request(self) -> Request:
        """Ask for the moments, or for the maxima."""
        return moments() if self.spectrum == "mean" else Request("maxima", Maxima.from_block)

    def learn(self, statistic: ClassMoments | Maxima) -> None:
        """Find the peaks and their windows."""
        learn_counts(self, statistic)
        values = statistic.largest if isinstance(statistic, Maxima) else statistic.total().mean
        axis, options = self._channels.values, {"half_window": self.half_window}
        peaks = find_peaks(values, axis, snr=self.snr, noise_window=self.noise_window, **options)
        if not len(peaks):
            raise UsageError(
                f"PeakPick(snr={self.snr}, half_window={self.half_window}) finds no peak in the {self.spectrum} of "
                f"{statistic.n} spectra: lower snr, or see whether the spectra are profiles"
            )
        reach = None if self.tolerance is None else distances(self.tolerance, peaks.positions)
        self.lower_, self.upper_ = windows_of(peaks, values, axis, reach=reach, **options)
        self.peaks_, self.height_, self.snr_ = peaks.positions, peaks.heights, peaks.snr
        self.n_features_out_ = len(peaks)

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Measure the peaks of a block."""
        columns, starts = self.columns()
        values = np.take(block, columns, axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            if self.measure == "max":
                return np.maximum.reduceat(values, starts, axis=1)
            if self.measure == "area":
                values *= self.channel_widths()[columns].astype(block.dtype)
            return np.add.reduceat(values, starts, axis=1)

    def columns(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the channels of all windows, one after another, and where each window begins among them."""
        lengths = self.upper_ - self.lower_
        starts = np.cumsum(lengths) - lengths
        return np.arange(lengths.sum()) + np.repeat(self.lower_ - starts, lengths), starts

    def channel_widths(self) -> FloatArray:
        """Return half the distance between the neighbours of each channel."""
        return np.abs(np.gradient(self._channels.values))

    def channels_out(self) -> Channels:
        """Return the positions of the peaks."""
        return Channels(self._channels.kind, self.peaks_)


def check_peaks(step: Any, n_channels: int) -> None:
    """Check the parameters by which a step finds peaks.

    Raises
    ------
    UsageError
        One is out of its range.
    """
    name = type(step).__name__
    if not 0 <= step.snr < np.inf:
        raise UsageError(f"{name}(snr={step.snr}): expected a number, 0 or more")
    if not (step.half_window >= 1 and 2 * step.half_window < n_channels):
        raise UsageError(
            f"{name}(half_window={step.half_window}): expected at least 1 channel to both sides, and less than half of "
            f"the {n_channels} channels that come in"
        )
    if step.noise_window <= 2 * step.half_window:
        raise UsageError(
            f"{name}(noise_window={step.noise_window}): expected more channels than the window of a peak has, "
            f"{2 * step.half_window + 1}"
        )
