"""Where there is tissue on a slide and what it is made of there.

Everything is a function of the position, evaluated where it is needed: no map of a slide is ever held, so memory does
not grow with its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.analytes import COMPARTMENTS
from msicube.simulate.exact import exact_product

Floats = NDArray[np.float64]

_N_WAVES = 48
_N_HARMONICS = 6
#: Pixels over which compartments, and the slower fields, change.
_COMPARTMENT_SCALE = 7.0
_DRIFT_SCALE = 25.0
#: Sharpness of the borders between compartments.
_SHARPNESS = 3.0


@dataclass(frozen=True)
class SmoothFields:
    """Independent Gaussian random fields with mean 0, variance 1 and a Gaussian correlation.

    Each is a sum of plane waves with random directions (Rahimi and Recht, NIPS 2007, random Fourier features).

    Attributes
    ----------
    wave
        ``(field, wave, 2)`` wave vectors, radians per pixel along y and x.
    phase
        ``(field, wave)`` radians.
    """

    wave: Floats
    phase: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, *, scale: float) -> SmoothFields:
        """Draw ``n`` fields with a correlation length of ``scale`` pixels."""
        wave = rng.standard_normal((n, _N_WAVES, 2)) / scale
        return cls(wave, rng.uniform(0, 2 * np.pi, (n, _N_WAVES)))

    def at(self, y: Floats, x: Floats) -> Floats:
        """Return ``(field, y, x)`` on the grid of ``(y,)`` rows and ``(x,)`` columns."""
        along_y = self.wave[:, None, :, 0] * y[:, None] + self.phase[:, None, :]
        along_x = self.wave[:, None, :, 1] * x[:, None]
        # cos(a + b) = cos a cos b - sin a sin b: two small matrix products instead of a cosine per pixel and wave.
        real = exact_product(np.cos(along_y), np.cos(along_x).swapaxes(1, 2))
        imaginary = exact_product(np.sin(along_y), np.sin(along_x).swapaxes(1, 2))
        return (real - imaginary) * sqrt(2 / _N_WAVES)


@dataclass(frozen=True)
class Blob:
    """A smooth closed outline: an ellipse with a wavy rim.

    Attributes
    ----------
    centre, axes
        ``(y, x)`` in pixels.
    amplitude, phase
        ``(harmonic,)`` of the rim, relative to the axes and in radians.
    """

    centre: tuple[float, float]
    axes: tuple[float, float]
    amplitude: Floats
    phase: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: tuple[float, float], axes: tuple[float, float]) -> Blob:
        """Draw a rim around a given ellipse."""
        order = np.arange(2, 2 + _N_HARMONICS)
        amplitude = 0.16 * rng.uniform(0.3, 1, _N_HARMONICS) / order
        return cls(centre, axes, amplitude, rng.uniform(0, 2 * np.pi, _N_HARMONICS))

    def covers(self, y: Floats, x: Floats) -> NDArray[np.bool_]:
        """Return ``(y, x)``: whether pixels lie inside."""
        down = ((y - self.centre[0]) / self.axes[0])[:, None]
        right = ((x - self.centre[1]) / self.axes[1])[None, :]
        angle = np.arctan2(down, right)[..., None]
        order = np.arange(2, 2 + len(self.amplitude))
        rim = 1 + (self.amplitude * np.cos(order * angle + self.phase)).sum(axis=-1)
        inside: NDArray[np.bool_] = np.hypot(down, right) < rim
        return inside


@dataclass(frozen=True)
class TissueSample:
    """The tissue at the measured pixels of a strip.

    Attributes
    ----------
    y, x
        ``(pixel,)`` positions, row by row.
    compartments
        ``(pixel, compartment)`` shares that add up to 1.
    brightness, matrix
        ``(pixel,)`` smooth drift of the signal and of the matrix, mean 0, variance 1.
    biology
        ``(pixel, factor)`` smooth latent factors, mean 0, variance 1.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    compartments: Floats
    brightness: Floats
    matrix: Floats
    biology: Floats


@dataclass(frozen=True)
class Tissue:
    """The tissue of one slide: fragments, holes in them, and smooth fields for what varies within."""

    fragments: tuple[Blob, ...]
    holes: tuple[Blob, ...]
    compartments: SmoothFields
    drift: SmoothFields
    biology: SmoothFields

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, int], *, holes: int, n_factors: int) -> Tissue:
        """Draw the tissue of a slide of ``shape`` (y, x) pixels; ``n_factors`` latent factors vary within it."""
        ny, nx = shape
        centre, axes = ((ny - 1) / 2, (nx - 1) / 2), (0.46 * ny, 0.46 * nx)
        body = Blob.draw(rng, centre, axes)
        fragments = [body, offshoot(rng, body, distance=(0.95, 1.25), size=(0.1, 0.22))]
        gaps = [offshoot(rng, body, distance=(0.3, 0.75), size=(0.05, 0.13)) for _ in range(holes)]
        return cls(
            fragments=tuple(fragments),
            holes=tuple(gaps),
            compartments=SmoothFields.draw(rng, len(COMPARTMENTS), scale=_COMPARTMENT_SCALE),
            drift=SmoothFields.draw(rng, 2, scale=_DRIFT_SCALE),
            biology=SmoothFields.draw(rng, n_factors, scale=_COMPARTMENT_SCALE),
        )

    def sample(self, rows: range, columns: range) -> TissueSample:
        """Return the tissue at the measured pixels of a rectangle."""
        y, x = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
        covered = np.any([blob.covers(y, x) for blob in self.fragments], axis=0)
        for hole in self.holes:
            covered &= ~hole.covers(y, x)
        down, right = np.nonzero(covered)
        weight = np.exp(_SHARPNESS * self.compartments.at(y, x)[:, covered].T)
        brightness, matrix = self.drift.at(y, x)[:, covered]
        return TissueSample(
            y=down + rows.start,
            x=right + columns.start,
            compartments=weight / weight.sum(axis=1, keepdims=True),
            brightness=brightness,
            matrix=matrix,
            biology=self.biology.at(y, x)[:, covered].T,
        )


def offshoot(
    rng: np.random.Generator, body: Blob, *, distance: tuple[float, float], size: tuple[float, float]
) -> Blob:
    """Draw a blob at a ``distance`` from the centre of the body; all lengths relative to the body's axes."""
    angle, far, extent = rng.uniform(0, 2 * np.pi), rng.uniform(*distance), rng.uniform(*size)
    centre = (
        body.centre[0] + far * body.axes[0] * np.sin(angle),
        body.centre[1] + far * body.axes[1] * np.cos(angle),
    )
    return Blob.draw(rng, centre, (extent * body.axes[0], extent * body.axes[1]))
