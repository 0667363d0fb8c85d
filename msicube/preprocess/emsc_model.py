"""The linear model behind EMSC: its columns, which of them the weights support, and the solve.

Plain NumPy in float64 on a few columns; nothing here sees a spectrum of the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UnsupportedTermWarning, UsageError

FloatArray = NDArray[np.float64]

#: A column whose part that is new beside the others keeps less than this share of its norm under the weights is left
#: out: its coefficient would come from almost nothing and be multiplied by a thousand where the weights are zero.
MIN_SUPPORT = 1e-3
#: A column this close to the span of the columns before it is a combination of them.
MIN_NOVELTY = 1e-9


@dataclass(frozen=True, eq=False)
class Terms:
    """Columns of a linear model with their names; the earlier one is kept where two cannot be told apart.

    Attributes
    ----------
    names
        One for each.
    spectra
        ``(term, channel)`` float64.
    """

    names: tuple[str, ...]
    spectra: FloatArray

    @classmethod
    def numbered(cls, name: str, spectra: FloatArray) -> Terms:
        """Return spectra named ``<name> 1``, ``<name> 2``, ..."""
        return cls(tuple(f"{name} {number}" for number in range(1, len(spectra) + 1)), spectra)

    @classmethod
    def polynomial(cls, wavenumbers: FloatArray | None, degree: int | None, n_channels: int) -> Terms:
        """Return ``1, v, v**2, ...`` up to a degree on the scaled wavenumber; none where the degree is None."""
        if degree is None:
            return cls((), np.empty((0, n_channels)))
        v = np.zeros(n_channels) if wavenumbers is None else scaled(wavenumbers)
        names = ("constant", "v", *(f"v^{power}" for power in range(2, degree + 1)))
        return cls(names[: degree + 1], np.stack([v**power for power in range(degree + 1)]))

    def __add__(self, other: Terms) -> Terms:
        return Terms(self.names + other.names, np.concatenate([self.spectra, other.spectra]))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Solved:
    """A model that is ready to fit spectra.

    Attributes
    ----------
    terms
        Its columns.
    inverse
        ``(term, channel)`` float64: ``spectra @ inverse.T`` are the coefficients. Zero for a column without support.
    combined
        Names of the columns that were left out because they are zero, or a combination of those before them.
    hidden
        Names of the columns that were left out because the weights leave too little of them.
    """

    terms: Terms
    inverse: FloatArray
    combined: tuple[str, ...]
    hidden: tuple[str, ...]

    @property
    def rank(self) -> int:
        """Number of columns that take part."""
        return len(self.terms) - len(self.combined) - len(self.hidden)

    def warn(self) -> None:
        """Name the columns that were left out, with the reason.

        Warns
        -----
        UnsupportedTermWarning
            There are some.
        """
        reasons = []
        if self.combined:
            reasons.append(f"{', '.join(self.combined)}: zero, or a combination of the columns before it")
        if self.hidden:
            reasons.append(
                f"{', '.join(self.hidden)}: nearly all of it lies where the weights are zero or small"
            )
        if reasons:
            warnings.warn(
                f"left out of the EMSC model, with coefficients of 0: {'; '.join(reasons)}. Exclude less, or leave the "
                f"column out",
                UnsupportedTermWarning,
                stacklevel=2,
            )


def scaled(wavenumbers: FloatArray) -> FloatArray:
    """Return wavenumbers mapped linearly onto [-1, 1], the lowest on -1."""
    low, high = wavenumbers.min(), wavenumbers.max()
    return (wavenumbers - (low + high) / 2) / ((high - low) / 2 or 1.0)


def solve(terms: Terms, weights: FloatArray) -> Solved:
    """Return the pseudo-inverse of a model under weights, without the columns that the weights do not support.

    Minimises ``sum((weights * (spectrum - coefficients @ spectra))**2)``.

    Parameters
    ----------
    terms
        The columns; the first is the one that must have support.
    weights
        ``(channel,)``, not negative; they multiply the residuals, as in :func:`numpy.polyfit`. Only their ratios
        matter.

    Raises
    ------
    UsageError
        The first column has no support.
    """
    weights = weights / weights.max()
    novelty, support = _support(terms.spectra, weights)
    supported = (novelty >= MIN_NOVELTY) & (support >= MIN_SUPPORT)
    if not supported[0]:
        raise UsageError(
            f"the {terms.names[0]} is zero where the weights are not: EMSC has nothing to scale the spectra by, give "
            f"another reference or exclude less"
        )
    inverse = np.zeros_like(terms.spectra)
    inverse[supported] = _inverse(terms.spectra[supported], weights)
    left_out = [
        (name, new) for name, kept, new in zip(terms.names, supported, novelty, strict=True) if not kept
    ]
    combined = tuple(name for name, new in left_out if new < MIN_NOVELTY)
    hidden = tuple(name for name, new in left_out if new >= MIN_NOVELTY)
    return Solved(terms, inverse, combined, hidden)


def _support(spectra: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return for each column what of it is new, and what of that the weights leave.

    The first is the share of its norm that is orthogonal to the columns before it, the second the norm of what is
    orthogonal to them under the weights over the norm of the former. Columns without support are not held against
    later ones.
    """
    n_terms = len(spectra)
    novelty, support = np.zeros(n_terms), np.zeros(n_terms)
    plain: list[FloatArray] = []
    weighted: list[FloatArray] = []
    for number, column in enumerate(spectra):
        norm = np.linalg.norm(column)
        if norm == 0:
            continue
        new = _orthogonal(column / norm, plain)
        left = _orthogonal(column / norm * weights, weighted)
        new_norm, left_norm = np.linalg.norm(new), np.linalg.norm(left)
        novelty[number] = new_norm
        if new_norm < MIN_NOVELTY:
            continue
        support[number] = left_norm / new_norm
        if support[number] >= MIN_SUPPORT:
            plain.append(new / new_norm)
            weighted.append(left / left_norm)
    return novelty, support


def _orthogonal(vector: FloatArray, basis: Sequence[FloatArray]) -> FloatArray:
    """Return what of a vector is orthogonal to an orthonormal basis; twice is enough (Kahan, Parlett)."""
    for _ in range(2):
        for unit in basis:
            vector = vector - (unit @ vector) * unit
    return vector


def _inverse(spectra: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted pseudo-inverse of columns that are linearly independent."""
    from scipy.linalg import solve_triangular

    norms = np.linalg.norm(spectra, axis=1)
    q, r = np.linalg.qr((spectra / norms[:, None] * weights).T)
    inverse: FloatArray = solve_triangular(r, q.T * weights) / norms[:, None]
    return inverse
