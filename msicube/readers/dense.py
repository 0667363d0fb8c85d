"""Readers of sources that state their axis: what every such format shares.

A format module finds out what the source holds and gives a :class:`SpectraSource`, which reads numbers and nothing
else; :class:`DenseReader` is the rest of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.axis import SpectralBins
from msicube.errors import UsageError
from msicube.readers.base import CubeInfo, Tile
from msicube.tiling import Window


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
    """

    spectra: SpectraSource
    window: Window
    first: int
    n_channels: int
    dtype: np.dtype[Any]
    acquired: NDArray[np.bool_]

    def read(self) -> Tile:
        """Read the tile."""
        if not self.acquired.any():
            return Tile(np.zeros((*self.window.shape, self.n_channels), self.dtype))
        values = self.spectra.read(self.window, slice(self.first, self.first + self.n_channels))
        values = np.ascontiguousarray(values, self.dtype)
        if not self.acquired.all():
            values = values if values.flags.owndata and values.flags.writeable else values.copy()
            values[~self.acquired] = 0
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
        return DenseTile(self.spectra, window, self.first, len(info.axis), info.dtype, acquired)

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def crop(self, lower: float, upper: float) -> DenseReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included."""
        info = self.info
        assert info.axis is not None
        start, stop = (
            int(at) for at in (np.searchsorted(info.axis, lower), np.searchsorted(info.axis, upper, "right"))
        )
        if start >= stop:
            raise UsageError(
                f"no channel of {info.name} lies in {lower:g} to {upper:g}: its axis goes from {info.axis[0]:g} to "
                f"{info.axis[-1]:g}"
            )
        return replace(self, info=replace(info, axis=info.axis[start:stop]), first=self.first + start)

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
