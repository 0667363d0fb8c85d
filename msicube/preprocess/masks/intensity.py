"""Spectra with enough ions, and pixels of which the detector made nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import learn_counts
from msicube.preprocess.masks.base import Mask, finite
from msicube.preprocess.masks.histogram import Histogram, HistogramOf, median, otsu, total
from msicube.preprocess.request import Request


class TICMask(Mask):
    """Spectra whose total ion current reaches a threshold: tissue, rather than the matrix around it.

    Parameters
    ----------
    threshold
        Of the sum of a spectrum's intensities; or ``"otsu"``, which parts the total ion currents of the fitted spectra
        into two classes of the least variance.
    log
        Whether Otsu's method looks at the logarithms, of the positive ones. Total ion currents are skewed, and their
        logarithms part the faint from the empty rather than the bright from the faint.

    Attributes
    ----------
    threshold_ : float
        The mask holds spectra whose sum is this or more. Otsu's is good to 0.1 %: the histogram's bins are that wide.
    n_spectra_, n_nonfinite_ : int
        Spectra that were fitted on, and those that were left out because of a NaN or an infinity; 0 for a number. The
        mask is False where a spectrum is not finite.

    References
    ----------
    N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62.
    """

    learned_values = ("threshold_", "n_spectra_", "n_nonfinite_", "n_irregular_")
    recorded = ("threshold_", "n_spectra_", "n_nonfinite_")

    threshold_: float

    def __init__(self, *, threshold: float | str = "otsu", log: bool = False) -> None:
        self.threshold = threshold
        self.log = log

    def plan(self, n_channels: int) -> int:
        """Check the threshold."""
        if isinstance(self.threshold, str) and self.threshold != "otsu":
            raise UsageError(f'TICMask(threshold={self.threshold!r}): expected a number, or "otsu"')
        return super().plan(n_channels)

    def request(self) -> Request | None:
        """Ask for a histogram, unless the threshold is given."""
        if self.threshold == "otsu":
            return Request("total ion currents", HistogramOf(total))
        self.threshold_, self.n_spectra_, self.n_nonfinite_ = float(self.threshold), 0, 0
        return None

    def learn(self, statistic: Histogram) -> None:
        """Find the threshold."""
        learn_counts(self, statistic)
        values, counts = statistic.ascending()
        if not self.log:
            self.threshold_ = otsu(values, counts)
            return
        positive = values > 0
        if not positive.any():
            raise UsageError("TICMask(log=True): no spectrum has a positive total ion current")
        self.threshold_ = float(np.exp(otsu(np.log(values[positive]), counts[positive])))

    def decide(self, block: NDArray[Any]) -> tuple[NDArray[np.bool_], None]:
        """Return which spectra reach the threshold."""
        with np.errstate(invalid="ignore", over="ignore"):
            return finite(block) & (total(block) >= self.threshold_), None


class DeadPixelMask(Mask):
    """Pixels of which nothing can be made: the mask is True for the dead.

    Dead is a spectrum that holds a NaN or an infinity, is constant (all zeros, say), leaves ``limits`` anywhere, or
    has a mean intensity more than ``n_mads`` median absolute deviations from the median of all.

    Parameters
    ----------
    limits
        Lowest and highest value that a living pixel may have, such as ``(-0.5, 2.5)`` where absorbance saturates. None
        sets none.
    n_mads
        How far a mean intensity may lie from the median; None for any distance. This one takes a pass over the data.

    Attributes
    ----------
    median_, mad_ : float or None
        Of the mean intensities of finite, not constant spectra, to 0.1 %; None without ``n_mads``.
    n_spectra_, n_nonfinite_ : int
        Spectra that were fitted on, and those that were left out because of a NaN or an infinity; 0 without ``n_mads``.
    """

    holds_nonfinite = True
    learned_values = ("median_", "mad_", "n_spectra_", "n_nonfinite_", "n_irregular_")
    recorded = ("median_", "mad_", "n_spectra_", "n_nonfinite_")

    median_: float | None
    mad_: float | None

    def __init__(self, *, limits: tuple[float, float] | None = None, n_mads: float | None = None) -> None:
        self.limits = limits
        self.n_mads = n_mads

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise UsageError(f"DeadPixelMask(limits={self.limits}): expected the lower limit first")
        if self.n_mads is not None and not self.n_mads > 0:
            raise UsageError(f"DeadPixelMask(n_mads={self.n_mads}): expected a positive number, or None")
        return super().plan(n_channels)

    def request(self) -> Request | None:
        """Ask for a histogram of the mean intensities, where they matter."""
        self.median_ = self.mad_ = None
        self.n_spectra_ = self.n_nonfinite_ = 0
        return None if self.n_mads is None else Request("mean intensities", HistogramOf(_mean_of_living))

    def learn(self, statistic: Histogram) -> None:
        """Find the median and the median absolute deviation."""
        learn_counts(self, statistic)
        values, counts = statistic.ascending()
        self.median_ = median(values, counts)
        distance = np.abs(values - self.median_)
        order = np.argsort(distance, kind="stable")
        self.mad_ = median(distance[order], counts[order])

    def decide(self, block: NDArray[Any]) -> tuple[NDArray[np.bool_], None]:
        """Return which spectra are dead."""
        dead = ~finite(block)
        with np.errstate(invalid="ignore", over="ignore"):
            lowest, highest = block.min(axis=1), block.max(axis=1)
            dead |= lowest == highest
            if self.limits is not None:
                dead |= (lowest < self.limits[0]) | (highest > self.limits[1])
            if self.n_mads is not None and self.median_ is not None and self.mad_ is not None:
                dead |= np.abs(_mean(block) - self.median_) > self.n_mads * self.mad_
        return dead, None


def _mean(block: NDArray[Any]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = block.mean(axis=1, dtype=np.float64)
    return mean


def _mean_of_living(block: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean intensity of the spectra that are not constant."""
    return _mean(block[block.min(axis=1) < block.max(axis=1)])
