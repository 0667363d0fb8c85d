"""The index of an imzML file: where each spectrum is in the image and where its arrays are in the .ibd."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.rows import KINDS

_DTYPES = [np.dtype(dtype) for dtype, _ in KINDS]
_ITEM_SIZES = np.array([dtype.itemsize for dtype in _DTYPES], np.int64)
_PACKED = np.array([packed != "none" for _, packed in KINDS])


@dataclass(frozen=True)
class ArrayColumns:
    """Where one binary array of each spectrum lies in the .ibd.

    Attributes
    ----------
    offset, length, encoded
        ``(spectrum,)`` int64: bytes from the start, number of values, bytes in the file.
    kind
        ``(spectrum,)`` uint8: index into :data:`~msicube.readers.imzml.rows.KINDS`, NumPy type and compression.
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    encoded: NDArray[np.int64]
    kind: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        offset: NDArray[np.int64],
        length: NDArray[np.int64],
        encoded: NDArray[np.int64],
        kind: NDArray[np.int64],
    ) -> ArrayColumns:
        """Return columns; the size of an uncompressed array follows from its length."""
        # A length that no file can hold must not overflow: it lies past the end of the file in any case.
        plain = np.minimum(length, 2**58) * _ITEM_SIZES[kind]
        return cls(offset, length, np.where(_PACKED[kind], encoded, plain), kind.astype(np.uint8))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> ArrayColumns:
        """Return the columns of some spectra."""
        return ArrayColumns(self.offset[rows], self.length[rows], self.encoded[rows], self.kind[rows])

    @property
    def end(self) -> NDArray[np.int64]:
        """``(spectrum,)`` first byte past each array."""
        return self.offset + self.encoded

    @property
    def packed(self) -> NDArray[np.bool_]:
        """``(spectrum,)`` bool: which arrays are compressed."""
        return _PACKED[self.kind]

    @cached_property
    def kinds(self) -> list[tuple[np.dtype[Any], str]]:
        """NumPy types and compressions that occur."""
        return [(_DTYPES[code], KINDS[code][1]) for code in np.flatnonzero(np.bincount(self.kind))]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the values of all arrays."""
        return np.result_type(*{dtype for dtype, _ in self.kinds})

    def form(self, row: int) -> tuple[np.dtype[Any], str]:
        """Return NumPy type and compression of one array."""
        code = int(self.kind[row])
        return _DTYPES[code], KINDS[code][1]


@dataclass(frozen=True)
class SpectrumIndex:
    """Position and binary arrays of every spectrum, in the order of the file.

    Attributes
    ----------
    x, y, z
        ``(spectrum,)`` int64, as written in the file.
    mz, intensity
        The two arrays.
    valid
        ``(spectrum,)`` bool: the spectra that are read. What is said of the others means nothing.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    z: NDArray[np.int64]
    mz: ArrayColumns
    intensity: ArrayColumns
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)
