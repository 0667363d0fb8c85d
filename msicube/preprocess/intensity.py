"""Steps that change every value by itself and learn nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.base import Step


class _Compressed(Step):
    """Replace each intensity, no less than 0, by a function of it."""

    elementwise = True

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block."""
        if tally is not None:
            tally += np.count_nonzero(block < 0)
        clipped = np.maximum(block, 0, out=out)
        return self._compress(clipped)

    def _compress(self, values: NDArray[Any]) -> NDArray[Any]:
        """Map values that are not negative, in place."""
        raise NotImplementedError


class Log1p(_Compressed):
    """Replace each intensity by ``log(1 + intensity)``.

    Attributes
    ----------
    n_irregular_ : int or None
        Negative values in the fitted data.

    Notes
    -----
    A negative intensity is noise about an empty channel and counts as 0. NaN stays NaN, and +inf stays +inf.
    """

    def _compress(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.log1p(values, out=values)


class Sqrt(_Compressed):
    """Replace each intensity by its square root, which makes the variance of counted ions the same at any intensity.

    Attributes
    ----------
    n_irregular_ : int or None
        Negative values in the fitted data.

    Notes
    -----
    A negative intensity is noise about an empty channel and counts as 0. NaN stays NaN, and +inf stays +inf.

    References
    ----------
    M. S. Bartlett, "The square root transformation in analysis of variance", J. R. Stat. Soc. Suppl. 3 (1936) 68.
    """

    def _compress(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.sqrt(values, out=values)
