"""Spectra, axes and weights as users hand them to EMSC, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from msicube.bytesize import format_bytes
from msicube.errors import AxisMismatch, MemoryLimitError, UsageError
from msicube.preprocess.channels import Channels
from msicube.preprocess.emsc_model import FloatArray
from msicube.preprocess.pca import MAX_CHANNELS


def checked_spectra(given: Any, n_channels: int, *, what: str) -> FloatArray:
    """Return given spectra as ``(n, n_channels)``; none for None.

    Raises
    ------
    UsageError
        Another number of channels, no numbers, or not finite.
    """
    if given is None:
        return np.empty((0, n_channels))
    if hasattr(given, "get_params"):
        raise UsageError(f"{what} is a {type(given).__name__}: fit it and give its spectra, model.spectra_")
    try:
        spectra = np.atleast_2d(np.asarray(given, np.float64))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is no array of numbers ({error}): give (n, {n_channels}) values") from error
    if spectra.ndim != 2 or spectra.shape[1] != n_channels:
        raise UsageError(
            f"{what} has shape {np.shape(given)}, the spectra have {n_channels} channels: give it on their axis, one "
            f"row for each spectrum"
        )
    if not np.isfinite(spectra).all():
        raise UsageError(f"{what} holds a NaN or an infinity: interpolate or cut it before")
    return spectra


def spectral_axis(
    wavenumbers: Any, channels: Channels, *, needed: bool, who: str = "EMSC"
) -> FloatArray | None:
    """Return the axis of the spectra: their own, or the one that is given; None where there is none.

    Raises
    ------
    UsageError
        It is needed and there is none, or what is given is no axis for these channels.
    AxisMismatch
        The spectra have another.
    """
    if wavenumbers is None:
        if needed and not channels.on_axis:
            raise UsageError(
                f"{who} needs the axis of the spectra and an array has none: give wavenumbers=, one for each of the "
                f"{channels.n} channels"
            )
        return channels.values if channels.on_axis else None
    axis = checked_spectra(wavenumbers, channels.n, what=f"{who}(wavenumbers)")[0]
    if len(np.unique(axis)) < len(axis):
        raise UsageError(f"{who}(wavenumbers) holds a value twice: each channel has its own")
    if channels.on_axis and not np.allclose(axis, channels.values, rtol=1e-6, atol=0):
        raise AxisMismatch(
            f"{who}(wavenumbers) runs from {axis[0]:.6g} to {axis[-1]:.6g}, the spectra from {channels.values[0]:.6g} "
            f"to {channels.values[-1]:.6g}: leave it out, they bring their axis along"
        )
    return axis


def fit_weights(weights: Any, excluded: Any, axis: FloatArray | None, n_channels: int) -> FloatArray:
    """Return ``(n_channels,)`` weights, the largest 1, 0 in the excluded regions.

    Raises
    ------
    UsageError
        A negative weight, a region without a channel, or no channel left.
    """
    found = (
        np.ones(n_channels)
        if weights is None
        else checked_spectra(weights, n_channels, what="weights")[0].copy()
    )
    if (found < 0).any():
        raise UsageError(f"weights holds {found.min():.6g}: a weight is 0 or more")
    if excluded is not None and axis is not None:
        found[in_regions(excluded, axis, what="excluded")] = 0
    if not found.any():
        raise UsageError("no channel has a weight above 0: exclude less, or give other weights")
    largest: FloatArray = found / found.max()
    return largest


def in_regions(regions: Any, axis: FloatArray, *, what: str) -> Any:
    """Return ``(channel,)``: which channels lie in regions ``[(from, to), ...]``, ends included.

    Raises
    ------
    UsageError
        Something else than pairs, or a region without a channel.
    """
    pairs = np.asarray(regions, np.float64)
    if pairs.size == 0:
        return np.zeros(len(axis), bool)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise UsageError(f"{what}={regions!r}: a list of regions [(from, to), ...] on the axis")
    inside = [(axis >= min(pair)) & (axis <= max(pair)) for pair in pairs]
    for pair, channels in zip(pairs.tolist(), inside, strict=True):
        if not channels.any():
            raise UsageError(
                f"{what}: no channel lies between {pair[0]:g} and {pair[1]:g}, the axis runs from {axis.min():g} to "
                f"{axis.max():g}"
            )
    return np.any(inside, axis=0)


def check_matrix(n_channels: int, who: str) -> None:
    """Check that a matrix of all channels by all channels, such as a covariance, fits into memory.

    Raises
    ------
    MemoryLimitError
        It does not.
    """
    if n_channels > MAX_CHANNELS:
        raise MemoryLimitError(
            f"{who} takes a matrix of {n_channels} channels by as many, {format_bytes(8 * n_channels**2)}; at most "
            f"{MAX_CHANNELS} channels ({format_bytes(8 * MAX_CHANNELS**2)}) are taken: crop the axis, or convert onto "
            f"a coarser one"
        )
