"""Reading a source a second time through somebody else's code, to check what ours has stored."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.axis import SpectralBins
from msicube.errors import UsageError
from msicube.readers.agilent.spectra import AgilentSpectra
from msicube.readers.base import CubeReader, Tile, TileSource
from msicube.readers.dense import DenseReader
from msicube.readers.imzml import ImzMLReader
from msicube.readers.independent_agilent import agilent_tile
from msicube.readers.resampled import ResampledReader, ResampledTile
from msicube.tiling import Window

# pyimzML reads through one file handle: two threads at once would get each other's bytes.
_ONE_AT_A_TIME = threading.Lock()
_open: dict[Path, Any] = {}


@dataclass(frozen=True)
class IndependentTile:
    """A tile of an imzML file as pyimzML reads it; a :class:`msicube.readers.TileSource`.

    Attributes
    ----------
    path
        The .imzML.
    spectra
        ``(y, x)`` number of the spectrum, -1 where none.
    n_channels, dtype
        Of the tile.
    bins
        The channels of a binned slide; None where spectra lie on the axis.
    first
        Value of a spectrum on the axis with which the tile begins.
    """

    path: Path
    spectra: NDArray[np.int64]
    n_channels: int
    dtype: np.dtype[Any]
    bins: SpectralBins | None
    first: int = 0

    def read(self) -> Tile:
        """Read the tile."""
        values = np.zeros((*self.spectra.shape, self.n_channels), self.dtype)
        with _ONE_AT_A_TIME:
            parser = _parser(self.path)
            for place in zip(*np.nonzero(self.spectra >= 0), strict=True):
                mz, intensity = parser.getspectrum(int(self.spectra[place]))
                if self.bins is None:
                    values[place] = intensity[self.first : self.first + self.n_channels]
                else:
                    values[place] = _binned(mz, intensity, self.bins)
        return Tile(values)


def _binned(mz: NDArray[Any], intensity: NDArray[Any], bins: SpectralBins) -> NDArray[np.float64]:
    """Sum one spectrum into channels, as plainly as it can be written."""
    channel = bins.assign(mz)
    inside = channel >= 0
    return np.bincount(channel[inside], intensity[inside], len(bins)).astype(np.float64, copy=False)


def independent_tile(reader: CubeReader, window: Window) -> TileSource:
    """Return a window of a source as an independent library reads it: pyimzML for imzML, agilent_format for Agilent.

    The numbering of the spectra is that of the file, which both agree on; where a spectrum lies, its axis and its
    intensities come from the other library. Interpolated spectra are interpolated again from its numbers.

    Raises
    ------
    UsageError
        No other library is known for this kind of source.
    MissingDependency
        The library is not installed.
    """
    if isinstance(reader, ResampledReader):
        return _resampled_tile(reader, window)
    if isinstance(reader, DenseReader) and isinstance(reader.spectra, AgilentSpectra):
        return agilent_tile(reader, reader.spectra, window)
    if isinstance(reader, ImzMLReader) and reader.info.axis is not None:
        return _imzml_tile(reader, window)
    raise UsageError(
        "an independent check is there for imzML and Agilent files only: leave out --independent"
    )


def _imzml_tile(reader: ImzMLReader, window: Window) -> IndependentTile:
    assert reader.info.axis is not None
    grid = reader.info.spectrum_index[window.slices]
    with _ONE_AT_A_TIME:
        _check_positions(_parser(reader.path), reader, window)
    bins = None if reader.bins is None or reader.bins.exact else reader.bins
    return IndependentTile(
        reader.path, grid, len(reader.info.axis), reader.info.dtype, bins, reader.first if bins is None else 0
    )


def _resampled_tile(reader: ResampledReader, window: Window) -> ResampledTile:
    tile = reader.tile(window)
    strips = tuple(
        (part, independent_tile(reader.source, part.shifted(window.y0, window.x0))) for part, _ in tile.strips
    )
    return replace(tile, strips=strips)


def _check_positions(parser: Any, reader: ImzMLReader, window: Window) -> None:
    """Check that both libraries place the spectra of a window alike."""
    origin = reader.info.source["origin"]
    for y, x in np.argwhere(reader.info.spectrum_index[window.slices] >= 0).tolist():
        number = int(reader.info.spectrum_index[window.y0 + y, window.x0 + x])
        found = tuple(parser.coordinates[number][:2])
        expected = (window.x0 + x + origin["x"], window.y0 + y + origin["y"])
        if found != expected:
            raise UsageError(f"pyimzML places spectrum {number} at (x, y) = {found}, msicube at {expected}")


def release() -> None:
    """Close the file that was read last."""
    with _ONE_AT_A_TIME:
        for parser in _open.values():
            parser.m.close()
        _open.clear()


def _parser(path: Path) -> Any:
    """Return the parser of a file; the one before is closed."""
    from pyimzml.ImzMLParser import ImzMLParser

    if path not in _open:
        for parser in _open.values():
            parser.m.close()
        _open.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of names that do not match their accession
            _open[path] = ImzMLParser(str(path))
    return _open[path]
