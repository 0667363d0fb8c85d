"""Agilent images through agilent_format, to check what our own reader has stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, UsageError
from msicube.readers.agilent.spectra import AgilentSpectra
from msicube.readers.base import Tile
from msicube.readers.dense import DenseReader
from msicube.tiling import Window


@dataclass(frozen=True)
class IndependentAgilentTile:
    """A tile of an Agilent image as agilent_format reads it; a :class:`msicube.readers.TileSource`.

    Attributes
    ----------
    path
        The file of spectra of a single tile, or the .dmt of a mosaic.
    mosaic
        Which of the two.
    edge
        Rows and columns of a file of spectra.
    window
        In the cube.
    channels
        Of the files.
    acquired
        ``(y, x)`` of the tile.
    fill
        Of the pixels that were not acquired.
    """

    path: Path
    mosaic: bool
    edge: int
    window: Window
    channels: slice
    acquired: NDArray[np.bool_]
    fill: float

    def read(self) -> Tile:
        """Read the tile; every file that it touches is loaded whole, one at a time."""
        n_channels = self.channels.stop - self.channels.start
        values = np.full((*self.window.shape, n_channels), self.fill, np.float32)
        edge, window = self.edge, self.window
        for row in range(window.y0 // edge, -(-window.y1 // edge)):
            for column in range(window.x0 // edge, -(-window.x1 // edge)):
                place = Window(row * edge, (row + 1) * edge, column * edge, (column + 1) * edge)
                part = place.intersect(window)
                assert part is not None
                target = part.shifted(-window.y0, -window.x0).slices
                if self.acquired[target].any():
                    image = self._image(row, column)[..., self.channels]
                    values[target] = image[part.shifted(-place.y0, -place.x0).slices]
        return Tile(values)

    def _image(self, row: int, column: int) -> NDArray[Any]:
        """Return one file of spectra, the top row first: the package gives it from the bottom."""
        library = _agilent_format()
        try:
            if not self.mosaic:
                return np.asarray(library.agilentImage(str(self.path)).data)[::-1]
            tiles = library.agilentMosaicTiles(str(self.path)).tiles
            return np.asarray(tiles[column, row]())[::-1]
        except (OSError, ValueError, IndexError, AttributeError, KeyError) as error:
            raise CorruptSource(
                f"agilent_format cannot read row {row}, column {column} of the tiles of {self.path.name} ({error}): "
                f"compare without --independent"
            ) from error


def _agilent_format() -> Any:
    try:
        import agilent_format
    except ImportError as error:
        raise MissingDependency(
            "an independent check of Agilent images needs agilent-format: pip install agilent-format"
        ) from error
    return agilent_format


def agilent_tile(reader: DenseReader, spectra: AgilentSpectra, window: Window) -> IndependentAgilentTile:
    """Return a window of an Agilent image as agilent_format reads it, once both have the same axis.

    Raises
    ------
    UsageError
        The file of a whole mosaic, which agilent_format does not read; or it finds another axis.
    MissingDependency
        It is not installed.
    """
    info = reader.info
    assert info.axis is not None
    library = _agilent_format()
    mosaic = info.source["kind"] == "mosaic"
    first = next(name for row in spectra.names for name in row if name is not None)
    master = spectra.folder / str(info.source["master"]["name"])
    path = master if mosaic else spectra.folder / first
    if mosaic and not first.lower().endswith(".dmd"):
        raise UsageError(f"agilent_format does not read {first} alone: leave out --independent")
    with master.open("rb") as file:
        axis = np.array(library.agilent._get_wavenumbers(file)["wavenumbers"])
    channels = slice(reader.first, reader.first + len(info.axis))
    if not np.array_equal(axis[channels], info.axis):
        raise UsageError(f"agilent_format finds another axis in {master.name} than msicube")
    acquired = info.acquired[window.slices]
    return IndependentAgilentTile(path, mosaic, spectra.shape[0], window, channels, acquired, info.fill)
