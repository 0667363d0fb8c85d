r"""How a time-of-flight instrument turns ions into a spectrum.

An ion of mass :math:`m` arrives after a time :math:`t \propto \sqrt m`. A spread of arrival times that does not
depend on the mass makes peaks whose width in m/z grows as :math:`\sqrt m` (Guilhaus, J. Mass Spectrom. 30 (1995)
1519), that is, peaks of constant width on the axis :math:`\sqrt{m/z}`, on which the channels are spaced evenly. The
spectrum is the sum of peaks, chemical noise at every nominal mass (Krutchinsky and Chait, J. Am. Soc. Mass Spectrom.
13 (2002) 129) and an exponentially falling baseline, as in the simulation of Coombes et al., Cancer Inform. 1 (2005)
41.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, exp, sqrt

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.analytes import AVERAGE_NOMINAL_MASS, Chemistry, isotopes
from msicube.simulate.exact import exact_product

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_FWHM_PER_SIGMA = 2.3548200450309493
#: A peak is left out beyond so many sigma.
_REACH = 12.0
#: Late ions: their share of a peak, their delay and their spread, in units of the peak's sigma.
TAIL_SHARE, TAIL_DELAY, TAIL_WIDTH = 0.2, 1.0, 1.8
#: Clusters of matrix fill a nominal mass more broadly than one ion does.
CHEMICAL_NOISE_WIDTH = 1.6
#: Mean counts: of an ion of log abundance 0, the chemical noise at a nominal mass, and the baseline where it starts.
ION_COUNTS, CHEMICAL_NOISE_COUNTS, BASELINE_COUNTS = 260.0, 70.0, 60.0
#: Share of the baseline that remains, and the part of the m/z range over which the rest falls to 1/e.
BASELINE_FLOOR, BASELINE_DECAY = 0.12, 0.25
#: Lines closer than this part of a peak width are one peak of a centroided spectrum.
MERGE_WIDTH = 0.5
#: Variance of the detector per count, and its noise without ions, in counts.
SHOT_VARIANCE, ELECTRONIC_NOISE = 2.0, 4.0


@dataclass(frozen=True)
class TofAxis:
    """Channels of a time-of-flight instrument.

    Attributes
    ----------
    mz_range
        Outer edges of the first and the last channel.
    channels
        Their number.
    resolution
        ``m / FWHM`` in the middle of the range.
    """

    mz_range: tuple[float, float]
    channels: int
    resolution: float

    @property
    def edges(self) -> Floats:
        """``(channel + 1,)`` on the axis of square roots."""
        low, high = self.mz_range
        return np.linspace(sqrt(low), sqrt(high), self.channels + 1)

    @property
    def mz(self) -> Floats:
        """``(channel,)`` centres in m/z."""
        edges = self.edges
        centres: Floats = ((edges[1:] + edges[:-1]) / 2) ** 2
        return centres

    @property
    def sigma(self) -> float:
        """Standard deviation of a peak on the axis of square roots."""
        middle = sum(self.mz_range) / 2
        return sqrt(middle) / (2 * self.resolution * _FWHM_PER_SIGMA)

    def fwhm(self, mz: Floats) -> Floats:
        """Return the full width at half maximum in m/z."""
        return 2 * np.sqrt(mz) * self.sigma * _FWHM_PER_SIGMA


@dataclass(frozen=True)
class Lines:
    """Isotopic peaks and chemical noise as sharp lines.

    Attributes
    ----------
    mz, counts
        ``(line,)``; mean counts of one unit of the line's source.
    source
        ``(line,)`` the ion that it belongs to; the number of ions for chemical noise.
    """

    mz: Floats
    counts: Floats
    source: NDArray[np.intp]
    n_sources: int

    @classmethod
    def draw(cls, rng: np.random.Generator, chemistry: Chemistry, mz_range: tuple[float, float]) -> Lines:
        """Return the lines of a study; the chemical noise of each nominal mass is drawn."""
        positions, shares = isotopes(chemistry.mz)
        n_ions, n_isotopes = positions.shape
        nominal = np.arange(np.ceil(mz_range[0]), np.floor(mz_range[1])) * AVERAGE_NOMINAL_MASS
        nominal = nominal[(nominal > mz_range[0]) & (nominal < mz_range[1])]
        height = CHEMICAL_NOISE_COUNTS * np.exp(0.5 * rng.standard_normal(len(nominal)))
        return cls(
            mz=np.concatenate([positions.ravel(), nominal]),
            counts=np.concatenate([ION_COUNTS * shares.ravel(), height]),
            source=np.concatenate([np.arange(n_ions).repeat(n_isotopes), np.full(len(nominal), n_ions)]),
            n_sources=n_ions + 1,
        )


@dataclass(frozen=True)
class Peaks:
    """What the instrument resolves of the lines.

    Attributes
    ----------
    mz
        ``(peak,)`` ascending, neighbours at least ``MERGE_WIDTH`` peak widths apart.
    of_line
        ``(line,)`` the peak that each line is in.
    """

    mz: Floats
    of_line: NDArray[np.intp]


@dataclass(frozen=True)
class BatchEffect:
    """What makes one slide's measurement differ from another's.

    Attributes
    ----------
    gain
        Natural logarithm of the overall sensitivity.
    tilt
        Natural logarithm of the sensitivity at the upper end of the range over that at the lower end.
    mass_shift
        Calibration error in ppm.
    noise, baseline
        Factors on the detector's noise and on the baseline.
    """

    gain: float
    tilt: float
    mass_shift: float
    noise: float
    baseline: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> BatchEffect:
        """Draw one slide's effects; strength 0 makes all slides alike."""
        gain, tilt, shift, noise, baseline = (strength * float(z) for z in rng.standard_normal(5))
        return cls(0.25 * gain, 0.15 * tilt, 15 * shift, exp(0.2 * noise), exp(0.2 * baseline))

    def sensitivity(self, mz: Floats, mz_range: tuple[float, float]) -> Floats:
        """Return the relative sensitivity at some m/z."""
        low, high = mz_range
        factor: Floats = np.exp(self.gain + self.tilt * ((mz - low) / (high - low) - 0.5))
        return factor


@dataclass(frozen=True)
class Response:
    """What one slide's instrument makes of one unit of each source.

    Attributes
    ----------
    mz
        ``(column,)`` channels of a profile, or lines of a centroided spectrum.
    matrix
        ``(source, column)`` mean counts; chemical noise is the last source.
    baseline
        ``(column,)`` mean counts.
    noise
        Standard deviation of the detector's noise in one column, in counts.
    """

    mz: Floats
    matrix: Floats
    baseline: Singles
    noise: float

    def threshold(self, ratio: float) -> Floats:
        """Return ``(column,)``: counts above the baseline that exceed the chemical noise by ``ratio`` deviations."""
        chemical = self.matrix[-1]
        level: Floats = chemical + ratio * np.sqrt(SHOT_VARIANCE * (self.baseline + chemical) + self.noise**2)
        return level

    def measure(self, rng: np.random.Generator, amounts: Floats, background: Singles) -> Singles:
        """Return measured counts, with noise, not yet clipped or rounded.

        Ions arrive as a Poisson process; hundreds of laser shots are summed into a pixel, so that its normal limit
        stands for the counting noise and for the detector's own.

        Parameters
        ----------
        amounts
            ``(spectrum, source)``.
        background
            ``(spectrum,)`` factor on the baseline.
        """
        mean = exact_product(amounts, self.matrix).astype(np.float32)
        mean += background[:, None] * self.baseline
        deviation = np.sqrt(SHOT_VARIANCE * mean + np.float32(self.noise**2))
        deviation *= rng.standard_normal(mean.shape, dtype=np.float32)
        mean += deviation
        return mean


def profile_response(axis: TofAxis, lines: Lines, effect: BatchEffect) -> Response:
    """Return the response in profile mode: every line spread over the channels by the peak shape."""
    edges, sigma = axis.edges, axis.sigma
    shifted = lines.mz * (1 + 1e-6 * effect.mass_shift)
    counts = lines.counts * effect.sensitivity(lines.mz, axis.mz_range)
    broad = np.where(lines.source == lines.n_sources - 1, CHEMICAL_NOISE_WIDTH, 1.0) * sigma
    matrix = np.zeros((lines.n_sources, axis.channels))
    for position, count, width, source in zip(np.sqrt(shifted), counts, broad, lines.source, strict=True):
        first, last = np.searchsorted(edges, [position - _REACH * width, position + _REACH * width])
        reached = slice(max(first - 1, 0), last + 1)
        peak = count * np.diff(_arrived((edges[reached] - position) / width))
        matrix[source, reached.start : reached.start + len(peak)] += peak
    low, high = axis.mz_range
    decay = np.exp(-(axis.mz - low) / (BASELINE_DECAY * (high - low)))
    baseline = BASELINE_COUNTS * effect.baseline * (BASELINE_FLOOR + (1 - BASELINE_FLOOR) * decay)
    return Response(
        mz=axis.mz,
        matrix=matrix,
        baseline=baseline.astype(np.float32),
        noise=ELECTRONIC_NOISE * effect.noise,
    )


def centroid_response(axis: TofAxis, lines: Lines, peaks: Peaks, effect: BatchEffect) -> Response:
    """Return the response in centroid mode: one column a peak.

    The columns hold peak areas, and the baseline is gone; the positions are the true ones, without the mass shift.
    """
    mz = peaks.mz
    matrix = np.zeros((lines.n_sources, len(mz)))
    counts = lines.counts * effect.sensitivity(lines.mz, axis.mz_range)
    np.add.at(matrix, (lines.source, peaks.of_line), counts)
    points = axis.fwhm(np.array([sum(axis.mz_range) / 2])) * axis.channels / np.diff(axis.mz_range)
    return Response(
        mz=mz,
        matrix=matrix,
        baseline=np.zeros(len(mz), dtype=np.float32),
        noise=float(ELECTRONIC_NOISE * effect.noise * np.sqrt(2 * points[0] + 1)),
    )


def resolve(axis: TofAxis, lines: Lines) -> Peaks:
    """Merge lines that lie closer than half a peak width, the closest first, into their weighted mean."""
    order = np.argsort(lines.mz, kind="stable")
    mz, weight, peak = lines.mz[order], lines.counts[order], np.arange(len(order))
    while len(mz) > 1:
        gap = np.diff(mz) / axis.fwhm(mz[:-1])
        closest = int(np.argmin(gap))
        if gap[closest] >= MERGE_WIDTH:
            break
        pair = slice(closest, closest + 2)
        mz[closest] = np.average(mz[pair], weights=weight[pair])
        weight[closest] = weight[pair].sum()
        mz, weight = np.delete(mz, closest + 1), np.delete(weight, closest + 1)
        peak[peak > closest] -= 1
    of_line = np.empty(len(order), dtype=np.intp)
    of_line[order] = peak
    return Peaks(mz, of_line)


def _arrived(z: Floats) -> Floats:
    """Return the share of a peak's ions that have arrived: a normal distribution with a late tail."""
    late = _normal_cdf((z - TAIL_DELAY) / TAIL_WIDTH)
    return (1 - TAIL_SHARE) * _normal_cdf(z) + TAIL_SHARE * late


def _normal_cdf(z: Floats) -> Floats:
    return np.array([0.5 + 0.5 * erf(value) for value in (z / sqrt(2)).tolist()])
