"""The mass axes of slides brought into line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.by_slide import moments_of_slides, row_of
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import ClassMoments, FloatArray, Moments
from msicube.preprocess.peakpick import check_peaks
from msicube.preprocess.peaks import find_peaks
from msicube.preprocess.positions import Tolerance, distances
from msicube.preprocess.request import SLIDE, Request, moments

#: Polynomial warps by their degree.
DEGREES = {"shift": 0, "linear": 1, "quadratic": 2}
#: Matched peaks that a warp takes at least, beyond the coefficients of its polynomial.
SPARE_PEAKS = 2
#: Matches whose distance lies so many deviations off the warp are left out of it.
OUTLIER_SIGMAS = 3.0


class PeakAlign(Step):
    """Shift the axis of each slide so that its peaks lie where those of the others do.

    The peaks of a slide's mean spectrum are matched with reference peaks; their distances, as a function of the
    position, are the slide's warp. ``transform`` reads every spectrum of the slide at the warped positions, by linear
    interpolation. A slide that was not fitted on has to be shown to the step by :meth:`add_slides`; transforming it
    before is an error. The spectra of an array or a dataset count as one slide.

    Parameters
    ----------
    reference
        Positions of reference peaks on the axis, such as known masses. None: the peaks of the mean spectrum of all
        slides that are fitted on, which aligns slides with each other but not with the truth.
    tolerance
        How far a peak may lie from its reference: a number in the unit of the axis, or ``"ppm:200"``. Each is matched
        with its nearest, if that holds both ways.
    warp
        The distance as a function of the position: ``"shift"`` (a constant), ``"linear"``, ``"quadratic"``, or
        ``"lowess"``, a robust local regression, which is constant beyond the outermost matches.
    snr, half_window, noise_window
        What a peak is; see :class:`PeakPick`.

    Attributes
    ----------
    reference_ : (n_reference,) float64
        Positions of the reference peaks.
    shift_ : (n_slides, n_channels) float64
        How far from each channel its value is read, in the unit of the axis.
    n_matched_ : (n_slides,) int
        Peaks that each slide's warp is made from.
    slides_ : list of str
        The slides that are known.
    n_spectra_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity.

    Notes
    -----
    Where the warp leads beyond an end of the axis, the value at the end is taken: nothing is extrapolated. A NaN or an
    infinity becomes NaN in the channels that are interpolated from it. A spectrum of zeros stays zero. A slide with too
    few matching peaks is an error that names it; one without a finite spectrum is not known.

    References
    ----------
    S. Gibb and K. Strimmer, "MALDIquant", Bioinformatics 28 (2012) 2270; Q. P. He et al., "Self-calibrated warping for
    mass spectra alignment", Cancer Inform. 10 (2011) 65; lowess: W. S. Cleveland, J. Am. Stat. Assoc. 74 (1979) 829.
    """

    learned_arrays: ClassVar = {
        "reference_": ("reference",),
        "shift_": ("slide", "channel"),
        "n_matched_": ("slide",),
    }
    learned_values = ("slides_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    reference_: FloatArray
    shift_: FloatArray
    n_matched_: NDArray[np.int64]
    slides_: list[str]

    def __init__(
        self,
        *,
        reference: ArrayLike | None = None,
        tolerance: Tolerance = "ppm:200",
        warp: Literal["shift", "linear", "quadratic", "lowess"] = "linear",
        snr: float = 3.0,
        half_window: int = 5,
        noise_window: int = 200,
    ) -> None:
        self.reference = reference
        self.tolerance = tolerance
        self.warp = warp
        self.snr = snr
        self.half_window = half_window
        self.noise_window = noise_window

    @property
    def by_slide(self) -> bool:
        """True: each slide has a warp of its own."""
        return True

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        check_peaks(self, n_channels)
        distances(self.tolerance, np.ones(1))
        if self.warp not in (*DEGREES, "lowess"):
            raise UsageError(
                f"PeakAlign(warp={self.warp!r}): expected {', '.join(map(repr, DEGREES))} or 'lowess'"
            )
        return n_channels

    def foresee(self, channels: Channels) -> Channels | None:
        """Return the channels; they must ascend."""
        if channels.known and (np.diff(channels.values) <= 0).any():
            raise UsageError("PeakAlign needs an axis that ascends: turn it, or sort the channels")
        return super().foresee(channels)

    def request(self) -> Request:
        """Ask for the mean of each slide."""
        return moments(SLIDE)

    def learn(self, statistic: ClassMoments) -> None:
        """Find the reference peaks and the warp of each slide."""
        learn_counts(self, statistic)
        if self.reference is None:
            self.reference_ = self._peaks(statistic.total().mean)
        else:
            self.reference_ = np.unique(np.asarray(self.reference, np.float64))
        self.slides_ = []
        self.shift_, self.n_matched_ = np.empty((0, self._channels.n)), np.empty(0, np.int64)
        self.learn_more(statistic)

    def learn_more(self, statistic: ClassMoments) -> None:
        """Find the warps of further slides."""
        slides = {s: one for s, one in moments_of_slides(statistic).items() if s not in self.slides_}
        if slides:
            shifts, matched = zip(*(self._warp(slide, one) for slide, one in slides.items()), strict=True)
            self.shift_ = np.concatenate([self.shift_, np.stack(shifts)])
            self.n_matched_ = np.concatenate([self.n_matched_, np.array(matched, np.int64)])
            self.slides_ = [*self.slides_, *slides]

    def for_slide(self, slide: str) -> Warp:
        """Return the warp of a slide."""
        return Warp.of(self._channels.values, self.shift_[row_of(self, slide)])

    def _peaks(self, mean: FloatArray) -> FloatArray:
        """Return the positions of the peaks of a mean spectrum."""
        return find_peaks(
            mean,
            self._channels.values,
            snr=self.snr,
            half_window=self.half_window,
            noise_window=self.noise_window,
        ).positions

    def _warp(self, slide: str, one: Moments) -> tuple[FloatArray, int]:
        """Return the shift at each channel of a slide, and the number of peaks that it was made from."""
        peaks = self._peaks(one.mean)
        reference, own = match(self.reference_, peaks, self.tolerance)
        least = DEGREES.get(self.warp, 1) + 1 + SPARE_PEAKS
        if len(own) < least:
            raise UsageError(
                f"slide {slide or 'of the array'} has {len(peaks)} peaks, of which {len(own)} lie within "
                f"{self.tolerance} of the {len(self.reference_)} reference peaks, and warp={self.warp!r} needs "
                f"{least}: lower snr, widen tolerance, or leave the slide out"
            )
        axis, distance = self._channels.values, own - reference
        if self.warp == "lowess":
            return np.interp(axis, reference, lowess(reference, distance)), len(own)
        return _robust_polynomial(reference, distance, DEGREES[self.warp], axis)


@dataclass(frozen=True, eq=False)
class Warp:
    """Spectra of one slide, read at warped positions: a stage of a chain.

    Attributes
    ----------
    after
        ``(channel,)`` the channel above each warped position.
    share
        ``(channel,)`` what that channel counts for; the one before it counts for the rest.
    """

    after: NDArray[np.intp]
    share: FloatArray

    @classmethod
    def of(cls, axis: FloatArray, shift: FloatArray) -> Warp:
        """Return the warp that reads a spectrum at ``axis + shift``, within the ends of the axis."""
        wanted = np.clip(axis + shift, axis[0], axis[-1])
        after = np.clip(np.searchsorted(axis, wanted), 1, len(axis) - 1)
        return cls(after, (wanted - axis[after - 1]) / (axis[after] - axis[after - 1]))

    def for_slide(self, slide: str) -> Warp:
        """Return this: it is of one slide already."""
        return self

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Interpolate a block."""
        share = self.share.astype(block.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            value = np.take(block, self.after, axis=1)
            value *= share
            value += np.take(block, self.after - 1, axis=1) * (1 - share)
        value[np.isinf(value)] = np.nan
        return value


def match(reference: FloatArray, peaks: FloatArray, tolerance: Tolerance) -> tuple[FloatArray, FloatArray]:
    """Return the pairs of reference and peak that are nearest to each other, and near enough."""
    if not len(reference) or not len(peaks):
        return reference[:0], peaks[:0]
    nearest = _nearest(peaks, reference)
    mutual = _nearest(reference, peaks)[nearest] == np.arange(len(reference))
    chosen = mutual & (np.abs(peaks[nearest] - reference) <= distances(tolerance, reference))
    return reference[chosen], peaks[nearest[chosen]]


def _nearest(places: FloatArray, wanted: FloatArray) -> NDArray[np.intp]:
    """Return which of some ascending places is nearest to each wanted one."""
    after = np.clip(np.searchsorted(places, wanted), 1, max(len(places) - 1, 1))
    after = np.minimum(after, len(places) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(places[after] - wanted) < np.abs(wanted - places[before]), after, before)


def lowess(x: FloatArray, y: FloatArray, *, fraction: float = 2 / 3, iterations: int = 3) -> FloatArray:
    """Return Cleveland's robust locally weighted regression at the points themselves.

    Parameters
    ----------
    x, y
        ``(n,)``, ``x`` ascending.
    fraction
        Of the points that each local line is fitted to.
    iterations
        In which points far off the curve lose their weight.
    """
    near = max(2, round(fraction * len(x)))
    distance = np.abs(x[:, None] - x)
    span = np.sort(distance, axis=1)[:, near - 1 : near]
    local = (1 - np.minimum(distance / np.maximum(span, np.finfo(float).tiny), 1) ** 3) ** 3
    robust = np.ones(len(x))
    fitted = y
    for _ in range(iterations + 1):
        weight = local * robust
        total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
        centre, level = weight @ x / total, weight @ y / total
        apart = x - centre[:, None]
        spread = (weight * apart**2).sum(axis=1)
        slope = np.where(spread > 0, (weight * apart) @ y / np.where(spread > 0, spread, 1), 0.0)
        fitted = level + slope * (x - centre)
        residual = np.abs(y - fitted)
        scale = 6 * np.median(residual)
        if scale == 0:
            break
        robust = (1 - np.minimum(residual / scale, 1) ** 2) ** 2
    return fitted


def _robust_polynomial(x: FloatArray, y: FloatArray, degree: int, at: FloatArray) -> tuple[FloatArray, int]:
    """Return a polynomial of ``y`` over ``x`` at some places, without outliers, and the number of points it is of."""
    centre, width = x.mean(), np.ptp(x) or 1.0
    z = (x - centre) / width
    kept = np.ones(len(x), bool)
    for _ in range(5):
        fit = np.polynomial.polynomial.polyfit(z[kept], y[kept], degree)
        residual = np.abs(y - np.polynomial.polynomial.polyval(z, fit))
        sigma = 1.4826 * np.median(residual[kept])
        again = residual <= max(OUTLIER_SIGMAS * sigma, 1e-12 * width)
        if again.sum() <= degree + 1 or (again == kept).all():
            break
        kept = again
    return np.polynomial.polynomial.polyval((at - centre) / width, fit), int(kept.sum())
