"""An affine map of spectra, the form that linear steps fold into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Affine:
    """The map ``(x[:, columns] - centre) * weight + offset``.

    The centre is kept apart from the offset, and subtracted first: folded into one offset, ``x @ weight + offset``
    would lose in float32 what a channel's mean exceeds its spread by.

    Attributes
    ----------
    centre
        ``(m,)``, subtracted from the chosen columns.
    weight
        ``(m,)`` where each column keeps to itself, ``(m, k)`` where they mix (then ``*`` is the matrix product).
    offset
        ``(m,)`` or ``(k,)``.
    columns
        ``(m,)`` column numbers of the input, or None for all of them, in order.
    """

    centre: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    columns: NDArray[np.intp] | None = None
    _rounded: dict[np.dtype[Any], tuple[NDArray[Any] | None, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def diagonal(
        cls,
        *,
        centre: NDArray[np.float64],
        weight: NDArray[np.float64],
        offset: NDArray[np.float64] | None = None,
    ) -> Affine:
        """Return the map that shifts and scales each column by itself."""
        return cls(centre, weight, np.zeros(len(weight)) if offset is None else offset)

    @classmethod
    def selection(cls, columns: NDArray[np.intp]) -> Affine:
        """Return the map that picks columns."""
        n = len(columns)
        return cls(np.zeros(n), np.ones(n), np.zeros(n), np.asarray(columns, np.intp))

    @property
    def mixes(self) -> bool:
        """Whether an output depends on more than one column."""
        return self.weight.ndim == 2

    @property
    def n_out(self) -> int:
        """Number of outputs."""
        return self.weight.shape[-1]

    def then(self, later: Affine) -> Affine:
        """Return the map that does this one first and ``later`` after it."""
        picked = slice(None) if later.columns is None else later.columns
        weight, offset = self.weight[..., picked], self.offset[picked] - later.centre
        if later.mixes:
            weight = weight @ later.weight if self.mixes else weight[:, None] * later.weight
            offset = offset @ later.weight + later.offset
        else:
            weight, offset = weight * later.weight, offset * later.weight + later.offset
        if self.mixes:
            return Affine(self.centre, weight, offset, self.columns)
        columns = later.columns if self.columns is None else self.columns[picked]
        return Affine(self.centre[picked], weight, offset, columns)

    def without_columns(self) -> Affine:
        """Return the same map of columns that have been chosen already."""
        return Affine(self.centre, self.weight, self.offset)

    def for_slide(self, slide: str) -> Affine:
        """Return the map of one slide: this one, which is the same for all."""
        return self

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block of float32 or float64 spectra; ``out`` may be the block itself, nothing is irregular."""
        centre, weight, offset = self._constants(block.dtype)
        if self.columns is not None:
            block = out = np.take(block, self.columns, axis=1)
        if centre is not None:
            block = out = np.subtract(block, centre, out=out)
        if weight is not None and weight.ndim == 2:
            block = out = block @ weight
        elif weight is not None:
            with np.errstate(
                invalid="ignore"
            ):  # an infinity in a channel of weight 0 becomes NaN, and is no surprise
                block = out = np.multiply(block, weight, out=out)
        if offset is not None:
            block = np.add(block, offset, out=out)
        return block

    def _constants(self, dtype: np.dtype[Any]) -> tuple[NDArray[Any] | None, ...]:
        """Return centre, weight and offset in a block's type; None for those that change nothing."""
        constants = self._rounded.get(dtype)
        if constants is None:
            constants = (
                self.centre.astype(dtype) if self.centre.any() else None,
                self.weight.astype(dtype) if self.mixes or (self.weight != 1).any() else None,
                self.offset.astype(dtype) if self.offset.any() else None,
            )
            self._rounded[dtype] = constants
        return constants

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rounded": {}}
