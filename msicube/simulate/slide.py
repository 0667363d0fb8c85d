"""One simulated slide: strips of pixels, each a pure function of the slide and its place, written as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.analytes import Chemistry, draw_chemistry
from msicube.simulate.design import SlideDesign, random_stream
from msicube.simulate.exact import exact_product
from msicube.simulate.parameters import Parameters
from msicube.simulate.spectra import (
    BatchEffect,
    Floats,
    Lines,
    Peaks,
    Response,
    Singles,
    TofAxis,
    centroid_response,
    profile_response,
    resolve,
)
from msicube.simulate.tissue import Tissue, TissueSample
from msicube.writers.imzml import ImzMLWriter

N_FACTORS = 4
#: Standard deviations of log abundances: between patients, slides, places (in all and by factor), and pixels.
PATIENT_SPREAD, SLIDE_SPREAD, FACTOR_SPREAD, PIXEL_SPREAD = 0.18, 0.06, 0.15, 0.2
#: Of the log signal and the log chemical noise of a pixel: the smooth drift, and from pixel to pixel.
DRIFT_SPREAD, SHOT_SPREAD = 0.25, 0.2
#: A data point of a processed file stands above the chemical noise by so many deviations.
SIGNAL_TO_NOISE = 3.0
#: Standard deviation of the position of a centroid in peak widths, cut off where neighbours could change places.
JITTER, JITTER_CUT = 0.03, 4.0
#: Bounds on a strip, which make memory independent of the slide's size. They are part of what a seed means.
STRIP_PIXELS, STRIP_VALUES = 512, 2**19


class Strip(NamedTuple):
    """A rectangle of pixels that is simulated at once: whole rows, or a part of a very wide one."""

    number: int
    rows: range
    columns: range


class Block(NamedTuple):
    """Measured spectra of a strip; ``counts`` is ``(spectrum, column)``, ``y`` and ``x`` are ``(spectrum,)``."""

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    counts: Singles


@dataclass(frozen=True)
class StudyModel:
    """What all slides of a study share.

    Attributes
    ----------
    lines
        Of all ions and of the chemical noise, as sharp lines.
    peaks
        What the instrument resolves of them.
    """

    parameters: Parameters
    axis: TofAxis
    chemistry: Chemistry
    lines: Lines
    peaks: Peaks

    @classmethod
    def draw(cls, parameters: Parameters) -> StudyModel:
        """Draw the ions of a study."""
        rng, axis = random_stream(parameters.seed, "chemistry"), parameters.axis
        chemistry = draw_chemistry(
            rng, mz_range=axis.mz_range, n_ions=parameters.ions, n_markers=parameters.markers
        )
        lines = Lines.draw(rng, chemistry, axis.mz_range)
        return cls(parameters, axis, chemistry, lines, resolve(axis, lines))

    @property
    def mz(self) -> Floats:
        """``(column,)`` the channels of a profile or the peaks of a centroided spectrum."""
        return self.axis.mz if self.parameters.representation == "profile" else self.peaks.mz

    def response(self, effect: BatchEffect) -> Response:
        """Return what the instrument makes of one unit of each source on one slide."""
        if self.parameters.representation == "profile":
            return profile_response(self.axis, self.lines, effect)
        return centroid_response(self.axis, self.lines, self.peaks, effect)


@dataclass(frozen=True)
class SlideModel:
    """One slide, drawn and ready to be measured.

    Attributes
    ----------
    abundance
        ``(compartment, ion)`` of this patient and slide.
    loading
        ``(factor, ion)`` how the latent factors move the log abundances.
    uuid
        Of the imzML pair.
    """

    study: StudyModel
    design: SlideDesign
    tissue: Tissue
    effect: BatchEffect
    response: Response
    abundance: Floats
    loading: Floats
    uuid: UUID

    @classmethod
    def draw(cls, study: StudyModel, design: SlideDesign) -> SlideModel:
        """Draw a slide from its own random numbers and its patient's."""
        parameters, n_ions = study.parameters, len(study.chemistry.mz)
        rng = random_stream(parameters.seed, "slide", design.index)
        patient = random_stream(parameters.seed, "patient", design.patient)
        own = PATIENT_SPREAD * patient.standard_normal(n_ions) + SLIDE_SPREAD * rng.standard_normal(n_ions)
        log_abundance = study.chemistry.abundance(
            tumour=design.label == "tumour", class_difference=parameters.class_difference
        )
        effect = BatchEffect.draw(rng, parameters.batch_effect)
        return cls(
            study=study,
            design=design,
            tissue=Tissue.draw(rng, parameters.shape, holes=parameters.holes, n_factors=N_FACTORS),
            effect=effect,
            response=study.response(effect),
            abundance=np.exp(log_abundance + parameters.patient_effect * own),
            loading=FACTOR_SPREAD * rng.standard_normal((N_FACTORS, n_ions)),
            uuid=UUID(bytes=rng.bytes(16), version=4),
        )

    def strips(self) -> Iterator[Strip]:
        """Yield the strips in the order of the raster."""
        ny, nx = self.study.parameters.shape
        pixels = max(1, min(STRIP_PIXELS, STRIP_VALUES // len(self.study.mz)))
        height, width = max(1, pixels // nx), min(nx, pixels)
        corners = ((y, x) for y in range(0, ny, height) for x in range(0, nx, width))
        for number, (y, x) in enumerate(corners):
            yield Strip(number, range(y, min(y + height, ny)), range(x, min(x + width, nx)))

    def block(self, strip: Strip) -> Block:
        """Measure a strip: whole counts, never negative; in a processed file 0 where nothing exceeds the noise."""
        rng = random_stream(self.study.parameters.seed, "slide", self.design.index, strip.number)
        sample = self.tissue.sample(strip.rows, strip.columns)
        background = _log_normal(rng, sample.matrix)
        amounts = self._amounts(rng, sample, background)
        counts = self.response.measure(rng, amounts, background)
        if self.study.parameters.mode == "processed":
            counts -= background[:, None] * self.response.baseline
            counts[counts < self.response.threshold(SIGNAL_TO_NOISE)] = 0
        np.rint(counts, out=counts)
        np.maximum(counts, 0, out=counts)
        return Block(sample.y, sample.x, counts)

    def write(self, writer: ImzMLWriter) -> None:
        """Measure the slide strip by strip and write it."""
        for strip in self.strips():
            y, x, counts = self.block(strip)
            if self.study.parameters.mode == "continuous":
                writer.write_block(y, x, counts)
            else:
                spectrum, column = np.nonzero(counts)
                lengths = np.bincount(spectrum, minlength=len(y))
                mz = self._positions(strip, column)
                writer.write_ragged(y, x, mz, counts[spectrum, column], lengths)

    def _amounts(self, rng: np.random.Generator, sample: TissueSample, background: Singles) -> Floats:
        """Return ``(pixel, source)``: every ion, then the chemical noise."""
        n_ions = self.abundance.shape[1]
        scatter = rng.standard_normal((len(sample.y), n_ions), dtype=np.float32)
        scatter *= np.float32(PIXEL_SPREAD)
        scatter += exact_product(sample.biology, self.loading).astype(np.float32)
        np.exp(scatter, out=scatter)
        ions = exact_product(sample.compartments, self.abundance)
        ions *= scatter
        ions *= _log_normal(rng, sample.brightness)[:, None]
        return np.concatenate([ions, background[:, None]], axis=1)

    def _positions(self, strip: Strip, column: NDArray[np.intp]) -> Floats:
        """Return the m/z of data points: the channels of a profile; for centroids with the errors of their masses."""
        mz = self.response.mz[column]
        if self.study.parameters.representation == "profile":
            return mz
        rng = random_stream(self.study.parameters.seed, "slide", self.design.index, strip.number, 1)
        error = np.clip(rng.standard_normal(len(mz)), -JITTER_CUT, JITTER_CUT)
        shifted = mz * (1 + 1e-6 * self.effect.mass_shift)
        return shifted + JITTER * self.study.axis.fwhm(mz) * error


def _log_normal(rng: np.random.Generator, smooth: Floats) -> Singles:
    """Return a log-normal factor a pixel, partly smooth and partly of the pixel alone."""
    scatter = DRIFT_SPREAD * smooth + SHOT_SPREAD * rng.standard_normal(len(smooth))
    return np.exp(scatter).astype(np.float32)
