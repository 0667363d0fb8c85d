"""Extinction of spheres by the approximation of van de Hulst with absorption, for a grid of radii and indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Channels that the absorbance is continued by at each end before the Kramers-Kronig transform.
PAD = 200


@dataclass(frozen=True, eq=False)
class MieCurves:
    """Makes the extinction curves that belong to an absorbance.

    Attributes
    ----------
    wavenumbers
        ``(channel,)`` m^-1.
    alphas
        ``(a,)`` m: four pi times radius times refractive index less 1.
    gammas
        ``(g,)``: what the imaginary refractive index of an absorbance of 1 is worth beside the real one.
    kramers_kronig
        ``(channel, channel)``: ``absorbance @ kramers_kronig`` is the fluctuation of the real refractive index.
    """

    wavenumbers: FloatArray
    alphas: FloatArray
    gammas: FloatArray
    kramers_kronig: FloatArray

    @classmethod
    def of(cls, wavenumbers: FloatArray, radii: FloatArray, indices: FloatArray, h: float) -> MieCurves:
        """Return the curves of an axis in cm^-1, for radii in micrometre and as many refractive indices."""
        metres = radii * 1e-6
        return cls(
            wavenumbers=wavenumbers * 100,
            alphas=4 * np.pi * metres * (indices - 1),
            gammas=h * np.log(10) / (2 * np.pi**2 * metres) / (indices - 1),
            kramers_kronig=_kramers_kronig(wavenumbers * 100),
        )

    def curves(self, absorbances: FloatArray) -> Iterator[NDArray[np.float32]]:
        """Yield the extinction curves of each absorbance, ``(a * g, channel)``; each overwrites the one before it.

        They are evaluated in float32, which changes the space that they span by some 1e-6, in a form with two
        trigonometric functions and one exponential for each value: sines and cosines of beta, which does not depend on
        alpha, are taken out of those of ``rho - beta`` and ``rho - 2 * beta``.
        """
        real = absorbances @ self.kramers_kronig
        shape = (len(self.alphas), len(self.gammas), len(self.wavenumbers))
        alphas = self.alphas.astype(np.float32)[:, None, None]
        buffers = [np.empty(shape, np.float32) for _ in range(6)]
        for absorbance, fluctuation in zip(absorbances, real, strict=True):
            parts = self._independent_of_alpha(absorbance, fluctuation)
            yield _evaluate(alphas, parts, buffers).reshape(-1, shape[2])

    def _independent_of_alpha(
        self, absorbance: FloatArray, fluctuation: FloatArray
    ) -> tuple[NDArray[np.float32], ...]:
        """Return ``rho / alpha``, ``-rho tan(b) / alpha``, ``alpha cos(b) / rho``, and cos and sin of b and 2 b.

        Each is ``(g, channel)``.
        """
        gammas = self.gammas[:, None]
        tangent = absorbance / self.wavenumbers / (1 / gammas + fluctuation)
        unit = (1 + gammas * fluctuation) * self.wavenumbers
        cosine = 1 / np.sqrt(1 + tangent * tangent)
        sine = tangent * cosine
        doubled = (cosine * cosine - sine * sine, 2 * sine * cosine)
        parts = (unit, -unit * tangent, cosine / unit, cosine, sine, *doubled)
        return tuple(values.astype(np.float32) for values in parts)


def _evaluate(
    alphas: NDArray[np.float32],
    parts: tuple[NDArray[np.float32], ...],
    buffers: list[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return ``2 - 4 d sin(rho - b) - 4 c d cos(rho - 2 b) + 4 c**2 cos(2 b)``, in the last of the buffers.

    There ``c = cos(b) / rho`` and ``d = c exp(-rho tan(b))``. In place: memory is what takes the time here.
    """
    unit, decay, quotient, cosine, sine, double_cosine, double_sine = parts
    rho, d, c, sines, cosines, out = buffers
    np.multiply(alphas, unit, out=rho)
    np.sin(rho, out=sines)
    np.cos(rho, out=cosines)
    np.multiply(alphas, decay, out=d)
    np.exp(d, out=d)
    np.divide(quotient, alphas, out=c)
    d *= c
    np.multiply(c, double_sine, out=rho)
    rho += cosine
    sines *= rho
    np.multiply(c, double_cosine, out=rho)
    c *= rho
    rho -= sine
    cosines *= rho
    sines += cosines
    sines *= d
    c -= sines
    c *= 4
    return np.add(c, 2, out=out)


def _kramers_kronig(wavenumbers: FloatArray) -> FloatArray:
    """Return the Hilbert transform of ``absorbance / wavenumber`` as a matrix, the ends continued."""
    from scipy.signal import hilbert

    n = len(wavenumbers)
    places = np.arange(-PAD, n + PAD)
    continued = np.concatenate(
        [
            wavenumbers[0] + (wavenumbers[1] - wavenumbers[0]) * np.arange(-PAD, 0),
            wavenumbers,
            wavenumbers[-1] + (wavenumbers[-1] - wavenumbers[-2]) * np.arange(1, PAD + 1),
        ]
    )
    impulses = np.eye(n)[:, np.clip(places, 0, n - 1)] / continued
    sign = -1 if wavenumbers[0] < wavenumbers[1] else 1
    return np.ascontiguousarray(sign * hilbert(impulses, axis=1).imag[:, PAD:-PAD])
