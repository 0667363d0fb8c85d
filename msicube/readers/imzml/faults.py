"""What is wrong with single spectra, and what becomes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.base import OnError
from msicube.readers.imzml.rows import SpectrumTable
from msicube.readers.naming import name_spectra


class FaultLog:
    """Collects spectra that are not read, each once, for the first reason that is met.

    Attributes
    ----------
    valid
        ``(spectrum,)`` bool: those that are left.
    remarks
        What the conversion report says of the others.
    """

    def __init__(self, table: SpectrumTable) -> None:
        self.table = table
        self.valid = np.ones(len(table), bool)
        self.remarks: list[str] = []
        self._faults: list[tuple[str, NDArray[np.int64]]] = []

    def fault(self, message: str, numbers: NDArray[np.integer] | NDArray[np.bool_]) -> None:
        """Note spectra (numbers or a mask) that are wrong."""
        numbers = self._new(numbers)
        if len(numbers):
            self._faults.append((message, numbers))

    def set_aside(self, message: str, numbers: NDArray[np.integer] | NDArray[np.bool_]) -> None:
        """Note spectra that are sound and still not part of the image; this is never an error."""
        numbers = self._new(numbers)
        if len(numbers):
            self.remarks.append(f"{self._named(numbers)} set aside: {message}")

    @property
    def masked(self) -> int:
        """Number of spectra that are wrong."""
        return sum(len(numbers) for _, numbers in self._faults)

    def settle(self, name: str, on_error: OnError) -> list[str]:
        """Raise the first fault, or return all of them as remarks.

        Raises
        ------
        CorruptSource
            There is a fault and ``on_error`` is ``"stop"``, or no spectrum is left.
        """
        if not self._faults and self.valid.any():
            return self.remarks
        lines = [f"{self._named(numbers)} masked: {message}" for message, numbers in self._faults]
        if not self.valid.any():
            raise CorruptSource(
                f"{name}: none of its {len(self.valid)} spectra can be read. {'; '.join(lines)}"
            )
        if on_error == "stop":
            message, numbers = self._faults[0]
            more = f"; {self.masked} spectra in all are wrong" if self.masked > 1 else ""
            raise CorruptSource(
                f"{name}, spectrum {numbers[0]} (from 0){self._position(int(numbers[0]))}: {message}{more}. Repair the "
                f"file, or convert it with --on-error report, which masks what is wrong and names it in the report"
            )
        return self.remarks + lines

    def _new(self, numbers: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
        found = np.flatnonzero(numbers) if numbers.dtype == bool else np.unique(numbers)
        found = found[self.valid[found]].astype(np.int64)
        self.valid[found] = False
        return found

    def _position(self, number: int) -> str:
        x, y = int(self.table["x"][number]), int(self.table["y"][number])
        return f" at x = {x}, y = {y}" if min(x, y) > -(2**61) else ""

    def _named(self, numbers: NDArray[np.int64]) -> str:
        return name_spectra(numbers.tolist())
