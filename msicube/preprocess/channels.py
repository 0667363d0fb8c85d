"""What the columns of a block stand for, before and after a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, UsageError
from msicube.schema import AXIS_NAME

AXIS_KINDS = frozenset(AXIS_NAME.values())


@dataclass(frozen=True, eq=False)
class Channels:
    """The columns of a block of spectra.

    Attributes
    ----------
    kind
        ``"mz"`` or ``"wavenumber"`` for positions on a spectral axis, ``"x"`` for the columns of a plain array, else
        the name of a feature, such as ``"PC"``.
    values
        ``(n,)`` float64: the position on the axis, or the number of the column or feature.
    """

    kind: str
    values: NDArray[np.float64]

    @classmethod
    def numbered(cls, kind: str, n: int, *, start: int = 0) -> Channels:
        """Return columns that have nothing but a number."""
        return cls(kind, np.arange(start, start + n, dtype=np.float64))

    @classmethod
    def unknown(cls, kind: str, n: int) -> Channels:
        """Return columns of which only the number is known yet."""
        return cls(kind, np.full(n, np.nan))

    @property
    def known(self) -> bool:
        """Whether their positions are known."""
        return not np.isnan(self.values).any()

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def on_axis(self) -> bool:
        """Whether they are positions on a spectral axis."""
        return self.kind in AXIS_KINDS

    def names(self) -> NDArray[Any]:
        """Return a name for each: ``mz 760.5``, ``x17``, ``PC1``."""
        if self.on_axis:
            return np.array([f"{self.kind} {value!r}" for value in self.values.tolist()], dtype=object)
        return np.array([f"{self.kind}{int(value)}" for value in self.values], dtype=object)

    def take(self, columns: NDArray[np.intp]) -> Channels:
        """Return chosen columns."""
        return Channels(self.kind, self.values[columns])

    def require(self, found: Channels, *, where: str) -> None:
        """Check that data can take the place of what was fitted.

        Raises
        ------
        AxisMismatch
            Both lie on a spectral axis, and not on the same.
        UsageError
            The number of channels differs.
        """
        if found.n != self.n:
            raise UsageError(
                f"{where} has {found.n} channels, this was fitted on {self.n}: use data on the axis of the fit"
            )
        if self.on_axis and found.on_axis and not same_axis(self, found):
            raise AxisMismatch(
                f"{where} lies on another axis ({describe(found)}) than the fit ({describe(self)}): convert it onto "
                f"the axis of the fit, or fit again"
            )


def same_axis(one: Channels, other: Channels) -> bool:
    """Return whether two sets of channels are the same, to the bit."""
    return one.kind == other.kind and np.array_equal(one.values, other.values)


def describe(channels: Channels) -> str:
    """Return a spectral axis in a few words, for messages."""
    first, last = channels.values[0], channels.values[-1]
    return f"{channels.n} channels, {channels.kind} {first:.6g} to {last:.6g}"
