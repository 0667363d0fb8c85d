"""Masks in memory at one bit a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.tiling import Window


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A ``(y, x)`` mask at one bit a pixel, so that it stays small beside the spectra."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> PackedMask:
        """Pack a mask."""
        return cls(np.packbits(mask, axis=1), (mask.shape[0], mask.shape[1]))

    def whole(self) -> NDArray[np.bool_]:
        """Return the mask."""
        return np.unpackbits(self.bits, axis=1, count=self.shape[1]).astype(bool)

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return the mask of a window."""
        first = window.x0 // 8
        bits = self.bits[window.y0 : window.y1, first : -(-window.x1 // 8)]
        return np.unpackbits(bits, axis=1)[:, window.x0 - 8 * first : window.x1 - 8 * first].astype(bool)
