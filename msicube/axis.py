r"""Spectral axes: the laws by which processed m/z values fall into channels.

A grid law fixes how the width of a channel grows with m/z, as resolution does in the analyser (Cotter, *Time-of-Flight
Mass Spectrometry*, 1997; Marshall and Hendrickson, Annu. Rev. Anal. Chem. 1 (2008) 579):

========  ====================  ==========================
law       width grows as        for
========  ====================  ==========================
da        constant              quadrupoles, nominal mass
ppm       :math:`m`             any; the usual choice
tof       :math:`\sqrt{m}`      linear time of flight
orbitrap  :math:`m^{3/2}`       Orbitrap
fticr     :math:`m^2`           FT-ICR
========  ====================  ==========================

A law stands for one infinite grid that does not depend on the data, so two slides binned by one law share their
channels wherever their ranges meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError

Floats = NDArray[np.float64]
#: Lower and upper end of a part of an axis, both included.
Range = tuple[float, float]

DEFAULT_REFERENCE_MZ = 1000.0
#: An axis law of data whose axis is read from the source rather than chosen.
OBSERVED = "observed"
MAX_CHANNELS = 5_000_000
#: Fewer channels are searched by bisection; so are axes on which more channels begin in one step than this.
MIN_STEPS, MAX_PER_STEP = 64, 8


@dataclass(frozen=True)
class _Grid:
    """A coordinate in which the channels of a law have constant width 1, up to the step."""

    forward: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    slope: Callable[[float], float]


_GRIDS: dict[str, _Grid] = {
    "da": _Grid(lambda m: m, lambda f: f, lambda m: 1.0),
    "ppm": _Grid(np.log, np.exp, lambda m: 1e-6),
    "tof": _Grid(lambda m: 2 * np.sqrt(m), lambda f: (f / 2) ** 2, lambda m: m**-0.5),
    "orbitrap": _Grid(lambda m: -2 / np.sqrt(m), lambda f: (2 / f) ** 2, lambda m: m**-1.5),
    "fticr": _Grid(lambda m: -1 / m, lambda f: -1 / f, lambda m: m**-2.0),
}

LAWS_HELP = (
    "da:WIDTH, ppm:WIDTH, tof:WIDTH[@MZ], orbitrap:WIDTH[@MZ], fticr:WIDTH[@MZ] (WIDTH in Da at m/z MZ, 1000 by "
    "default), peaks:FILE[@PPM] (one m/z a line), union[:PPM] (the observed values; neighbours closer than PPM share a "
    "channel)"
)


@dataclass(frozen=True)
class SpectralBins:
    """Channels and the m/z interval that each collects.

    Attributes
    ----------
    centres
        ``(channel,)`` m/z, strictly ascending.
    lower, upper
        ``(channel,)`` bounds, half-open ``lower <= m/z < upper``, never overlapping.
    exact
        Every spectrum of the source has just these values: nothing is binned, each intensity is kept bit for bit.
    """

    centres: Floats
    lower: Floats
    upper: Floats
    exact: bool = False

    @classmethod
    def observed(cls, axis: NDArray[Any]) -> SpectralBins:
        """Return the channels of an axis that all spectra of a source share."""
        centres = axis.astype(np.float64)
        return cls(centres, centres, np.nextafter(centres, np.inf), exact=True)

    def __len__(self) -> int:
        return len(self.centres)

    def crop(self, chosen: slice) -> SpectralBins:
        """Return some neighbouring channels."""
        return SpectralBins(self.centres[chosen], self.lower[chosen], self.upper[chosen], self.exact)

    def assign(self, mz: NDArray[Any]) -> NDArray[np.intp]:
        """Return the channel of each m/z value; -1 for one that is in no channel or is not finite."""
        with np.errstate(invalid="ignore"):  # a signalling NaN is no reason to warn
            index = self._last_begun(mz)
            # Where a channel ends as the next begins, only the end of the last one is left to look at.
            upper = self.upper[-1] if self._touching else self.upper.take(index)
            outside = (index < 0) | ~(mz < upper)
        if outside.any():
            index[outside] = -1
        return index

    def _last_begun(self, mz: NDArray[Any]) -> NDArray[np.intp]:
        """Return the last channel whose lower bound is at or below each value, -1 where none is.

        A search by bisection, but the first steps of all values are one look into a table.
        """
        if self._steps is None:
            return np.searchsorted(self.lower, mz, side="right") - 1
        index = self._steps.before.take(self._steps.of(mz))
        for _ in range(self._steps.most):
            ahead = self._steps.lower.take(index + 1) <= mz
            if not ahead.any():
                break
            index += ahead
        return index

    @cached_property
    def _touching(self) -> bool:
        return bool((self.lower[1:] == self.upper[:-1]).all())

    @cached_property
    def _steps(self) -> _Steps | None:
        return _Steps.over(self.lower)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_steps", "_touching")}


@dataclass(frozen=True)
class _Steps:
    """Equal steps of m/z, each with the channels that begin before it: where the search for a channel starts.

    The step of a value is a rounded product, but the same product for bounds and values and never falling, so a bound
    in an earlier step is below the value, whatever the rounding.
    """

    scale: float
    before: NDArray[np.intp]
    most: int
    lower: Floats

    @classmethod
    def over(cls, lower: Floats) -> _Steps | None:
        """Return steps a quarter as wide as the mean channel; None where channels are few or too uneven."""
        count = 4 * len(lower)
        if len(lower) < MIN_STEPS or not lower[0] < lower[-1]:
            return None
        empty = np.empty(0, np.intp)
        plain = cls(count / float(lower[-1] - lower[0]), empty, 0, np.append(lower, np.nan))
        begun = np.bincount(plain.of(lower), minlength=count + 1)
        most = int(begun.max())
        return None if most > MAX_PER_STEP else replace(plain, before=np.cumsum(begun) - begun - 1, most=most)

    def of(self, mz: NDArray[Any]) -> NDArray[np.intp]:
        """Return the step of each value; values outside and NaN come into the first or the last."""
        # Damaged values may be signalling NaN or overflow: they are in no channel in the end.
        with np.errstate(over="ignore", invalid="ignore"):
            place: Floats = mz - self.lower[0]
            place *= self.scale
            np.fmax(place, 0, out=place)
            np.fmin(place, 4 * (len(self.lower) - 1), out=place)
            return place.astype(np.intp)


@dataclass(frozen=True)
class AxisLaw:
    """How an axis is made, in a form that can be written down and parsed again.

    Attributes
    ----------
    kind
        ``da``, ``ppm``, ``tof``, ``orbitrap``, ``fticr``, ``peaks`` or ``union``.
    width
        Da at ``reference``; ppm for ``ppm``; the half-window in ppm for ``peaks``; the tolerance in ppm for ``union``.
    reference
        m/z at which ``width`` holds, where the law needs one.
    file
        The list of m/z values of ``peaks``.
    """

    kind: str
    width: float
    reference: float = DEFAULT_REFERENCE_MZ
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> AxisLaw:
        """Read a law as it is written on the command line, such as ``ppm:20`` or ``tof:0.05@800``.

        Raises
        ------
        UsageError
            It is none of the laws, or its width is not positive.
        """
        kind, colon, rest = text.partition(":")
        value, _, at = rest.rpartition("@") if "@" in rest else (rest, "", "")
        try:
            if kind == "union" and (rest or not colon) and 0 <= float(rest or 0) < np.inf:
                return cls(kind, float(rest or 0))
            if kind == "peaks" and value:
                return cls(kind, float(at or 20), file=value)
            if kind in _GRIDS and float(value) > 0 and float(at or 1) > 0:
                return cls(kind, float(value), float(at or DEFAULT_REFERENCE_MZ))
        except ValueError:
            pass
        raise UsageError(f'"{text}" is no axis law: expected one of {LAWS_HELP}')

    def __str__(self) -> str:
        if self.kind == "peaks":
            return f"peaks:{self.file}@{self.width:g}"
        if self.kind == "union":
            return f"union:{self.width:g}" if self.width else "union"
        return f"{self.kind}:{self.width:g}" + (
            f"@{self.reference:g}" if self.kind not in ("da", "ppm") else ""
        )

    def bins(self, lowest: float, highest: float) -> SpectralBins:
        """Return the channels that cover a range of m/z, both ends included.

        Raises
        ------
        UsageError
            No positive range, more than ``MAX_CHANNELS`` channels, or ``union``, which a range does not make.
        """
        if self.kind == "union":
            raise UsageError(f"the axis {self} is made from observed values, a range of m/z is not enough")
        if self.kind == "peaks":
            return _peak_bins(Path(self.file or ""), self.width)
        if not 0 < lowest <= highest < np.inf:
            raise UsageError(f"an m/z axis needs 0 < lowest <= highest, found {lowest} and {highest}")
        grid = _GRIDS[self.kind]
        step = self.width * grid.slope(self.reference)
        first, last = np.floor(grid.forward(np.array([lowest, highest])) / step)
        # Rounding can put an end of the range just outside the channel that should hold it: its neighbour does.
        first -= grid.inverse(first * step) > lowest
        last += grid.inverse((last + 1) * step) <= highest
        if last - first + 1 > MAX_CHANNELS:
            raise UsageError(
                f"{self} between m/z {lowest:g} and {highest:g} makes {last - first + 1:.0f} channels, more than "
                f"{MAX_CHANNELS}: choose wider channels"
            )
        steps = np.arange(first, last + 2)
        edges = grid.inverse(steps * step)
        return SpectralBins(grid.inverse((steps[:-1] + 0.5) * step), edges[:-1], edges[1:])


def suggest_law(spacing: Floats, mz: Floats) -> str:
    """Suggest a law from the spacing of neighbouring values at given m/z: the median, in ppm, at most 100.

    Between the peaks of centroid data the spacing says nothing of the resolution; the bound keeps the suggestion sane.

    Parameters
    ----------
    spacing, mz
        ``(n,)`` in Da, and where they were observed.
    """
    positive = spacing > 0
    if not positive.any():
        return "ppm:20"
    ppm = float(np.median(spacing[positive] / mz[positive]) * 1e6)
    return f"ppm:{min(ppm, 100):.3g}"


def parse_range(text: str | Range) -> Range:
    """Read a range as it is written on the command line, such as ``900:1800``.

    Raises
    ------
    UsageError
        It is none, or does not ascend.
    """
    try:
        lower, upper = (float(part) for part in (text.split(":") if isinstance(text, str) else text))
    except ValueError:
        lower = upper = np.nan
    if not lower < upper:
        raise UsageError(f"{text!r} is no range: expected LOWER:UPPER, such as 900:1800")
    return lower, upper


def same_axis(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    """Return whether two axes are the same channels, bit for bit."""
    return a is not None and b is not None and np.array_equal(a, b)


def _peak_bins(file: Path, ppm: float) -> SpectralBins:
    """Read a list of m/z and give each a window of ``ppm`` to both sides; neighbours share the space between them."""
    try:
        centres = np.unique(np.loadtxt(file, dtype=np.float64, ndmin=1, usecols=0, delimiter=","))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read peaks from {file} ({error}): expected one m/z a line") from error
    if not len(centres) or not np.isfinite(centres).all() or centres[0] <= 0:
        raise UsageError(f"{file} must list at least one m/z, all of them positive numbers")
    middle = (centres[1:] + centres[:-1]) / 2
    lower, upper = centres * (1 - ppm * 1e-6), centres * (1 + ppm * 1e-6)
    lower[1:], upper[:-1] = np.maximum(lower[1:], middle), np.minimum(upper[:-1], middle)
    return SpectralBins(centres, lower, upper)
