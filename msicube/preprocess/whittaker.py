"""Whittaker's smoother of many spectra at once."""

from __future__ import annotations

import numpy as np

from msicube.preprocess.moments import FloatArray


def smooth(y: FloatArray, weights: FloatArray, lam: float) -> FloatArray:
    """Return the curves ``z`` that minimise ``sum(weights * (y - z)**2) + lam * sum(diff(z, 2)**2)``.

    The normal equations of a spectrum have five diagonals. They are factorised without pivoting, which is stable as
    they are positive definite, and all spectra take each step of the elimination together: a loop over channels, not
    over spectra. No number depends on which other spectra are there.

    Parameters
    ----------
    y
        ``(channel, n)``: a spectrum is a column. At least three channels.
    weights
        ``(channel, n)`` positive.
    lam
        Stiffness.

    References
    ----------
    E. T. Whittaker, "On a new method of graduation", Proc. Edinb. Math. Soc. 41 (1923) 63; P. H. C. Eilers, "A perfect
    smoother", Anal. Chem. 75 (2003) 3631. The elimination is the LDL factorisation of a band matrix: G. H. Golub and
    C. F. Van Loan, Matrix Computations, 4th ed. (2013), section 4.3.
    """
    n_channels, n_spectra = y.shape
    diagonal, beside = _penalty(n_channels, lam)
    one, two, inverse, z = (np.zeros((n_channels + 2, n_spectra)) for _ in range(4))
    coupling, scratch = np.zeros(n_spectra), np.empty(n_spectra)
    # Rows are shifted by two, so that the first two channels find zeros before them.
    np.multiply(weights, y, out=z[2:])
    np.add(weights, diagonal[:, None], out=inverse[2:])
    for i in range(2, n_channels + 2):
        pivot = inverse[i]
        pivot -= np.multiply(coupling, one[i - 1], out=scratch)
        pivot -= np.multiply(lam, two[i - 2], out=scratch)
        np.divide(1.0, pivot, out=pivot)
        np.subtract(beside[i - 2], np.multiply(coupling, two[i - 1], out=scratch), out=coupling)
        np.multiply(coupling, pivot, out=one[i])
        np.multiply(lam, pivot, out=two[i])
        z[i] -= np.multiply(one[i - 1], z[i - 1], out=scratch)
        z[i] -= np.multiply(two[i - 2], z[i - 2], out=scratch)
    z *= inverse
    z[-2] -= np.multiply(one[-2], z[-1], out=scratch)
    for i in range(n_channels - 1, 1, -1):
        z[i] -= np.multiply(one[i], z[i + 1], out=scratch)
        z[i] -= np.multiply(two[i], z[i + 2], out=scratch)
    return z[2:]


def _penalty(n_channels: int, lam: float) -> tuple[FloatArray, FloatArray]:
    """Return the main diagonal and the one beside it of ``lam * D.T @ D``; the next one is ``lam`` throughout."""
    second = np.diff(np.eye(min(n_channels, 6)), 2, axis=0)
    small = second.T @ second
    middle = n_channels - len(small)
    ends = len(small) // 2
    main, beside = np.diag(small), np.append(np.diag(small, 1), 0.0)
    diagonal = np.concatenate([main[:ends], np.full(middle, 6.0), main[ends:]])
    off = np.concatenate([beside[:ends], np.full(middle, -4.0), beside[ends:]])
    return lam * diagonal, lam * off
