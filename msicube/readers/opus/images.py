"""Images in an OPUS file, by opusFC.

opusFC returns an image whole. One is kept per process, behind a lock, so that any number of threads read from it;
memory is that of one image, which the format bounds at 2 GiB.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, UnknownFormat
from msicube.readers.base import PixelSize
from msicube.tiling import Window

#: Of several results in a file the first that is there is read.
QUANTITIES = ("AB", "TR", "REFL", "KM", "LREFL", "ATR", "PAS", "RAM", "EMIS", "SSC", "RSC")
#: Steps between pixels may differ by this part of their mean and still be one step.
EVEN = 1e-3

_lock = threading.Lock()
_kept: dict[tuple[str, int, int, tuple[str, ...]], Any] = {}


@dataclass(frozen=True)
class OpusImage:
    """An image; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    path
        The file.
    content
        Which of its contents, as opusFC lists them.
    flips
        Of rows, columns and channels.
    """

    path: Path
    content: tuple[str, ...]
    flips: tuple[bool, bool, bool] = (False, False, False)

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the image."""
        with _lock:
            spectra = load(self.path, self.content).spectra
            turned = spectra[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
            return np.array(turned[(*window.slices, channels)], order="C")


def find(path: Path) -> tuple[str, ...]:
    """Return which content of a file is the image to be read, as opusFC lists it.

    Raises
    ------
    UnknownFormat
        There is none of spectra without derivative.
    CorruptSource
        opusFC cannot read the file.
    MissingDependency
        opusFC is not installed.
    """
    contents = _call("listContents", path)
    for quantity in QUANTITIES:
        for content in contents:
            if content[0] == quantity and content[1].startswith("3D") and content[2] == "NONE":
                return tuple(content)
    raise UnknownFormat(f"{path.name} holds no image of spectra, found {contents}: save one from OPUS")


def load(path: Path, content: tuple[str, ...]) -> Any:
    """Return an image as opusFC gives it; the one before is forgotten."""
    status = path.stat()
    key = (str(path), status.st_mtime_ns, status.st_size, content)
    if key not in _kept:
        _kept.clear()
        _kept[key] = _call("getOpusData", path, content)
    return _kept[key]


def describe(path: Path, content: tuple[str, ...]) -> Any:
    """Return an image, checked to be one.

    Raises
    ------
    UnknownFormat
        It is a time series, or a map of points in regions, which lie on no grid.
    CorruptSource
        Its shape, axis and positions do not agree.
    """
    with _lock:
        image = load(path, content)
    if type(image).__name__ != "ImageDataReturn":
        raise UnknownFormat(
            f"{path.name} holds a {type(image).__name__.removesuffix('Return')}, expected an image on a grid: export "
            f"its spectra as an array with its axis, or measure on a grid"
        )
    expected = (len(image.mapY), len(image.mapX), len(image.x))
    if image.spectra.shape != expected or 0 in expected:
        raise CorruptSource(
            f"{path.name}: spectra of shape {image.spectra.shape}, positions and axis need {expected}: the "
            f"file is damaged"
        )
    return image


def pixel_size(image: Any) -> PixelSize | None:
    """Return the distance of pixels where positions are evenly spaced."""
    steps = []
    for positions in (image.mapY, image.mapX):
        found = np.diff(np.asarray(positions, np.float64))
        if (
            not len(found)
            or not found.mean()
            or (np.abs(found - found.mean()) > EVEN * abs(found.mean())).any()
        ):
            return None
        steps.append(abs(float(found.mean())))
    return PixelSize(steps[0], steps[1], "positions of the map, micrometre in OPUS")


def _call(name: str, path: Path, *arguments: Any) -> Any:
    try:
        import opusFC
    except ImportError as error:
        raise MissingDependency("images of OPUS need opusFC: pip install 'msicube[ftir]'") from error
    try:
        return getattr(opusFC, name)(str(path), *arguments)
    except Exception as error:  # opusFC hands on whatever a damaged file leads it to
        raise CorruptSource(
            f"{path.name}: opusFC cannot read it ({error}): it is damaged, copy it again"
        ) from error
