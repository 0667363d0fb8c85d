"""The kernels of EMSC and of corrections like it: two matrix products a block, in parts that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Bytes of the part of a block that is processed at a time: with what is computed from it, it stays in the L2 cache.
PART_BYTES = 2**19


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Coefficients of spectra in a linear model.

    Attributes
    ----------
    inverse
        ``(term, channel)`` float64: ``spectra @ inverse.T`` are the coefficients.
    terms
        ``(term, channel)`` float64, the columns of the model.
    precise
        Whether to compute in float64 for float32 spectra too.
    """

    inverse: FloatArray
    terms: FloatArray
    precise: bool = False

    def parts(self, block: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the parts of a block that suit the cache, in the type to compute in; not to be written to."""
        dtype = np.dtype(np.float64) if self.precise else block.dtype
        rows = max(1, PART_BYTES // (block.shape[1] * dtype.itemsize))
        for start in range(0, len(block), rows):
            span = slice(start, start + rows)
            yield span, block[span].astype(dtype, copy=False)

    def coefficients(self, part: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the coefficients ``(n, term)`` and the norm ``(n,)`` of spectra.

        Values in channels that no coefficient depends on may be NaN or infinite; elsewhere they make all coefficients
        and the norm of their spectrum NaN.
        """
        inverse, _ = self.constants(part.dtype)
        coefficients = part @ inverse
        norm = np.sqrt(np.einsum("ij,ij->i", part, part))
        odd = np.flatnonzero(~np.isfinite(norm))
        if len(odd):
            heard = part[odd] * 1
            heard[:, ~self.inverse.any(axis=0)] = 0
            heard[~np.isfinite(heard).all(axis=1)] = np.nan
            coefficients[odd] = heard @ inverse
            norm[odd] = np.sqrt(np.einsum("ij,ij->i", heard, heard))
        return coefficients, norm

    def sum(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """Return the spectra that coefficients stand for."""
        return coefficients @ self.constants(coefficients.dtype)[1]

    @cached_property
    def _rounded(self) -> dict[np.dtype[Any], tuple[NDArray[Any], NDArray[Any]]]:
        return {}

    def constants(self, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return ``inverse.T`` and ``terms`` in a type."""
        if dtype not in self._rounded:
            self._rounded[dtype] = (
                np.ascontiguousarray(self.inverse.T, dtype),
                np.ascontiguousarray(self.terms, dtype),
            )
        return self._rounded[dtype]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_rounded"}


@dataclass(frozen=True, eq=False)
class Subtraction:
    """Subtract from each spectrum the terms that were fitted to it.

    Attributes
    ----------
    model
        The fit; rows of ``terms`` that are zero stay in the spectrum.
    """

    model: LeastSquares

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block; see :meth:`msicube.preprocess.base.Step.kernel`."""
        out = np.empty_like(block) if out is None else out
        with np.errstate(invalid="ignore", over="ignore"):
            for span, part in self.model.parts(block):
                coefficients, _ = self.model.coefficients(part)
                np.subtract(part, self.model.sum(coefficients), out=out[span], casting="same_kind")
        return out


@dataclass(frozen=True, eq=False)
class Scaling(Subtraction):
    """Subtract terms, then divide by the coefficient of the first term."""

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block; counts the spectra whose first coefficient is not positive."""
        out = np.empty_like(block) if out is None else out
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for span, part in self.model.parts(block):
                coefficients, norm = self.model.coefficients(part)
                factor = self._factor(coefficients[:, 0], norm, tally)
                coefficients *= factor
                scaled = np.multiply(part, factor, out=out[span] if part.dtype == out.dtype else None)
                scaled -= self.model.sum(coefficients)
                if part.dtype != out.dtype:
                    out[span] = scaled
        return out

    def _factor(self, b: NDArray[Any], norm: NDArray[Any], tally: NDArray[np.int64] | None) -> NDArray[Any]:
        """Return ``1 / b`` as a column; 0 for spectra of zeros, NaN where ``b`` is no more than rounding."""
        noise = 8 * np.finfo(b.dtype).eps * float(np.linalg.norm(self.model.inverse[0]))
        factor = 1 / b
        doubtful = np.flatnonzero(~(b > noise * norm))
        if len(doubtful):
            unscalable = np.abs(b[doubtful]) <= noise * norm[doubtful]
            factor[doubtful[unscalable]] = np.nan
            factor[doubtful[norm[doubtful] == 0]] = 0
            if tally is not None:
                tally += np.count_nonzero(np.isfinite(norm[doubtful]))
        return factor[:, None].astype(b.dtype, copy=False)
