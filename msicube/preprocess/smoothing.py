"""Savitzky-Golay smoothing and derivatives on the real spectral axis."""

from __future__ import annotations

from math import factorial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import FloatArray


class SavitzkyGolay(Step):
    """Replace each value by that, or by a derivative, of a polynomial fitted to its neighbours.

    The polynomial is one of the position on the axis, not of the channel's number. On a uniform axis that is the usual
    filter with the spacing as unit, so a derivative is per cm^-1 or per m/z; on any other axis each channel has weights
    of its own, from the real positions of its neighbours.

    Parameters
    ----------
    window
        Channels in a fit, odd.
    degree
        Of the polynomial, less than ``window``.
    deriv
        Which derivative with respect to the position; 0 smooths.

    Attributes
    ----------
    weights_ : (n_channels, window) float64
        What each value of a window counts for.

    Notes
    -----
    The first and last ``window // 2`` channels take their value from the fit to the first and last ``window`` channels.
    A NaN or an infinity becomes NaN in the channels whose window it is in. A spectrum of zeros stays zero, and of a
    constant one every derivative is zero up to rounding. Where a stretch of the axis was cropped out, a window reaches
    over the gap, and the real positions account for it. The map is linear, but it is not folded with others: as a
    matrix it would be ``n_channels / window`` times the work.

    References
    ----------
    A. Savitzky and M. J. E. Golay, "Smoothing and differentiation of data by simplified least squares procedures",
    Anal. Chem. 36 (1964) 1627; at the ends: P. A. Gorry, Anal. Chem. 62 (1990) 570; at uneven positions: P. A. Gorry,
    Anal. Chem. 63 (1991) 534.
    """

    learned_arrays: ClassVar = {"weights_": ("channel", "neighbour")}

    weights_: FloatArray

    def __init__(self, *, window: int = 11, degree: int = 2, deriv: int = 0) -> None:
        self.window = window
        self.degree = degree
        self.deriv = deriv

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        if not (1 <= self.window <= n_channels and self.window % 2 == 1):
            raise UsageError(
                f"{self} of {n_channels} channels: the window must be an odd number between 1 and {n_channels}"
            )
        if not 0 <= self.deriv <= self.degree < self.window:
            raise UsageError(f"{self}: expected 0 <= deriv <= degree < window")
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Work out the weights."""
        super().prepare(channels)
        self.weights_ = _weights(channels.values, self.window, self.degree, self.deriv)

    def neighbours(self) -> NDArray[np.intp]:
        """Return ``(n_channels, window)``: the channels that ``weights_`` are for."""
        n_channels = len(self.weights_)
        return _first(n_channels, self.window)[:, None] + np.arange(self.window)

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Filter a block."""
        half, n_channels = self.window // 2, block.shape[1]
        inner = slice(half, n_channels - half)
        weights = self.weights_.astype(block.dtype)
        filtered = np.zeros_like(block)
        scratch = np.empty_like(block[:, inner])
        with np.errstate(invalid="ignore", over="ignore"):
            for shift in range(self.window):
                neighbour = block[:, shift : n_channels - 2 * half + shift]
                filtered[:, inner] += np.multiply(neighbour, weights[inner, shift], out=scratch)
            if half:
                filtered[:, :half] = block[:, : self.window] @ weights[:half].T
                filtered[:, -half:] = block[:, -self.window :] @ weights[-half:].T
            # Infinities of one sign would go through as infinities.
            filtered[~np.isfinite(filtered)] = np.nan
        return filtered


def _weights(positions: FloatArray, window: int, degree: int, deriv: int) -> FloatArray:
    """Return ``(channel, window)`` weights of the local least-squares polynomials.

    Parameters
    ----------
    positions
        ``(channel,)``, no two alike.
    window, degree, deriv
        As for :class:`SavitzkyGolay`.

    Raises
    ------
    UsageError
        Two channels at one position.
    """
    n_channels = len(positions)
    near = positions[_first(n_channels, window)[:, None] + np.arange(window)] - positions[:, None]
    if window > 1 and (np.diff(np.sort(positions)) == 0).any():
        raise UsageError("two channels lie at one position of the axis, where no polynomial can be fitted")
    # In units of the window's width, so that the powers stay comparable.
    width = np.abs(near).max(axis=1) if window > 1 else np.ones(n_channels)
    powers = (near / width[:, None])[..., None] ** np.arange(degree + 1)
    return np.linalg.pinv(powers)[:, deriv] * (factorial(deriv) / width**deriv)[:, None]


def _first(n_channels: int, window: int) -> NDArray[np.intp]:
    """Return the first channel of the window of each."""
    return np.clip(np.arange(n_channels) - window // 2, 0, n_channels - window)
