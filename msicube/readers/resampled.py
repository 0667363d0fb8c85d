"""The same cube on another spectral axis, by interpolation inside the range of its own and never beyond."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msicube.axis import SpectralBins, same_axis
from msicube.errors import UsageError
from msicube.readers.base import CubeInfo, CubeReader, Tile, TileSource
from msicube.readers.dense import cropped
from msicube.tiling import Window, windows

#: Straight lines between neighbours, or one cubic spline through all channels of the source (not-a-knot ends).
Interpolation = Literal["linear", "cubic"]
#: Axis law of spectra that were interpolated; the method follows.
RESAMPLED = "resampled"
#: Bytes of source spectra, and of float64 spectra, that are in memory at a time besides the tile.
STRIP_BYTES = 8 * 2**20


@dataclass(frozen=True)
class ResampledTile:
    """A tile of interpolated spectra; a :class:`msicube.readers.TileSource`.

    Attributes
    ----------
    strips
        Parts of the tile, each a window relative to it and where its spectra come from.
    shape
        Rows and columns of the tile.
    acquired
        ``(y, x)`` of the tile.
    source_axis, axis
        ``(channel,)`` of the source and of the tile.
    method
        How it is interpolated.
    dtype, fill
        Of the tile, and of the pixels that were not acquired.
    """

    strips: tuple[tuple[Window, TileSource], ...]
    acquired: NDArray[np.bool_]
    source_axis: NDArray[np.float64]
    axis: NDArray[np.float64]
    method: Interpolation
    dtype: np.dtype[Any]
    fill: float

    def read(self) -> Tile:
        """Read the tile."""
        out = np.full((*self.acquired.shape, len(self.axis)), self.fill, self.dtype)
        rows = max(1, STRIP_BYTES // (8 * max(len(self.axis), len(self.source_axis))))
        for window, strip in self.strips:
            acquired = self.acquired[window.slices]
            if not acquired.any():
                continue
            spectra, target = strip.read().values, out[window.slices]
            y, x = np.nonzero(acquired)
            for start in range(0, len(y), rows):
                place = y[start : start + rows], x[start : start + rows]
                target[place] = interpolate(spectra[place], self.source_axis, self.axis, self.method)
        return Tile(out)


@dataclass(frozen=True)
class ResampledReader:
    """A cube on another axis; see :class:`msicube.readers.CubeReader` for the methods.

    Attributes
    ----------
    source
        The cube on its own axis.
    info
        On the new axis.
    method
        How it is interpolated.
    """

    source: CubeReader
    info: CubeInfo
    method: Interpolation

    def tile(self, window: Window) -> ResampledTile:
        """Return one tile, ready to be read anywhere."""
        whole, info = self.source.info, self.info
        assert whole.axis is not None
        assert info.axis is not None
        self.source.tile(window)  # refuses a window that leaves the cube
        pixels = max(1, STRIP_BYTES // (len(whole.axis) * whole.dtype.itemsize))
        height, width = window.shape
        strips = windows((height, width), (max(1, pixels // width), min(width, pixels)))
        parts = tuple((w, self.source.tile(w.shifted(window.y0, window.x0))) for w in strips)
        acquired = info.acquired[window.slices]
        return ResampledTile(parts, acquired, whole.axis, info.axis, self.method, info.dtype, info.fill)

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def crop(self, lower: float, upper: float) -> ResampledReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included."""
        return replace(self, info=cropped(self.info, lower, upper)[0])

    def survey(self) -> None:
        """Return None: the axis is given."""

    def with_axis(self, bins: SpectralBins, law: str) -> ResampledReader:
        """Refuse: nothing is binned here."""
        raise UsageError(f"{self.info.name} is interpolated: it cannot be binned on {law}")

    def verify(self) -> dict[str, str]:
        """Check the source against its checksums."""
        return self.source.verify()


def resampled(reader: CubeReader, axis: NDArray[np.float64], method: Interpolation) -> CubeReader:
    """Return a cube on another axis; as it is, bit for bit, where its own channels are that axis.

    Parameters
    ----------
    reader
        Of a source that states its axis.
    axis
        ``(channel,)`` strictly ascending.
    method
        ``"linear"`` or ``"cubic"``.

    Raises
    ------
    UsageError
        The axis goes beyond that of the source: nothing is extrapolated.
    """
    info = reader.info
    assert info.axis is not None
    lower, upper = float(axis[0]), float(axis[-1])
    if lower < info.axis[0] or upper > info.axis[-1]:
        raise UsageError(
            f"the axis from {lower:.10g} to {upper:.10g} goes beyond {info.name}, which was measured from "
            f"{info.axis[0]:.10g} to {info.axis[-1]:.10g}: nothing is extrapolated, choose a range inside it"
        )
    own = info.axis[(info.axis >= lower) & (info.axis <= upper)]
    if same_axis(own, axis):
        return reader if len(own) == len(info.axis) else reader.crop(lower, upper)
    origin = {
        "interpolation": method,
        "source_axis": {
            "first": float(info.axis[0]),
            "last": float(info.axis[-1]),
            "channels": len(info.axis),
        },
    }
    if method == "linear":  # of a spline every channel counts, of a line just the neighbours
        first = int(np.searchsorted(info.axis, lower, "right")) - 1
        last = int(np.searchsorted(info.axis, upper))
        reader = reader.crop(float(info.axis[first]), float(info.axis[last]))
    dtype = info.dtype if info.dtype == np.float32 else np.dtype(np.float64)
    law = f"{RESAMPLED}:{method}"
    return ResampledReader(
        reader, replace(info, axis=axis, axis_law=law, axis_origin=origin, dtype=dtype), method
    )


def interpolate(
    spectra: NDArray[Any],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    method: Interpolation,
) -> NDArray[np.float64]:
    """Interpolate spectra in float64.

    Where a channel of the target is one of the source, a straight line gives the very value. NaN goes into the channels
    beside it by straight lines, and into every channel of its spectrum by a spline.

    Parameters
    ----------
    spectra
        ``(spectrum, channel)``.
    source, target
        Axes, strictly ascending; the target inside the source.
    method
        ``"linear"`` or ``"cubic"``.

    Returns
    -------
    ndarray
        ``(spectrum, len(target))`` float64.
    """
    if len(source) == 1:
        return spectra.astype(np.float64)
    if method == "cubic":
        return _cubic(spectra, source, target)
    left = np.clip(np.searchsorted(source, target, "right") - 1, 0, len(source) - 2)
    weight = (target - source[left]) / (source[left + 1] - source[left])
    below, above = spectra[:, left].astype(np.float64), spectra[:, left + 1].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities give NaN, as they should
        values = below + (above - below) * weight
    values = np.where(weight == 0, below, values)
    return np.where(weight == 1, above, values)


def _cubic(
    spectra: NDArray[Any], source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.interpolate import CubicSpline

    values = np.full((len(spectra), len(target)), np.nan)
    finite = np.isfinite(spectra).all(axis=1)
    if finite.any():
        values[finite] = CubicSpline(source, spectra[finite].astype(np.float64), axis=1)(target)
    return values
