r"""What the microscope adds to absorbance: scatter, an uneven baseline, water vapour, noise.

Particles in tissue scatter as spheres do. With van de Hulst's approximation (Light Scattering by Small
Particles, 1957) the extinction of a sphere of radius :math:`r` whose refractive index exceeds its
surroundings' by :math:`n - 1` is

.. math:: Q(\tilde\nu) = 2 - \frac{4}{\rho}\sin\rho + \frac{4}{\rho^2}(1 - \cos\rho), \quad
          \rho = 4 \pi r (n - 1) \tilde\nu,

a slow oscillation over the whole range (Kohler et al., Appl. Spectrosc. 62 (2008) 259). Offset, slope and
curvature beside it are what extended multiplicative signal correction models (Martens and Stark, J. Pharm.
Biomed. Anal. 9 (1991) 625).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msicube.simulate.ftir_bands import vapour_spectrum

Floats = NDArray[np.float64]

#: Of the spheres, in micrometre, and the excess of their refractive index.
RADII = (2.0, 3.5, 5.0, 6.5, 8.0)
INDEX_EXCESS = 0.3
#: Mean extinction of tissue, and its natural-log standard deviation over a slide.
SCATTER_STRENGTH, SCATTER_SPREAD = 0.05, 0.4
#: Standard deviations of offset, slope and curvature over a slide, at the ends of the range.
BASELINE_SPREAD = (0.02, 0.015, 0.01)
#: Standard deviation of water vapour's strongest line: between slides, and over one as the purge drifts.
VAPOUR_SPREAD = (0.004, 0.002)
#: Noise of a pixel where the detector is at its best, how much more there is at 900 cm^-1, over what range
#: that falls to 1/e (in cm^-1), and the natural-log standard deviation between pixels.
NOISE, NOISE_AT_CUTOFF, NOISE_DECAY, NOISE_SPREAD = 0.004, 1.5, 60.0, 0.2
#: Standard deviation of what a dead pixel reads.
DEAD_NOISE = 0.5
_CUTOFF = 900.0

N_BACKGROUND = 4 + len(RADII)


def background_spectra(wavenumber: Floats) -> Floats:
    """Return ``(source, channel)``: vapour, offset, slope, curvature, and a sphere of each radius."""
    low, high = wavenumber[0], wavenumber[-1]
    scaled = 2 * (wavenumber - low) / max(high - low, 1e-9) - 1
    polynomial = [np.ones_like(scaled), scaled, scaled**2]
    return np.array([vapour_spectrum(wavenumber), *polynomial, *(extinction(r, wavenumber) for r in RADII)])


def extinction(radius: float, wavenumber: Floats) -> Floats:
    """Return ``(channel,)`` the extinction of a sphere; ``radius`` in micrometre."""
    phase = 4 * np.pi * radius * 1e-4 * INDEX_EXCESS * wavenumber
    efficiency: Floats = 2 - 4 / phase * np.sin(phase) + 4 / phase**2 * (1 - np.cos(phase))
    return efficiency


def noise_level(wavenumber: Floats) -> Floats:
    """Return ``(channel,)`` the standard deviation of noise: the detector loses sensitivity towards 900 cm^-1."""
    excess = np.exp(-np.maximum(wavenumber - _CUTOFF, 0.0) / NOISE_DECAY)
    level: Floats = NOISE * (1 + NOISE_AT_CUTOFF * excess)
    return level
