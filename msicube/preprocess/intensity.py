"""Steps that change intensities, spectrum by spectrum or value by value, and learn nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step


class TICNormalize(Step):
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
    total ion current and becomes NaN, so that later steps leave it out of their fit and count it. One with a NaN or an
    infinity becomes NaN, in part or as a whole.

    References
    ----------
    S.-O. Deininger et al., "Normalization in MALDI-TOF imaging datasets of proteins: practical considerations", Anal.
    Bioanal. Chem. 401 (2011) 167. The number of channels as target is that of Cardinal: K. D. Bemis et al.,
    Bioinformatics 31 (2015) 2418.
    """

    def __init__(self, *, target: float | None = None) -> None:
        self.target = target

    def plan(self, n_channels: int) -> int:
        """Check the target."""
        if self.target is not None and not 0 < self.target < np.inf:
            raise UsageError(
                f"TICNormalize(target={self.target}): the target must be a positive number, or None"
            )
        return n_channels

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Scale a block."""
        target = block.shape[1] if self.target is None else self.target
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            total = block.sum(axis=1, dtype=np.float64)
            factor = target / total
            none = np.flatnonzero(total <= 0)
            if len(none):
                factor[none] = np.where(block[none].any(axis=1), np.nan, 0)
            if tally is not None:
                tally += len(none)
            return np.multiply(block, factor.astype(block.dtype)[:, None], out=out)


class Log1p(Step):
    """Replace each intensity by ``log(1 + intensity)``.

    Attributes
    ----------
    n_irregular_ : int or None
        Negative values in the fitted data.

    Notes
    -----
    A negative intensity is noise about an empty channel and counts as 0. NaN stays NaN, and +inf stays +inf.
    """

    elementwise = True

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block."""
        if tally is not None:
            tally += np.count_nonzero(block < 0)
        clipped = np.maximum(block, 0, out=out)
        return np.log1p(clipped, out=clipped)
