"""The iteration of Mie-EMSC, many spectra at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.emsc_kernel import Scaling
from msicube.preprocess.mie_curves import MieCurves

FloatArray = NDArray[np.float64]

#: Directions followed beside those that are wanted in the search for the leading ones. Singular values of Mie curves
#: fall so fast that one power iteration from those of the reference's curves finds the space to 1e-6.
OVERSAMPLING = 10
#: Spectra that are iterated together.
GROUP = 64


@dataclass(frozen=True, eq=False)
class MieIteration:
    """Corrects spectra by a model that is made anew for each of them in each iteration.

    Attributes
    ----------
    curves
        Makes Mie curves.
    reference
        ``(channel,)``, the first guess of the pure absorbance.
    baseline
        The EMSC that a guess is brought back to the reference with.
    n_components
        Mie components in the model.
    max_iter, tol, patience
        When a spectrum is done; see :class:`msicube.preprocess.mie.MieEMSC`.
    """

    curves: MieCurves
    reference: FloatArray
    baseline: Scaling
    n_components: int
    max_iter: int
    tol: float
    patience: int

    def correct(self, spectra: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return finite spectra corrected, NaN where that fails, and the iteration that each result is of."""
        corrected = np.full_like(spectra, np.nan)
        iterations = np.zeros(len(spectra), np.int64)
        for start in range(0, len(spectra), GROUP):
            span = slice(start, start + GROUP)
            corrected[span], iterations[span] = self._correct_group(spectra[span])
        return corrected, iterations

    def _correct_group(self, spectra: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Iterate until every spectrum is done, each as often as it takes."""
        n = len(spectra)
        best = np.full_like(spectra, np.nan)
        best_score, best_iteration = np.full(n, np.inf), np.zeros(n, np.int64)
        active = np.arange(n)
        guess, score = _fit(spectra, *self.first_model)
        for iteration in range(1, self.max_iter + 1):
            if iteration > 1:
                guess, score = self._iterate(spectra[active], guess)
            failed = ~np.isfinite(score)
            best[active[failed]] = np.nan
            better = (score + self.tol < best_score[active]) & ~failed
            best[active[better]] = guess[better]
            best_score[active[better]] = score[better]
            best_iteration[active[better]] = iteration
            done = failed
            if iteration > self.patience + 1:
                done = failed | (iteration - best_iteration[active] > self.patience)
            active, guess = active[~done], guess[~done]
            if not len(active):
                break
        return best, best_iteration

    @cached_property
    def first_model(self) -> tuple[FloatArray, FloatArray]:
        """The reference and its components, which the first iteration of all spectra shares."""
        reference = self.reference[None]
        return reference, self._components(reference)

    @cached_property
    def first_space(self) -> NDArray[np.float32]:
        """The leading directions of the reference's curves, and some more, as columns; others are sought from there."""
        (curves,) = self.curves.curves(self.reference[None])
        vectors = np.linalg.eigh(_gram(curves, self.reference))[1]
        return np.ascontiguousarray(vectors[:, ::-1][:, : self.n_components + OVERSAMPLING], np.float32)

    def _iterate(self, spectra: FloatArray, guess: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the next guesses and the root mean squares of the residuals."""
        reference = np.maximum(self.baseline.kernel(guess), 0)
        usable = np.isfinite(reference).all(axis=1) & reference.any(axis=1)
        corrected, score = np.full_like(spectra, np.nan), np.full(len(spectra), np.nan)
        if usable.any():
            chosen = reference[usable]
            corrected[usable], score[usable] = _fit(spectra[usable], chosen, self._components(chosen))
        return corrected, score

    def _components(self, references: FloatArray) -> FloatArray:
        """Return for each reference a basis of the space of its leading Mie components, ``(n, component, channel)``.

        One power iteration, then the best directions inside what it found (Rayleigh and Ritz). The reference is taken
        out of its curves by taking it out of what they are multiplied with.
        """
        units = references / np.linalg.norm(references, axis=1, keepdims=True)
        images = np.empty((len(references), self.first_space.shape[1], references.shape[1]))
        for number, (unit, curves) in enumerate(zip(units, self.curves.curves(references), strict=True)):
            unit32 = unit.astype(np.float32)
            image = self.first_space.T @ curves
            image -= (image @ unit32)[:, None] * unit32
            space, _ = np.linalg.qr(curves @ image.T)
            images[number] = space.T @ curves
        images -= np.matmul(images, units[:, :, None]) * units[:, None, :]
        _, vectors = np.linalg.eigh(np.matmul(images, images.swapaxes(1, 2)))
        leading: FloatArray = np.matmul(vectors[:, :, -self.n_components :].swapaxes(1, 2), images)
        return leading


def _gram(curves: NDArray[np.float32], reference: FloatArray) -> FloatArray:
    """Return the inner products of curves that a reference is taken out of."""
    exact = curves.astype(np.float64)
    along = exact @ (reference / np.linalg.norm(reference))
    gram: FloatArray = exact @ exact.T - along[:, None] * along
    return gram


def n_components_for(curves: MieCurves, reference: FloatArray, share: float, largest: int = 30) -> int:
    """Return how many components of a reference's curves hold more than a share of their sum of squares."""
    (found,) = curves.curves(reference[None])
    squares = np.maximum(np.linalg.eigvalsh(_gram(found, reference))[::-1], 0)
    squares = squares[: min(largest, len(reference) - 1)]
    return int(np.argmax(np.cumsum(squares) / squares.sum() > share)) + 1


def _fit(
    spectra: FloatArray, references: FloatArray, components: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return spectra corrected by a model of their own each (or one for all), and the residuals' root mean squares."""
    constant = np.ones((len(references), 1, references.shape[1]))
    model = np.concatenate([references[:, None], components, constant], axis=1).swapaxes(1, 2)
    q, r = np.linalg.qr(model)
    along = np.matmul(spectra[:, None], q)  # (n, 1, term)
    residual = spectra - np.matmul(along, q.swapaxes(1, 2))[:, 0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        b = _first_coefficient(r, along[:, 0])
        corrected = references + residual / b[:, None]
    return corrected, np.sqrt(np.mean(residual**2, axis=1))


def _first_coefficient(r: FloatArray, along: FloatArray) -> FloatArray:
    """Return the first entry of the solution of triangular systems."""
    n_terms = r.shape[-1]
    unit = np.zeros((n_terms, 1))
    unit[0] = 1
    row = np.linalg.solve(r.swapaxes(1, 2), np.broadcast_to(unit, (len(r), n_terms, 1)))[..., 0]
    first: FloatArray = np.sum(row * along, axis=1)
    return first
