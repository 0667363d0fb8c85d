"""Channels chosen by their place on the spectral axis: positions with a tolerance, and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.preprocess.channels import Channels, describe

#: A distance on the axis: in its own unit, or ``"ppm:20"`` for 20 millionths of the position.
Tolerance: TypeAlias = float | str

#: Pairs ``(lower, upper)`` on the axis, both ends included.
Ranges: TypeAlias = Sequence[Sequence[float]]


def distances(tolerance: Tolerance, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a tolerance at each of some positions, in the unit of the axis.

    Raises
    ------
    UsageError
        It is neither a number nor ``ppm:NUMBER``, or not positive.
    """
    text = str(tolerance)
    kind, colon, number = text.rpartition(":")
    try:
        width = float(number)
    except ValueError:
        width = np.nan
    if (colon and kind != "ppm") or not 0 < width < np.inf:
        raise UsageError(
            f'tolerance {tolerance!r}: expected a positive number in the unit of the axis, or "ppm:20"'
        )
    return np.abs(positions) * width * 1e-6 if colon else np.full(len(positions), width)


def columns_at(channels: Channels, at: ArrayLike, tolerance: Tolerance | None = None) -> NDArray[np.intp]:
    """Return the channel nearest to each position, ascending.

    Parameters
    ----------
    channels
        Where to choose.
    at
        Positions on their axis; for channels that have only a number, numbers.
    tolerance
        How far the channel may lie from the position. None: half the distance to its neighbour, so that every position
        that lies on the axis has a channel.

    Raises
    ------
    UsageError
        A position without a channel, or two positions with the same.
    """
    wanted = np.atleast_1d(np.asarray(at, np.float64))
    if wanted.ndim != 1 or not len(wanted) or not np.isfinite(wanted).all():
        raise UsageError(f"at={at!r}: expected a list of finite positions on the axis")
    order = np.argsort(channels.values, kind="stable")
    axis = channels.values[order]
    after = np.clip(np.searchsorted(axis, wanted), 1, max(len(axis) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(axis) - 1)
    nearest = np.where(np.abs(axis[after] - wanted) < np.abs(wanted - axis[before]), after, before)
    reach = _half_spacing(axis)[nearest] if tolerance is None else distances(tolerance, wanted)
    far = np.flatnonzero(np.abs(axis[nearest] - wanted) > reach)
    if len(far):
        place = far[0]
        raise UsageError(
            f"no channel lies within {reach[place]:.3g} of {wanted[place]:.8g}, the nearest is at "
            f"{axis[nearest[place]]:.8g} ({describe(channels)}): allow a wider tolerance or leave the position out"
        )
    columns, counts = np.unique(order[nearest], return_counts=True)
    if (counts > 1).any():
        twice = columns[counts > 1][0]
        shared = ", ".join(f"{value:.8g}" for value in wanted[order[nearest] == twice])
        raise UsageError(
            f"the positions {shared} fall into one channel, {channels.kind} {channels.values[twice]:.8g}: name each "
            f"channel once"
        )
    return columns


def columns_in(channels: Channels, ranges: Ranges) -> NDArray[np.intp]:
    """Return the channels that lie in any of some ranges, ascending; both ends belong to a range.

    Raises
    ------
    UsageError
        No range, one whose lower end is above its upper, or no channel in any.
    """
    inside = np.zeros(channels.n, bool)
    for one in check_ranges(ranges):
        inside |= (channels.values >= one[0]) & (channels.values <= one[1])
    if not inside.any():
        shown = ", ".join(f"{lower:.6g} to {upper:.6g}" for lower, upper in check_ranges(ranges))
        raise UsageError(f"no channel lies in {shown}: the data have {describe(channels)}")
    return np.flatnonzero(inside)


def check_ranges(ranges: Ranges) -> list[tuple[float, float]]:
    """Return ranges as pairs.

    Raises
    ------
    UsageError
        They are no pairs ``lower <= upper``, or there is none.
    """
    try:
        pairs = [(float(lower), float(upper)) for lower, upper in ranges]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or any(not lower <= upper for lower, upper in pairs):
        raise UsageError(f"ranges {ranges!r}: expected a list of pairs such as [(900, 1350), (1500, 1800)]")
    return pairs


def _half_spacing(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the distance from each channel to its farther neighbour."""
    if len(axis) == 1:
        return np.full(1, np.inf)
    gaps = np.diff(axis)
    return np.maximum(np.append(gaps, gaps[-1]), np.append(gaps[0], gaps)) / 2
