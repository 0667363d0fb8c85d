"""A matrix product whose bits depend on nothing but the numbers."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT_BITS = 52


def exact_product(a: Floats, b: Floats) -> Floats:
    """Return ``a @ b`` with the same bits for any number of BLAS threads and any cut into rows.

    A BLAS adds in an order that depends on its threads and on the shapes, and rounds at every step. Here the factors
    are first rounded to so few bits that every partial sum is exact in float64, in whatever order: 22 bits for an inner
    dimension of 100, about the precision of float32, relative to the largest entry of each row of ``a`` and of each
    column of ``b``.

    Parameters
    ----------
    a, b
        ``(..., n, inner)`` and ``(..., inner, m)``, finite.
    """
    bits = (_EXACT_BITS - ceil(log2(max(b.shape[-2], 2)))) // 2
    product: Floats = _rounded(a, bits, axis=-1) @ _rounded(b, bits, axis=-2)
    return product


def _rounded(values: Floats, bits: int, *, axis: int) -> Floats:
    """Round to multiples of a power of two, ``bits`` below the largest value along the axis."""
    _, exponent = np.frexp(np.abs(values).max(axis=axis, keepdims=True, initial=0.0))
    step = np.ldexp(1.0, exponent - bits)
    rounded: Floats = np.rint(values / step) * step
    return rounded
