"""Correction of absorbance spectra for resonant Mie scattering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step, learn_counts
from msicube.preprocess.channels import Channels
from msicube.preprocess.emsc_arguments import check_matrix, checked_spectra, spectral_axis
from msicube.preprocess.emsc_kernel import LeastSquares, Scaling
from msicube.preprocess.emsc_model import FloatArray, Terms, solve
from msicube.preprocess.mie_curves import PAD, MieCurves
from msicube.preprocess.mie_kernel import MieIteration, n_components_for
from msicube.preprocess.moments import ClassMoments
from msicube.preprocess.request import Request, moments

#: The share of the Mie curves' sum of squares that the components hold where their number is not given.
EXPLAINED = 0.9996


class MieEMSC(Step):
    """Mie extinction EMSC: removes the resonant scattering of round cells and fibres from absorbance spectra.

    Each spectrum is modelled as ``b * reference + c + components @ d + e`` with the principal components of Mie
    extinction curves that the reference itself implies, and corrected to ``reference + e / b``. The result is the
    reference of the next iteration, brought back by an EMSC with a quadratic baseline and cut at 0, so that each
    spectrum comes to its own pure absorbance.

    Parameters
    ----------
    wavenumbers
        ``(n_channels,)``, cm^-1, for spectra that do not bring their axis along: arrays.
    reference
        ``(n_channels,)``, a pure absorbance to begin with, such as that of Matrigel; None for the mean of the fitted
        spectra. Negative values become 0.
    n_components
        Mie components; None for as many as hold 99.96 % of the curves' sum of squares at the reference.
    radii, refractive_indices
        Of the spheres: in micrometre, 2 to 7.1 by default, and real, above 1, 1.1 to 1.4 by default. As many of the one
        as of the other, ten by default.
    h
        What an absorbance of 1 is worth in the imaginary refractive index.
    max_iter, tol, patience
        A spectrum is done after ``max_iter`` iterations, or after ``patience + 1`` of them without a residual (root
        mean square) that is lower than the best by ``tol``. The best iteration counts.

    Attributes
    ----------
    reference_ : (n_channels,) float64, absorbance
    n_components_ : int
    n_spectra_, n_nonfinite_ : int or None
        Spectra behind a mean as reference, and those left out of it; None for a given one.
    n_irregular_ : int or None
        Spectra of the fitted data that are zero, or that the iteration failed for.

    Notes
    -----
    The same steps and settings as biospectools' ``MeEMSC``, many spectra at a time: the first model is made once for
    all spectra, curves are evaluated in float32, and their leading space is found by one power iteration from that of
    the reference. Results agree to some 1e-6, but where two residuals are so close that another iteration is taken for
    the best, to the difference of the two.

    A spectrum of zeros stays zero. One with a NaN or an infinity becomes NaN, and so does one for which a guess
    vanishes or diverges. A spectrum takes milliseconds, a thousand times those of :class:`msicube.EMSC`.

    References
    ----------
    J. H. Solheim et al., J. Biophotonics 12 (2019) e201800415. T. Konevskikh, R. Lukacs and A. Kohler, J. Biophotonics
    11 (2018) e201600307. A. Kohler et al., Appl. Spectrosc. 62 (2008) 259.
    """

    learned_arrays: ClassVar = {"reference_": ("channel",)}
    learned_values = ("n_components_", "n_spectra_", "n_nonfinite_", "n_irregular_")

    reference_: FloatArray
    n_components_: int
    n_spectra_: int | None
    n_nonfinite_: int | None

    def __init__(
        self,
        *,
        wavenumbers: Any = None,
        reference: Any = None,
        n_components: int | None = None,
        radii: Any = None,
        refractive_indices: Any = None,
        h: float = 0.25,
        max_iter: int = 30,
        tol: float = 1e-4,
        patience: int = 1,
    ) -> None:
        self.wavenumbers = wavenumbers
        self.reference = reference
        self.n_components = n_components
        self.radii = radii
        self.refractive_indices = refractive_indices
        self.h = h
        self.max_iter = max_iter
        self.tol = tol
        self.patience = patience

    def plan(self, n_channels: int) -> int:
        """Check the parameters."""
        check_matrix(n_channels, "MieEMSC")
        radii, indices = self._spheres()
        if (
            radii.shape != indices.shape
            or radii.ndim != 1
            or not (radii > 0).all()
            or not (indices > 1).all()
        ):
            raise UsageError(
                f"MieEMSC(radii, refractive_indices): {radii.shape} positive radii and {indices.shape} indices above "
                f"1 were expected to be as many"
            )
        largest = min(len(radii) ** 2, n_channels) - 2
        if self.n_components is not None and not 1 <= self.n_components <= largest:
            raise UsageError(f"MieEMSC(n_components={self.n_components}): between 1 and {largest}, or None")
        if self.max_iter < 1 or self.patience < 0 or self.tol < 0 or not self.h > 0:
            raise UsageError(
                f"MieEMSC(max_iter={self.max_iter}, patience={self.patience}, tol={self.tol}, h={self.h}): one "
                f"iteration at least, and nothing negative"
            )
        checked_spectra(self.reference, n_channels, what="MieEMSC(reference)")
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Begin a fit: read the axis, and take a given reference."""
        super().prepare(channels)
        self._axis = self._checked_axis(channels)
        self.n_spectra_ = self.n_nonfinite_ = None
        if self.reference is not None:
            self._build(checked_spectra(self.reference, channels.n, what="MieEMSC(reference)")[0])

    def request(self) -> Request | None:
        """Ask for the mean of the spectra where it is the reference."""
        return moments() if self.reference is None else None

    def learn(self, statistic: ClassMoments) -> None:
        """Take the mean as reference."""
        learn_counts(self, statistic)
        self._build(statistic.total().mean)

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Correct a block."""
        out = np.empty_like(block) if out is None else out
        finite = np.isfinite(block).all(axis=1)
        chosen = finite & block.any(axis=1)
        corrected, _ = self._iteration.correct(block[chosen].astype(np.float64))
        out[finite] = 0
        out[~finite] = np.nan
        out[chosen] = corrected
        if tally is not None:
            tally += np.count_nonzero(finite & ~chosen) + np.count_nonzero(np.isnan(corrected[:, :1]))
        return out

    def restore(self, channels: Channels, learned: Mapping[str, Any]) -> None:
        """Set what was learned in an earlier fit."""
        super().prepare(channels)
        self._axis = self._checked_axis(channels)
        self.__dict__.update(learned)
        self._iteration = self._make_iteration(self._curves())
        self.seal()

    def _build(self, reference: FloatArray) -> None:
        """Take a reference, and choose the number of components where it is not given."""
        self.reference_ = np.maximum(reference, 0)
        if not self.reference_.any():
            raise UsageError(
                "MieEMSC: the reference is nowhere positive, give the absorbance of a pure sample"
            )
        curves = self._curves()
        self.n_components_ = self.n_components or n_components_for(curves, self.reference_, EXPLAINED)
        self._iteration = self._make_iteration(curves)

    def _checked_axis(self, channels: Channels) -> FloatArray:
        """Return the axis, which has to stay above 0 where it is continued."""
        axis = spectral_axis(self.wavenumbers, channels, needed=True, who="MieEMSC")
        assert axis is not None
        if channels.n < 2:
            raise UsageError("MieEMSC: one channel has no shape to tell scattering by, give two or more")
        lowest = axis.min() - PAD * abs(axis[1] - axis[0] if axis[0] < axis[1] else axis[-1] - axis[-2])
        if lowest <= 0:
            raise UsageError(
                f"MieEMSC continues the axis by {PAD} channels at each end, from {axis.min():g} to {lowest:g} cm^-1, "
                f"where it has to be above 0: crop its lower end, or resample it finer"
            )
        return axis

    def _curves(self) -> MieCurves:
        return MieCurves.of(self._axis, *self._spheres(), self.h)

    def _make_iteration(self, curves: MieCurves) -> MieIteration:
        terms = Terms(("reference",), self.reference_[None])
        terms += Terms.polynomial(self._axis, 2, len(self._axis))
        solved = solve(terms, np.ones(len(self._axis)))
        removed = np.array([[False], [True], [True], [True]])
        baseline = Scaling(LeastSquares(solved.inverse, np.where(removed, terms.spectra, 0)))
        return MieIteration(
            curves,
            self.reference_,
            baseline,
            self.n_components_,
            self.max_iter,
            self.tol,
            self.patience,
        )

    def _spheres(self) -> tuple[FloatArray, FloatArray]:
        """Return radii and refractive indices."""
        radii = np.linspace(2, 7.1, 10) if self.radii is None else np.asarray(self.radii, np.float64)
        indices = self.refractive_indices
        return radii, np.linspace(1.1, 1.4, 10) if indices is None else np.asarray(indices, np.float64)
