"""Baselines, estimated of each spectrum by itself and subtracted.

All treat odd spectra alike. One with a NaN or an infinity has no baseline and becomes NaN as a whole, so that later
steps leave it out of their fit and count it. One of zeros stays zero, and of a constant one nothing remains. Windows
are counted in channels: on the axis of a time-of-flight instrument, on which peaks have the same number of channels
everywhere, that is what the methods were made for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.moments import FloatArray
from msicube.preprocess.whittaker import smooth


class _Baseline(Step):
    """Subtract what ``baseline`` returns."""

    def baseline(self, block: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Return the baselines of finite spectra, ``(n, channels)``; the block is not written to."""
        raise NotImplementedError

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Subtract the baselines of a block."""
        lost = ~np.isfinite(block).all(axis=1)
        if lost.any():
            block = np.where(lost[:, None], block.dtype.type(0), block)
        corrected = np.subtract(
            block, self.baseline(block, tally), out=out, dtype=block.dtype, casting="same_kind"
        )
        corrected[lost] = np.nan
        return corrected

    def _check(self, name: str, *, valid: bool, expected: str) -> None:
        """Raise for a parameter out of its range."""
        if not valid:
            raise UsageError(f"{type(self).__name__}({name}={getattr(self, name)!r}): expected {expected}")

    def _check_half_window(self, half_window: int, n_channels: int) -> None:
        fits = isinstance(half_window, int | np.integer) and 1 <= half_window <= (n_channels - 1) // 2
        expected = (
            f"a whole number of channels between 1 and {(n_channels - 1) // 2}, so that the window fits"
        )
        self._check(
            "half_window", valid=fits, expected=f"{expected} into the {n_channels} channels that come in"
        )


class SNIPBaseline(_Baseline):
    """Subtract the baseline that iterative clipping of peaks leaves: SNIP.

    For each half-window ``p``, a channel is clipped to the mean of the two channels ``p`` beside it, where that is
    lower. What is narrower than the largest window disappears.

    Parameters
    ----------
    half_window
        The largest ``p`` in channels, about the width of the broadest peak.
    decreasing
        Whether ``p`` falls from the largest to 1, which gives the smoother baseline, or grows to it.
    lls
        Whether to clip ``log(log(sqrt(x + 1) + 1) + 1)`` instead of the intensities, so that small peaks beside large
        ones are clipped as well. Negative intensities then count as 0.

    Attributes
    ----------
    n_irregular_ : int or None
        Negative values in the fitted data, where ``lls`` is set; 0 otherwise.

    Notes
    -----
    The ``p`` channels at both ends take no part in the clipping with half-window ``p``, as in MALDIquant; the first and
    the last channel therefore become zero. A spectrum of zeros stays zero; one with a NaN or an infinity becomes NaN as
    a whole.

    References
    ----------
    C. G. Ryan et al., "SNIP, a statistics-sensitive background treatment", Nucl. Instrum. Methods Phys. Res. B 34
    (1988) 396. Decreasing windows and the operator: M. Morháč and V. Matoušek, Appl. Spectrosc. 62 (2008) 91.
    """

    def __init__(self, *, half_window: int = 40, decreasing: bool = True, lls: bool = False) -> None:
        self.half_window = half_window
        self.decreasing = decreasing
        self.lls = lls

    def plan(self, n_channels: int) -> int:
        """Check the window."""
        self._check_half_window(self.half_window, n_channels)
        return n_channels

    def baseline(self, block: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Clip."""
        if not self.lls:
            return self._clipped(block.copy())
        if tally is not None:
            tally += np.count_nonzero(block < 0)
        small = np.log(np.log(np.sqrt(np.maximum(block, 0) + 1) + 1) + 1)
        return (np.exp(np.exp(self._clipped(small)) - 1) - 1) ** 2 - 1

    def _clipped(self, flat: NDArray[Any]) -> NDArray[Any]:
        steps = range(1, self.half_window + 1)
        for p in reversed(steps) if self.decreasing else steps:
            middle = (flat[:, : -2 * p] + flat[:, 2 * p :]) / 2
            np.minimum(flat[:, p:-p], middle, out=flat[:, p:-p])
        return flat


class TopHatBaseline(_Baseline):
    """Subtract the morphological opening: the white top-hat.

    The opening is the highest function below the spectrum that a flat window can slide along; peaks narrower than the
    window do not lift it.

    Parameters
    ----------
    half_window
        The window has ``2 * half_window + 1`` channels; it should be wider than the broadest peak.

    Notes
    -----
    At both ends the window is cut. A spectrum of zeros stays zero; one with a NaN or an infinity becomes NaN as a
    whole.

    References
    ----------
    R. Perez-Pueyo, M. J. Soneira and S. Ruiz-Moreno, "Morphology-based automated baseline removal for Raman spectra of
    artistic pigments", Appl. Spectrosc. 64 (2010) 595. In mass spectrometry: A. C. Sauve and T. P. Speed, Proc.
    Gensips (2004).
    """

    def __init__(self, *, half_window: int = 40) -> None:
        self.half_window = half_window

    def plan(self, n_channels: int) -> int:
        """Check the window."""
        self._check_half_window(self.half_window, n_channels)
        return n_channels

    def baseline(self, block: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Return the opening."""
        from scipy.ndimage import grey_opening

        return grey_opening(block, size=(1, 2 * self.half_window + 1))


class ALSBaseline(_Baseline):
    """Subtract a smooth curve fitted by asymmetric least squares.

    The baseline ``z`` of a spectrum ``y`` minimises ``sum(w * (y - z)**2) + lam * sum(diff(z, 2)**2)``, where ``w`` is
    ``p`` for channels above the baseline and ``1 - p`` for those below, found by repeated fits.

    Parameters
    ----------
    lam
        Stiffness. It grows with the fourth power of the number of channels over which the baseline may bend.
    p
        Weight of what lies above the baseline, between 0 and 1: 0.001 to 0.1 for peaks that point up.
    max_iter
        Fits at most; a spectrum is done when its weights stay as they are.

    Attributes
    ----------
    n_irregular_ : int or None
        Spectra of the fitted data whose weights still changed after ``max_iter`` fits.

    Notes
    -----
    Each spectrum is done by itself, however many are processed together. A spectrum of zeros stays zero; one with a NaN
    or an infinity becomes NaN as a whole.

    References
    ----------
    P. H. C. Eilers, "A perfect smoother", Anal. Chem. 75 (2003) 3631; P. H. C. Eilers and H. F. M. Boelens, "Baseline
    correction with asymmetric least squares smoothing", Leiden University Medical Centre report (2005).
    """

    def __init__(self, *, lam: float = 1e6, p: float = 0.01, max_iter: int = 50) -> None:
        self.lam = lam
        self.p = p
        self.max_iter = max_iter

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        self._check("lam", valid=0 < self.lam < np.inf, expected="a positive number")
        self._check("p", valid=0 < self.p < 1, expected="a number between 0 and 1")
        self._check("max_iter", valid=self.max_iter >= 1, expected="at least 1")
        if n_channels < 3:
            raise UsageError(f"ALSBaseline bends a curve over 3 channels at least, {n_channels} come in")
        return n_channels

    def baseline(self, block: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Fit until the weights settle; spectra that have settled are left out of further fits."""
        y = np.ascontiguousarray(block.T, np.float64)
        flat = np.empty_like(y)
        weights = np.ones_like(y)
        active = np.arange(y.shape[1])
        for _ in range(self.max_iter):
            fitted = smooth(y, weights, self.lam)
            flat[:, active] = fitted
            changed = np.where(y > fitted, self.p, 1 - self.p)
            moving = (changed != weights).any(axis=0)
            active, y, weights = active[moving], y[:, moving], changed[:, moving]
            if not len(active):
                break
        if tally is not None:
            tally += len(active)
        return flat.T


class PolynomialBaseline(_Baseline):
    """Subtract a polynomial that is fitted again and again to what does not exceed it.

    After each fit, what lies above the polynomial is cut down to it, until the fit stays as it is: the modified
    polynomial fit. The polynomial is one of the position on the real axis.

    Parameters
    ----------
    degree
        Of the polynomial.
    max_iter
        Cuts at most. 0 subtracts the least-squares polynomial itself.
    tol
        A fit stays as it is when it changes, in Euclidean norm, by less than this share of itself.

    Attributes
    ----------
    basis_ : (n_channels, degree + 1) float64
        Orthonormal polynomials at the positions of the channels.
    n_irregular_ : int or None
        Spectra of the fitted data whose fit still changed after ``max_iter`` cuts.

    Notes
    -----
    A spectrum of zeros stays zero; one with a NaN or an infinity becomes NaN as a whole.

    References
    ----------
    C. A. Lieber and A. Mahadevan-Jansen, "Automated method for subtraction of fluorescence from biological Raman
    spectra", Appl. Spectrosc. 57 (2003) 1363.
    """

    learned_arrays: ClassVar = {"basis_": ("channel", "term")}

    basis_: FloatArray

    def __init__(self, *, degree: int = 3, max_iter: int = 250, tol: float = 1e-3) -> None:
        self.degree = degree
        self.max_iter = max_iter
        self.tol = tol

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        self._check(
            "degree",
            valid=0 <= self.degree < n_channels,
            expected=f"between 0 and {n_channels - 1}, less than the number of channels that come in",
        )
        self._check("max_iter", valid=self.max_iter >= 0, expected="0 or more")
        self._check("tol", valid=0 <= self.tol < np.inf, expected="0 or more")
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Make the polynomials."""
        super().prepare(channels)
        lowest, highest = channels.values.min(), channels.values.max()
        scaled = (2 * channels.values - lowest - highest) / ((highest - lowest) or 1)
        self.basis_ = np.linalg.qr(np.polynomial.legendre.legvander(scaled, self.degree))[0]

    def baseline(self, block: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Fit and cut; spectra whose fit stays as it is are left out of further fits."""
        y = block.astype(np.float64)
        flat = fitted = self._fitted(y)
        active = np.arange(len(y))
        for _ in range(self.max_iter):
            y = np.minimum(y, fitted)
            again = self._fitted(y)
            change = np.linalg.norm(again - fitted, axis=1)
            moving = change >= self.tol * np.linalg.norm(fitted, axis=1)
            moving &= change > 0
            flat[active] = again
            active, y, fitted = active[moving], y[moving], again[moving]
            if not len(active):
                break
        if tally is not None and self.max_iter:
            tally += len(active)
        return flat

    def _fitted(self, y: FloatArray) -> FloatArray:
        return (y @ self.basis_) @ self.basis_.T
