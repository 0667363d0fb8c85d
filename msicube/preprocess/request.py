"""What a step asks of a pass over the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from msicube.preprocess.chain import BLOCK_BYTES, MIN_ROWS
from msicube.preprocess.moments import ClassMoments, Covariance, Statistic

#: Bytes of a block in float64 where the work of a merge grows with the square of the channels: it has to be tall.
TALL_BLOCK_BYTES = 32 * 2**20

#: In place of a column of the samples table: each slide is a class of its own, under its name. All spectra of an array
#: or of a dataset count as one slide.
SLIDE = "slide"


@dataclass(frozen=True)
class Request:
    """A statistic that a step needs of its input before it can learn.

    Requests of one kind share a pass where the statistic of a later step's input follows from that of an earlier one's.

    Attributes
    ----------
    kind
        A short name, shown in ``passes_``.
    measure
        Picklable; takes a block ``(n, channel)`` and its labels (one for all, an array, or None) and returns a
        :class:`~msicube.preprocess.moments.Statistic`.
    by
        Column of the samples table that gives each slide's class, where the statistic is needed for each class, or
        :data:`SLIDE`, where it is needed for each slide.
    quadratic
        Whether the statistic's size grows with the square of the channels.
    where
        A mask by name or expression: the statistic is of its spectra, whatever those of the fit are. None for those of
        the fit.
    """

    kind: str
    measure: Callable[[Any, Any], Statistic]
    by: str | None = None
    quadratic: bool = False
    where: str | None = None

    def join(self, other: Request) -> Request | None:
        """Return the request that answers both, or None where that takes two passes."""
        if (self.kind, self.measure, self.where) != (other.kind, other.measure, other.where):
            return None
        if None not in (self.by, other.by) and self.by != other.by:
            return None
        return replace(self, by=self.by or other.by)

    def covers(self, other: Request) -> bool:
        """Return whether the answer to this request answers another as well."""
        return self.join(other) == self

    def rows(self, n_in: int, n_out: int) -> int:
        """Return how many spectra to process at a time, from the number of channels read and measured."""
        rows = BLOCK_BYTES // (8 * n_in)
        if self.quadratic:
            rows = max(rows, min(n_out, TALL_BLOCK_BYTES // (8 * n_in)))
        return max(rows, MIN_ROWS)

    def __str__(self) -> str:
        text = f"{self.kind} by {self.by}" if self.by else self.kind
        return text if self.where is None else f"{text} inside {self.where}"


def moments(by: str | None = None) -> Request:
    """Ask for the moments of each channel, for each class of ``by`` where it is given."""
    return Request("moments", ClassMoments.from_block, by)


def covariance(*, exactly: bool = False, where: str | None = None) -> Request:
    """Ask for the covariance of the channels, multiplied in float64 where ``exactly`` is said."""
    measure = Covariance.from_block_exactly if exactly else Covariance.from_block
    return Request("covariance", measure, quadratic=True, where=where)
