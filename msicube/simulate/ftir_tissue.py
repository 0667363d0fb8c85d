"""Where a core has tissue, where only paraffin, and where nothing; and what varies over it.

As in :mod:`msicube.simulate.tissue`, everything is a function of the position, so no map of a slide is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.ftir_bands import COMPARTMENTS, MOLECULES
from msicube.simulate.ftir_optics import N_BACKGROUND
from msicube.simulate.tissue import Blob, SmoothFields, offshoot

Floats = NDArray[np.float64]
Regions = NDArray[np.uint8]

#: Codes of :meth:`Core.regions`.
EMPTY, PARAFFIN, TISSUE = 0, 1, 2

#: Of the tissue and of the paraffin around it, as shares of the slide's edges.
_TISSUE_AXES, _PARAFFIN_AXES = 0.36, 0.48
#: Cracks in the paraffin, down to the empty slide.
_N_CRACKS = 3
#: Correlation lengths in pixels: glands and stroma, thickness, optics.
_COMPARTMENT_SCALE, _BIOLOGY_SCALE, _THICKNESS_SCALE, _OPTICS_SCALE = 8.0, 8.0, 20.0, 40.0
_SHARPNESS = 3.0
#: Added to the logarithms of the compartments' shares: most of a core is epithelium and stroma.
_PREVALENCE = (0.8, 0.5, -3.0)


class Surface(NamedTuple):
    """What varies smoothly over a rectangle; every field has mean 0 and variance 1.

    Attributes
    ----------
    regions
        ``(y, x)``
    compartments
        ``(compartment, pixel)`` shares that add up to 1; they mean something in tissue only.
    biology
        ``(molecule, pixel)``
    thickness, paraffin
        ``(pixel,)``
    optics
        ``(source, pixel)``, in the order of :func:`~msicube.simulate.ftir_optics.background_spectra`.
    """

    regions: Regions
    compartments: Floats
    biology: Floats
    thickness: Floats
    paraffin: Floats
    optics: Floats


@dataclass(frozen=True)
class Core:
    """One tissue core in its paraffin."""

    tissue: Blob
    paraffin: Blob
    holes: tuple[Blob, ...]
    cracks: tuple[Blob, ...]
    compartments: SmoothFields
    biology: SmoothFields
    thickness: SmoothFields
    optics: SmoothFields

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, int], *, holes: int) -> Core:
        """Draw the core on a slide of ``shape`` (y, x) pixels."""
        ny, nx = shape
        centre = (ny - 1) / 2, (nx - 1) / 2
        tissue = Blob.draw(rng, centre, (_TISSUE_AXES * ny, _TISSUE_AXES * nx))
        paraffin = Blob.draw(rng, centre, (_PARAFFIN_AXES * ny, _PARAFFIN_AXES * nx))
        inside = [offshoot(rng, tissue, distance=(0.2, 0.7), size=(0.06, 0.14)) for _ in range(holes)]
        cracks = [offshoot(rng, paraffin, distance=(0.92, 1.0), size=(0.06, 0.16)) for _ in range(_N_CRACKS)]
        return cls(
            tissue=tissue,
            paraffin=paraffin,
            holes=tuple(inside),
            cracks=tuple(cracks),
            compartments=SmoothFields.draw(rng, len(COMPARTMENTS), scale=_COMPARTMENT_SCALE),
            biology=SmoothFields.draw(rng, len(MOLECULES), scale=_BIOLOGY_SCALE),
            thickness=SmoothFields.draw(rng, 2, scale=_THICKNESS_SCALE),
            optics=SmoothFields.draw(rng, N_BACKGROUND, scale=_OPTICS_SCALE),
        )

    def regions(self, rows: range, columns: range) -> Regions:
        """Return ``(y, x)`` what a rectangle holds: nothing, paraffin alone, or tissue (with paraffin in it)."""
        y, x = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
        covered = self.paraffin.covers(y, x)
        for crack in self.cracks:
            covered &= ~crack.covers(y, x)
        tissue = self.tissue.covers(y, x)
        for hole in self.holes:
            tissue &= ~hole.covers(y, x)
        return np.where(tissue, TISSUE, np.where(covered, PARAFFIN, EMPTY)).astype(np.uint8)

    def surface(self, rows: range, columns: range) -> Surface:
        """Return what varies over a rectangle."""
        y, x = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
        n_pixels = len(rows) * len(columns)

        def at(fields: SmoothFields) -> Floats:
            return fields.at(y, x).reshape(-1, n_pixels)

        weight = np.exp(_SHARPNESS * at(self.compartments) + np.array(_PREVALENCE)[:, None])
        thickness, paraffin = at(self.thickness)
        return Surface(
            regions=self.regions(rows, columns),
            compartments=weight / weight.sum(axis=0),
            biology=at(self.biology),
            thickness=thickness,
            paraffin=paraffin,
            optics=at(self.optics),
        )


def runs(mask: NDArray[np.bool_], *, first: int = 0) -> list[int]:
    """Return where a mask is true, as ``start, length, start, length, ...`` over its pixels in raster order.

    Parameters
    ----------
    mask
        ``(y, x)``
    first
        Number of its first pixel.
    """
    edges = np.flatnonzero(np.diff(mask.ravel().astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    return np.stack([starts + first, ends - starts], axis=1).ravel().tolist()


def unrolled(listed: list[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the ``(y, x)`` mask that :func:`runs` wrote down."""
    mask = np.zeros(shape[0] * shape[1], dtype=bool)
    for start, length in zip(listed[::2], listed[1::2], strict=True):
        mask[start : start + length] = True
    return mask.reshape(shape)
