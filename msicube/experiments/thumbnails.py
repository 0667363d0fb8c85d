"""Pictures of slides that fit a page: read tile by tile, thinned on the way."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures import Picture

if TYPE_CHECKING:
    from msicube.preprocess import Pipeline
    from msicube.store import Study

#: Longest edge of a picture; a figure of four panels in a row has no more dots.
MAX_EDGE = 512


def thumbnail(
    study: Study,
    slide: str,
    *,
    title: str,
    variable: str = "intensity",
    channels: NDArray[np.intp] | None = None,
    pipeline: Pipeline | None = None,
    max_edge: int = MAX_EDGE,
) -> Picture:
    """Return a picture of a slide, NaN where nothing was measured.

    Parameters
    ----------
    study, slide
        What to read.
    title
        Of the picture.
    variable
        The cube.
    channels
        Of the cube; all if not given.
    pipeline
        Applied to the spectra that are kept.
    max_edge
        Every n-th pixel is kept, with the least n that meets this bound.

    Notes
    -----
    Holds one tile and the picture in memory.
    """
    cube = study.cube(slide, variable)
    acquired = study.acquired(slide)
    step = max(1, ceil(max(cube.shape[:2]) / max_edge))
    rows, columns = (range(0, n, step) for n in cube.shape[:2])
    picture: NDArray[np.float32] | None = None
    for window in cube.tiles():
        block = cube.read(window, channels=channels)
        mask = acquired[window.slices]
        y, x = (np.arange(-a % step, b - a, step) for a, b in (window[:2], window[2:]))
        spectra = block[np.ix_(y, x)]
        values = _transform(spectra, mask[np.ix_(y, x)], pipeline, slide)
        if picture is None:
            picture = np.full((len(rows), len(columns), values.shape[-1]), np.nan, np.float32)
        picture[np.ix_((y + window.y0) // step, (x + window.x0) // step)] = values
    assert picture is not None  # a cube has at least one tile
    size = pixel_size(study, slide)
    return Picture(title, picture, size * step if size else None)


def pixel_size(study: Study, slide: str) -> float | None:
    """Return the pixel size in micrometres, or None where it is not known or pixels are not square."""
    known: dict[str, Any] = study.slide_attrs[slide].get("pixel_size") or {}
    y, x = known.get("y"), known.get("x")
    return float(x) if x and y == x else None


def _transform(
    spectra: NDArray[Any], mask: NDArray[np.bool_], pipeline: Pipeline | None, slide: str
) -> NDArray[Any]:
    measured = spectra[mask]
    if pipeline is not None:
        measured = pipeline.transform_block(measured, slide=slide)
    values = np.full((*mask.shape, measured.shape[-1]), np.nan, np.float32)
    values[mask] = measured
    return values
