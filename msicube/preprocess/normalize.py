"""Spectra brought to one scale, each by a number of its own.

All treat a spectrum without a scale alike. One of zeros has nothing to scale and stays zero. Any other whose scale is
not a positive finite number becomes NaN as a whole, so that later steps leave it out of their fit and count it: one
with a NaN or an infinity, and one whose scale is zero or negative although the spectrum is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import FloatArray
from msicube.preprocess.positions import Ranges, Tolerance, check_ranges, columns_at, columns_in


class _Normalize(Step):
    """Multiply each spectrum by ``target / scale``."""

    def __init__(self, *, target: float = 1.0) -> None:
        self.target = target

    def plan(self, n_channels: int) -> int:
        """Check the target."""
        if self.target is not None and not 0 < self.target < np.inf:
            raise UsageError(
                f"{type(self).__name__}(target={self.target}): the target must be a positive number"
            )
        return n_channels

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the scale of each spectrum, ``(n,)``, in float64."""
        raise NotImplementedError

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Scale a block."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factor = self._target(block.shape[1]) / _checked(self.scales(block), block, tally)
            return np.multiply(block, factor.astype(block.dtype)[:, None], out=out)

    def _target(self, n_channels: int) -> float:
        return self.target


class TICNormalize(_Normalize):
    """Scale each spectrum to the same total ion current.

    A spectrum is divided by its sum and multiplied by ``target``. The sum is taken in float64.

    Parameters
    ----------
    target
        The sum of each spectrum afterwards. None stands for the number of channels, so that the mean intensity is 1
        and a logarithm that follows has something to compress.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of the fitted data whose sum is not positive.

    Notes
    -----
    A spectrum of zeros stays zero. One whose sum is zero or negative for other reasons (negative intensities) has no
    total ion current and becomes NaN, so that later steps leave it out of their fit and count it. So does one with a
    NaN or an infinity.

    References
    ----------
    S.-O. Deininger et al., "Normalization in MALDI-TOF imaging datasets of proteins: practical considerations", Anal.
    Bioanal. Chem. 401 (2011) 167. The number of channels as target is that of Cardinal: K. D. Bemis et al.,
    Bioinformatics 31 (2015) 2418.
    """

    def __init__(self, *, target: float | None = None) -> None:
        self.target = target  # type: ignore[assignment]

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the sums."""
        return block.sum(axis=1, dtype=np.float64)

    def _target(self, n_channels: int) -> float:
        return n_channels if self.target is None else self.target


class RMSNormalize(_Normalize):
    """Divide each spectrum by the root mean square of its intensities.

    Parameters
    ----------
    target
        The root mean square of each spectrum afterwards.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of zeros in the fitted data.

    Notes
    -----
    A spectrum of zeros stays zero; one with a NaN or an infinity becomes NaN as a whole.

    References
    ----------
    J. M. Fonville et al., "Robust data processing and normalization strategy for MALDI mass spectrometric imaging",
    Anal. Chem. 84 (2012) 1310.
    """

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the root mean squares."""
        return _length(block) / np.sqrt(block.shape[1])


class MedianNormalize(_Normalize):
    """Divide each spectrum by the median of its positive intensities.

    The median leaves out zeros, as is usual in mass spectrometry imaging: where most channels of most spectra are
    empty, the median of all channels is zero, whatever the signal. Negative values, which are noise about an empty
    channel, are left out with them.

    Parameters
    ----------
    target
        The median of the positive intensities of each spectrum afterwards.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of the fitted data without a positive intensity.

    Notes
    -----
    A spectrum of zeros stays zero. One of negative values and zeros becomes NaN, and so does one with a NaN or an
    infinity.

    References
    ----------
    S.-O. Deininger et al., "Normalization in MALDI-TOF imaging datasets of proteins: practical considerations", Anal.
    Bioanal. Chem. 401 (2011) 167; without the zeros: J. M. Fonville et al., Anal. Chem. 84 (2012) 1310.
    """

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the medians; NaN and infinities sort to the ends."""
        ordered = np.sort(block, axis=1)
        n_channels = block.shape[1]
        positive = np.count_nonzero(ordered > 0, axis=1)
        rows, first = np.arange(len(block)), n_channels - positive
        lower = np.minimum(first + (positive - 1) // 2, n_channels - 1)
        upper = np.minimum(first + positive // 2, n_channels - 1)
        halves = ordered[rows, lower].astype(np.float64) + ordered[rows, upper]
        scale = np.where(positive > 0, halves / 2, 0.0)
        scale[~np.isfinite(ordered[:, [0, -1]]).all(axis=1)] = np.nan
        return scale


class VectorNormalize(_Normalize):
    """Divide each spectrum by its Euclidean length.

    Parameters
    ----------
    target
        The length of each spectrum afterwards.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of zeros in the fitted data.

    Notes
    -----
    A spectrum of zeros stays zero; one with a NaN or an infinity becomes NaN as a whole.

    References
    ----------
    M. J. Baker et al., "Using Fourier transform IR spectroscopy to analyze biological materials", Nat. Protoc. 9
    (2014) 1771.
    """

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the lengths."""
        return _length(block)


class MinMaxNormalize(_Normalize):
    """Shift and scale each spectrum so that it runs from 0 to ``target``.

    Parameters
    ----------
    target
        The largest value of each spectrum afterwards.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of the fitted data that are constant.

    Notes
    -----
    A spectrum of zeros stays zero. One that is constant at another value has no range and becomes NaN; so does one
    with a NaN or an infinity.

    References
    ----------
    M. J. Baker et al., "Using Fourier transform IR spectroscopy to analyze biological materials", Nat. Protoc. 9
    (2014) 1771.
    """

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the ranges."""
        return block.max(axis=1).astype(np.float64) - block.min(axis=1)

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Shift and scale a block."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factor = self.target / _checked(self.scales(block), block, tally)
            shifted = np.subtract(block, block.min(axis=1, keepdims=True), out=out)
            return np.multiply(shifted, factor.astype(block.dtype)[:, None], out=shifted)


class ReferenceNormalize(_Normalize):
    """Divide each spectrum by the mean intensity of reference channels.

    An internal standard or a matrix ion in mass spectrometry, the Amide I band in infrared spectroscopy.

    Parameters
    ----------
    at
        Positions of the reference channels on the axis (m/z or wavenumber; column numbers of a plain array).
    ranges
        Pairs ``(lower, upper)`` on the axis; give these or ``at``.
    tolerance
        How far a channel may lie from a position of ``at``: a number in the unit of the axis, or ``"ppm:20"``. None
        takes the nearest channel of every position that lies on the axis.
    target
        The mean of the reference channels of each spectrum afterwards.

    Attributes
    ----------
    indices_ : (n_reference,) int
        The reference channels.
    n_irregular_ : int or None
        Spectra of the fitted data whose reference is not positive.

    Notes
    -----
    A spectrum of zeros stays zero. One whose reference is zero, negative, NaN or infinite becomes NaN as a whole. A NaN
    or an infinity in any other channel stays what it is.

    References
    ----------
    J. M. Fonville et al., "Robust data processing and normalization strategy for MALDI mass spectrometric imaging",
    Anal. Chem. 84 (2012) 1310. For bands in the infrared: M. J. Baker et al., Nat. Protoc. 9 (2014) 1771.
    """

    indices_: NDArray[np.intp]

    def __init__(
        self,
        *,
        at: Any = None,
        ranges: Ranges | None = None,
        tolerance: Tolerance | None = None,
        target: float = 1.0,
    ) -> None:
        self.at = at
        self.ranges = ranges
        self.tolerance = tolerance
        self.target = target

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        if (self.at is None) == (self.ranges is None):
            raise UsageError(
                "ReferenceNormalize needs at= or ranges=, and not both: say which channels are the reference"
            )
        if self.ranges is not None:
            check_ranges(self.ranges)
        return super().plan(n_channels)

    def prepare(self, channels: Channels) -> None:
        """Find the reference channels."""
        super().prepare(channels)
        if self.ranges is not None:
            self.indices_ = columns_in(channels, self.ranges)
        else:
            self.indices_ = columns_at(channels, self.at, self.tolerance)

    def scales(self, block: NDArray[Any]) -> FloatArray:
        """Return the means of the reference channels."""
        return block[:, self.indices_].mean(axis=1, dtype=np.float64)


def _length(block: NDArray[Any]) -> FloatArray:
    """Return the Euclidean length of each spectrum, summed in float64."""
    return np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))


def _checked(scale: FloatArray, block: NDArray[Any], tally: NDArray[np.int64] | None) -> FloatArray:
    """Return scales to divide by: infinite for a spectrum of zeros, NaN for any other that has none.

    Parameters
    ----------
    scale
        ``(n,)``; changed in place.
    block
        The spectra.
    tally
        To which the number of scales that are zero or negative is added.
    """
    none = np.flatnonzero(~((scale > 0) & (scale < np.inf)))
    if len(none):
        if tally is not None:
            tally += np.count_nonzero(scale[none] <= 0)
        scale[none] = np.where(block[none].any(axis=1), np.nan, np.inf)
    return scale
