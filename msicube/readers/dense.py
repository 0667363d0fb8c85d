"""Readers of sources that state their axis: what every such format shares.

A format module finds out what the source holds and gives a :class:`SpectraSource`, which reads numbers and nothing
else; :class:`DenseReader` is the rest of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.axis import SpectralBins
from msicube.errors import UsageError
from msicube.readers.base import CubeInfo, Tile
from msicube.tiling import Window


def geometry(*, flips: Iterable[str] = ()) -> dict[str, Any]:
    """Return the entry ``geometry`` of a source: how pixels lie in the store, and what was turned to get there.

    Parameters
    ----------
    flips
        Each way in which the file has it otherwise, in words, such as ``"rows: the file begins at the bottom"`` or
        ``"channels: the file descends"``.
    """
    return {"origin": "top left", "y": "down", "x": "right", "axis": "ascending", "flips": list(flips)}


def channel_range(axis: NDArray[np.float64], lower: float, upper: float, name: str) -> slice:
    """Return the channels from ``lower`` to ``upper``, both included.

    Raises
    ------
    UsageError
        No channel lies there.
    """
    start, stop = (int(at) for at in (np.searchsorted(axis, lower), np.searchsorted(axis, upper, "right")))
    if start >= stop:
        raise UsageError(
            f"no channel of {name} lies in {lower:g} to {upper:g}: its axis goes from {axis[0]:g} to {axis[-1]:g}"
        )
    return slice(start, stop)


def cropped(info: CubeInfo, lower: float, upper: float) -> tuple[CubeInfo, slice]:
    """Return what is known of a cube on the channels from ``lower`` to ``upper``, and which these are.

    Raises
    ------
    UsageError
        No channel lies there.
    """
    assert info.axis is not None
    chosen = channel_range(info.axis, lower, upper, info.name)
    axis = info.axis[chosen]
    origin = {**info.axis_origin, "crop": [float(axis[0]), float(axis[-1])]}
    return replace(info, axis=axis, axis_origin=origin), chosen


class SpectraSource(Protocol):
    """Where the numbers of a cube lie: small, picklable, safe to read from any number of threads and processes."""

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube.

        Parameters
        ----------
        window
            Inside the cube; row 0 is the top row, whatever the file does.
        channels
            A slice of step 1 on the ascending axis of the whole source, whatever the file does.

        Returns
        -------
        ndarray
            ``(y, x, channel)`` as the source has it. What stands where nothing was acquired does not matter.

        Raises
        ------
        CorruptSource
            The numbers are not there.
        """


@dataclass(frozen=True)
class DenseTile:
    """A tile of a dense source; a :class:`msicube.readers.TileSource`.

    Attributes
    ----------
    spectra
        Where the numbers lie.
    window
        In the cube.
    first, n_channels
        Of the channels on the axis of the whole source.
    dtype
        Of the tile.
    acquired
        ``(y, x)`` of the tile.
    fill
        Of the pixels that were not acquired.
    """

    spectra: SpectraSource
    window: Window
    first: int
    n_channels: int
    dtype: np.dtype[Any]
    acquired: NDArray[np.bool_]
    fill: float = 0

    def read(self) -> Tile:
        """Read the tile."""
        if not self.acquired.any():
            return Tile(np.full((*self.window.shape, self.n_channels), self.fill, self.dtype))
        values = self.spectra.read(self.window, slice(self.first, self.first + self.n_channels))
        values = np.ascontiguousarray(values, self.dtype)
        if not self.acquired.all():
            values = values if values.flags.owndata and values.flags.writeable else values.copy()
            values[~self.acquired] = self.fill
        return Tile(values)


@dataclass(frozen=True)
class DenseReader:
    """A cube of a source that states its axis; see :class:`msicube.readers.CubeReader` for the methods.

    Attributes
    ----------
    info
        Its axis is the part that is read.
    spectra
        Where the numbers lie.
    first
        Where the axis of ``info`` begins on that of the whole source.
    """

    info: CubeInfo
    spectra: SpectraSource
    first: int = 0

    def tile(self, window: Window) -> DenseTile:
        """Return one tile, ready to be read anywhere."""
        info = self.info
        assert info.axis is not None
        if not (0 <= window.y0 < window.y1 <= info.shape[0] and 0 <= window.x0 < window.x1 <= info.shape[1]):
            raise UsageError(f"{window} is empty or leaves {info.name} of {info.shape} pixels")
        acquired = info.acquired[window.slices]
        return DenseTile(self.spectra, window, self.first, len(info.axis), info.dtype, acquired, info.fill)

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def crop(self, lower: float, upper: float) -> DenseReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included."""
        info, chosen = cropped(self.info, lower, upper)
        return replace(self, info=info, first=self.first + chosen.start)

    def survey(self) -> None:
        """Return None: the source states its axis."""

    def with_axis(self, bins: SpectralBins, law: str) -> DenseReader:
        """Refuse: nothing is binned here.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(f"{self.info.name} states its own axis: it cannot be binned on {law}")

    def verify(self) -> dict[str, str]:
        """Return no checksums; formats that declare some override this."""
        return {}
