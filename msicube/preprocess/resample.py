"""Spectra brought onto another axis."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels, describe
from msicube.preprocess.moments import FloatArray


class Resample(Step):
    """Interpolate each spectrum at the positions of another axis.

    As the first step it takes slides on different axes, each from its own, so that what follows can be fitted on all.

    Parameters
    ----------
    axis
        The new positions (m/z or wavenumber; column numbers of a plain array), all within the old axis: nothing is
        extrapolated.
    kind
        ``"linear"``, or ``"cubic"`` for the cubic spline through all channels, with not-a-knot ends.

    Attributes
    ----------
    axis_ : (n_channels_out,) float64
        The new positions.

    Notes
    -----
    Interpolation reads the spectrum at points; unlike binning it does not conserve the sum of intensities. A NaN or an
    infinity becomes NaN: in the interpolated values beside it for ``"linear"``, in the whole spectrum for ``"cubic"``,
    which depends on all channels. A constant spectrum stays what it is, up to rounding.

    References
    ----------
    C. de Boor, A Practical Guide to Splines (1978), chapter IV.
    """

    takes_any_axis = True
    learned_arrays: ClassVar = {"axis_": ("resampled",)}

    axis_: FloatArray

    def __init__(self, axis: ArrayLike, *, kind: Literal["linear", "cubic"] = "linear") -> None:
        self.axis = axis
        self.kind = kind

    def plan(self, n_channels: int) -> int:
        """Return the number of new positions."""
        if self.kind not in ("linear", "cubic"):
            raise UsageError(f"Resample(kind={self.kind!r}): expected 'linear' or 'cubic'")
        least = 2 if self.kind == "linear" else 4
        if n_channels < least:
            raise UsageError(
                f"Resample(kind={self.kind!r}) needs {least} channels at least, {n_channels} come in"
            )
        return len(self._wanted())

    def foresee(self, channels: Channels) -> Channels | None:
        """Return the new axis."""
        self.plan(channels.n)
        wanted = self._wanted()
        if channels.known:
            lowest, highest = channels.values.min(), channels.values.max()
            if wanted.min() < lowest or wanted.max() > highest:
                raise UsageError(
                    f"Resample to positions from {wanted.min():.8g} to {wanted.max():.8g}, the data have "
                    f"{describe(channels)}: nothing is extrapolated, choose positions inside"
                )
        return Channels(channels.kind, wanted)

    def prepare(self, channels: Channels) -> None:
        """Find the neighbours of each new position."""
        super().prepare(channels)
        self.axis_ = self._wanted()
        order = np.argsort(channels.values, kind="stable")
        self._order, self._positions = order, channels.values[order]
        if (np.diff(self._positions) == 0).any():
            raise UsageError(
                "two channels lie at one position of the axis, between which nothing can be interpolated"
            )

    def on_axis(self, channels: Channels) -> Resample:
        """Return this step for spectra on another axis, brought onto the same new one.

        Raises
        ------
        UsageError
            The new positions do not lie within that axis.
        """
        step: Resample = clone(self)
        step.foresee(channels)
        step.prepare(channels)
        step.seal()
        return step

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Interpolate a block."""
        return self._linear(block) if self.kind == "linear" else self._cubic(block)

    def channels_out(self) -> Channels:
        """Return the new axis."""
        return Channels(self._channels.kind, self.axis_)

    def band(self) -> tuple[NDArray[np.intp], FloatArray]:
        """Return the channels that each new position depends on and what each counts for, ``(n_features, n)`` both.

        A cubic spline depends on all channels, but on those far away as little as float64 rounds: what is left out
        counts for less than 1e-12 together.
        """
        if self.kind == "linear":
            after, share = self._neighbours()
            columns = np.stack([after - 1, after], axis=1)
            return self._order[columns], np.stack([1 - share, share], axis=1)
        reach = 16
        while True:
            columns, weights, lost = self._cubic_band(reach)
            if lost <= 1e-12 or reach >= len(self._positions):
                return self._order[columns], weights
            reach *= 2

    def _neighbours(self) -> tuple[NDArray[np.intp], FloatArray]:
        """Return the place after each new position, and what it counts for; the one before it counts for the rest."""
        after = np.clip(np.searchsorted(self._positions, self.axis_), 1, len(self._positions) - 1)
        span = self._positions[after] - self._positions[after - 1]
        return after, (self.axis_ - self._positions[after - 1]) / span

    def _cubic_band(self, reach: int) -> tuple[NDArray[np.intp], FloatArray, float]:
        """Return places, their weights, and what those beyond ``reach`` places to both sides count for at most."""
        from scipy.interpolate import CubicSpline

        n, width = len(self._positions), min(2 * reach, len(self._positions))
        first = np.clip(self._neighbours()[0] - reach, 0, n - width)
        places = first[:, None] + np.arange(width)
        weights, total = np.zeros(places.shape), np.zeros(len(first))
        for start in range(0, n, 256):  # a part of the whole matrix at a time
            unit = np.eye(min(256, n - start), n, start)
            part = CubicSpline(self._positions, unit, axis=1)(self.axis_)
            total += np.abs(part).sum(axis=0)
            inside = (places >= start) & (places < start + len(part))
            weights[inside] = part[places[inside] - start, np.nonzero(inside)[0]]
        return places, weights, float(np.max(total - np.abs(weights).sum(axis=1), initial=0.0))

    def _linear(self, block: NDArray[Any]) -> NDArray[Any]:
        after, share = self._neighbours()
        share = share.astype(block.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            value = np.take(block, self._order[after], axis=1)
            value *= share
            value += np.take(block, self._order[after - 1], axis=1) * (1 - share)
        value[np.isinf(value)] = np.nan
        return value

    def _cubic(self, block: NDArray[Any]) -> NDArray[Any]:
        from scipy.interpolate import CubicSpline

        lost = ~np.isfinite(block).all(axis=1)
        finite = np.where(lost[:, None], block.dtype.type(0), block) if lost.any() else block
        spline = CubicSpline(self._positions, finite[:, self._order].astype(np.float64), axis=1)
        value = spline(self.axis_).astype(block.dtype)
        value[lost] = np.nan
        return value

    def _wanted(self) -> FloatArray:
        """Return the new positions as an array."""
        wanted = np.asarray(self.axis, np.float64)
        if wanted.ndim != 1 or not len(wanted) or not np.isfinite(wanted).all():
            raise UsageError("Resample(axis): expected a list of finite positions, at least one")
        return wanted
