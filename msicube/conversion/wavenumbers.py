"""The one wavenumber axis of a study: taken as it is, or stated, and never chosen in silence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msicube.axis import MAX_CHANNELS, Range, same_axis
from msicube.errors import AxisMismatch, UsageError
from msicube.readers.dense import channel_range
from msicube.store import Study

WAVENUMBER_AXIS_HELP = (
    "START:STOP:STEP in cm^-1, first (the axis of the first source, or of the study where it has slides), slide:NAME "
    "(of this source or slide), or FILE (one wavenumber a line)"
)


def plan_wavenumbers(
    axes: Mapping[str, NDArray[np.float64]],
    study: Study | None,
    *,
    asked: str | os.PathLike[str] | None,
    crop: Range | None,
) -> NDArray[np.float64] | None:
    """Return the axis that all sources are brought to; None where they share one.

    Parameters
    ----------
    axes
        Of each source, whole.
    study
        What is there already: its axis is that of the new slides too.
    asked
        The axis as the user stated it, see ``WAVENUMBER_AXIS_HELP``.
    crop
        What of it is kept.

    Raises
    ------
    AxisMismatch
        The sources lie on different axes and none was stated, or the study is on another one; the message shows both.
    UsageError
        No such axis, or it cannot be read.
    """
    stored = _stored(study)
    cropped = {name: _cropped(axis, crop, name) for name, axis in axes.items()}
    if asked is None:
        # A source may be a slide of the study already: its crop must be the one that is stored.
        _check_same({**{f"the study's {name}": axis for name, axis in stored.items()}, **cropped})
        return None
    axis = _stated(str(asked), axes, stored)
    axis = _cropped(axis, crop, f"the axis {asked}")
    _check_same({**stored, f"the axis {asked}": axis})
    return axis


def _stated(
    asked: str, axes: Mapping[str, NDArray[np.float64]], stored: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the axis that the user's words stand for."""
    known = {**axes, **stored}
    if asked == "first":
        if not known:
            raise UsageError("no source can be opened: there is no first axis")
        return next(iter({**stored, **axes}.values()))
    if asked.startswith("slide:"):
        name = asked.removeprefix("slide:")
        if name not in known:
            raise UsageError(f"no source and no slide is called {name}; there are {', '.join(known)}")
        return known[name]
    if asked.count(":") == 2 and not Path(asked).exists():
        return _regular(asked)
    return _from_file(Path(asked))


def _regular(asked: str) -> NDArray[np.float64]:
    """Return ``start + i * step`` up to the stop, which counts where rounding alone leaves it out."""
    try:
        start, stop, step = (float(part) for part in asked.split(":"))
    except ValueError:
        start = stop = step = np.nan
    if not (0 <= start <= stop < np.inf and step > 0):
        raise UsageError(f'"{asked}" is no wavenumber axis: expected {WAVENUMBER_AXIS_HELP}')
    count = (stop - start) / step
    if count > MAX_CHANNELS:
        raise UsageError(f"{asked} makes {count:.0f} channels, more than {MAX_CHANNELS}: choose a wider step")
    steps = np.arange(int(np.floor(count + 1e-6)) + 1, dtype=np.float64)
    return np.minimum(start + step * steps, stop)


def _from_file(file: Path) -> NDArray[np.float64]:
    try:
        axis = np.loadtxt(file, dtype=np.float64, ndmin=1, usecols=0, delimiter=",")
    except (OSError, ValueError) as error:
        raise UsageError(
            f'"{file}" is no wavenumber axis ({error}): expected {WAVENUMBER_AXIS_HELP}'
        ) from error
    axis = axis if len(axis) < 2 or axis[0] < axis[-1] else axis[::-1]
    if not len(axis) or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any() or axis[0] < 0:
        raise UsageError(f"{file} must list wavenumbers in order, each once, none negative: one a line")
    return np.ascontiguousarray(axis)


def _stored(study: Study | None) -> dict[str, NDArray[np.float64]]:
    """Return the axis of a slide of the study by its name; they all have the same."""
    if study is None or not study.slides:
        return {}
    return {study.slides[0]: study.axis(study.slides[0])}


def _cropped(axis: NDArray[np.float64], crop: Range | None, name: str) -> NDArray[np.float64]:
    return axis if crop is None else axis[channel_range(axis, *crop, name)]


def _check_same(axes: Mapping[str, NDArray[np.float64]]) -> None:
    """Check that all axes are one.

    Raises
    ------
    AxisMismatch
        They are not; the message shows the first two that differ.
    """
    names = list(axes)
    for name in names[1:]:
        if not same_axis(axes[names[0]], axes[name]):
            raise AxisMismatch(
                f"a study has one wavenumber axis: {describe_axis(names[0], axes[names[0]])}; "
                f"{describe_axis(name, axes[name])}{_difference(axes[names[0]], axes[name])}. Crop to what they share "
                f"(--crop), state the axis that all are interpolated to (--wavenumber-axis {WAVENUMBER_AXIS_HELP}), or "
                f"convert them into studies of their own"
            )


def describe_axis(name: str, axis: NDArray[np.float64]) -> str:
    """Return an axis in words: first, last, number and spacing of its channels."""
    text = f"{name} goes from {axis[0]:.10g} to {axis[-1]:.10g} cm^-1 in {len(axis)} channels"
    return text if len(axis) < 2 else f"{text}, {np.ptp(axis) / (len(axis) - 1):.6g} apart"


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    return f" (at most {np.abs(a - b).max():.3g} cm^-1 from each other)" if len(a) == len(b) else ""
