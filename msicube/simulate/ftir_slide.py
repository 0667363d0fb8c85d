"""One simulated core: tiles of spectra, each a pure function of the slide and its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.design import random_stream
from msicube.simulate.exact import exact_product
from msicube.simulate.ftir_bands import (
    AMOUNTS,
    BANDS,
    COMPARTMENTS,
    MOLECULES,
    amount_effect,
    band_shift,
    paraffin_spectrum,
    pure_spectra,
)
from msicube.simulate.ftir_design import CoreDesign
from msicube.simulate.ftir_optics import (
    BASELINE_SPREAD,
    DEAD_NOISE,
    NOISE_SPREAD,
    RADII,
    SCATTER_SPREAD,
    SCATTER_STRENGTH,
    VAPOUR_SPREAD,
    background_spectra,
    noise_level,
)
from msicube.simulate.ftir_parameters import FTIRParameters
from msicube.simulate.ftir_tissue import PARAFFIN, TISSUE, Core, Surface
from msicube.writers.agilent import AgilentMosaicWriter

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

#: Standard deviations of log amounts: between patients, slides, places, and pixels.
PATIENT_SPREAD, SLIDE_SPREAD, PLACE_SPREAD, PIXEL_SPREAD = 0.13, 0.05, 0.20, 0.14
#: Standard deviations of the positions of all bands: between patients and slides, in cm^-1.
PATIENT_SHIFT, SLIDE_SHIFT = 0.35, 0.15
#: Natural-log standard deviations of thickness: over a slide, and from pixel to pixel.
THICKNESS_SPREAD, THICKNESS_PIXEL_SPREAD = 0.22, 0.06
#: Median amount of paraffin beside and in tissue, and its natural-log standard deviation.
PARAFFIN_BESIDE, PARAFFIN_IN_TISSUE, PARAFFIN_SPREAD = 1.2, 0.35, 0.25
#: Scatter of paraffin alone, as a share of tissue's.
PARAFFIN_SCATTER = 0.15
#: Channels that are computed at once; part of what a seed means is their order, not their number.
_CHANNELS_AT_ONCE = 64


class TilePlace(NamedTuple):
    """A tile of the mosaic: its number, its place in the grid of tiles, and its pixels."""

    number: int
    row: int
    column: int
    rows: range
    columns: range


@dataclass(frozen=True)
class FTIRStudyModel:
    """What all slides of a study share.

    Attributes
    ----------
    dead
        ``(y, x)`` of a tile: elements of the detector that see nothing. They are the same in every tile.
    """

    parameters: FTIRParameters
    dead: NDArray[np.bool_]

    @classmethod
    def draw(cls, parameters: FTIRParameters) -> FTIRStudyModel:
        """Draw the detector of a study."""
        edge = parameters.tile_size
        dead = np.zeros(edge * edge, dtype=bool)
        n_dead = round(parameters.dead_pixels * edge * edge)
        dead[random_stream(parameters.seed, "detector").choice(edge * edge, n_dead, replace=False)] = True
        return cls(parameters, dead.reshape(edge, edge))

    @property
    def wavenumber(self) -> Floats:
        """``(channel,)`` in cm^-1."""
        return self.parameters.axis.wavenumber


@dataclass(frozen=True)
class FTIRSlideModel:
    """One slide, drawn and ready to be measured.

    Attributes
    ----------
    core
        Where what is.
    amounts
        ``(compartment, molecule)`` of this patient, class and slide.
    shifts
        Changes of position by name of the band, in cm^-1.
    vapour
        Strongest line of water vapour, the slide's mean.
    sources
        ``(source, channel)`` absorbance of an amount of 1: molecules, paraffin, then the background.
    """

    study: FTIRStudyModel
    design: CoreDesign
    core: Core
    amounts: Floats
    shifts: dict[str, float]
    vapour: float
    sources: Floats

    @classmethod
    def draw(cls, study: FTIRStudyModel, design: CoreDesign) -> FTIRSlideModel:
        """Draw a slide from its own random numbers and its patient's."""
        parameters, n = study.parameters, len(MOLECULES)
        rng = random_stream(parameters.seed, "slide", design.index)
        patient = random_stream(parameters.seed, "patient", design.patient)
        own = PATIENT_SPREAD * patient.standard_normal(n) + SLIDE_SPREAD * rng.standard_normal(n)
        moved = PATIENT_SHIFT * patient.standard_normal(len(BANDS))
        moved += SLIDE_SHIFT * rng.standard_normal(len(BANDS))
        effect = amount_effect(design.label, class_difference=parameters.class_difference)
        involvement = np.array(list(COMPARTMENTS.values()))[:, None]
        base = np.log(np.array(list(AMOUNTS.values())).T)
        by_class = band_shift(design.label, class_difference=parameters.class_difference)
        shifts = {
            band.name: by_class.get(band.name, 0.0) + parameters.patient_effect * float(shift)
            for band, shift in zip(BANDS, moved, strict=True)
        }
        wavenumber = study.wavenumber
        sources = [
            pure_spectra(wavenumber, shifts),
            paraffin_spectrum(wavenumber)[None],
            background_spectra(wavenumber),
        ]
        return cls(
            study=study,
            design=design,
            core=Core.draw(rng, parameters.shape, holes=parameters.holes),
            amounts=np.exp(base + involvement * effect + parameters.patient_effect * own),
            shifts=shifts,
            vapour=VAPOUR_SPREAD[0] * float(rng.standard_normal()),
            sources=np.concatenate(sources),
        )

    def tiles(self) -> Iterator[TilePlace]:
        """Yield the tiles, row by row."""
        (n_rows, n_columns), edge = self.study.parameters.tiles, self.study.parameters.tile_size
        for number in range(n_rows * n_columns):
            row, column = divmod(number, n_columns)
            rows = range(row * edge, (row + 1) * edge)
            yield TilePlace(number, row, column, rows, range(column * edge, (column + 1) * edge))

    def measure(self, tile: TilePlace) -> Singles:
        """Return ``(y, x, channel)`` measured absorbances of a tile."""
        parameters, wavenumber = self.study.parameters, self.study.wavenumber
        rng = random_stream(parameters.seed, "slide", self.design.index, tile.number)
        mixture = self.mixture(rng, self.core.surface(tile.rows, tile.columns))
        pixel_noise = parameters.noise * np.exp(NOISE_SPREAD * rng.standard_normal(mixture.shape[1]))
        level, deviation = noise_level(wavenumber).astype(np.float32), pixel_noise.astype(np.float32)
        values = np.empty((len(wavenumber), mixture.shape[1]), np.float32)
        for first in range(0, len(wavenumber), _CHANNELS_AT_ONCE):
            part = slice(first, first + _CHANNELS_AT_ONCE)
            values[part] = exact_product(self.sources[:, part].T, mixture)
            noise = rng.standard_normal(values[part].shape, dtype=np.float32)
            noise *= level[part, None]
            noise *= deviation
            values[part] += noise
        dead = self.study.dead.ravel()
        values[:, dead] = DEAD_NOISE * rng.standard_normal((len(wavenumber), dead.sum()), dtype=np.float32)
        return values.reshape(len(wavenumber), len(tile.rows), len(tile.columns)).transpose(1, 2, 0)

    def mixture(self, rng: np.random.Generator, surface: Surface) -> Floats:
        """Return ``(source, pixel)``: how much of each source the light of each pixel meets."""
        regions = surface.regions.ravel()
        tissue, n = regions == TISSUE, regions.size
        thickness = THICKNESS_SPREAD * surface.thickness + THICKNESS_PIXEL_SPREAD * rng.standard_normal(n)
        scatter = PLACE_SPREAD * surface.biology + PIXEL_SPREAD * rng.standard_normal(surface.biology.shape)
        molecules = exact_product(self.amounts.T, surface.compartments) * np.exp(scatter + thickness)
        median = np.select([tissue, regions == PARAFFIN], [PARAFFIN_IN_TISSUE, PARAFFIN_BESIDE], 0.0)
        paraffin = median * np.exp(PARAFFIN_SPREAD * surface.paraffin)
        matter = np.select([tissue, regions == PARAFFIN], [1.0, PARAFFIN_SCATTER], 0.0)
        background = self._background(surface.optics, matter)
        return np.concatenate([np.where(tissue, molecules, 0.0), paraffin[None], background])

    def _background(self, optics: Floats, matter: Floats) -> Floats:
        """Return ``(source, pixel)`` in the order of the background's spectra; ``matter`` is what scatters."""
        strength = self.study.parameters.scatter
        vapour, polynomial, spheres = optics[0], optics[1:4], optics[4:]
        share = np.exp(spheres)
        share /= share.sum(axis=0)
        # The last sphere's field also makes the strength vary, so that shape and strength of the scatter are
        # related.
        total = strength * SCATTER_STRENGTH * matter * np.exp(SCATTER_SPREAD * spheres[len(RADII) - 1])
        return np.concatenate(
            [
                (self.vapour + VAPOUR_SPREAD[1] * vapour)[None],
                strength * np.array(BASELINE_SPREAD)[:, None] * polynomial * (0.3 + 0.7 * matter),
                total * share,
            ]
        )

    def write(self, writer: AgilentMosaicWriter) -> None:
        """Measure the slide tile by tile and write it."""
        for tile in self.tiles():
            writer.write_tile(tile.row, tile.column, self.measure(tile))
