"""Spectral axes of infrared sources: units, direction, and axes that are given beside a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisRequired, CorruptSource

BESIDE = (".wavenumber.txt", ".wavenumber.csv", ".wavenumber.npy")
_PLAIN = {"cm-1", "1/cm", "cm1", "wavenumber", "wavenumbers", "percm", "reciprocalcentimeters", "inversecm"}
#: Lengths: how many fit into a centimetre.
_LENGTHS = {
    "nm": 1e7,
    "nanometer": 1e7,
    "nanometers": 1e7,
    "nanometre": 1e7,
    "nanometres": 1e7,
    "um": 1e4,
    "micron": 1e4,
    "microns": 1e4,
    "micrometer": 1e4,
    "micrometers": 1e4,
    "micrometre": 1e4,
    "micrometres": 1e4,
}


def per_centimetre(values: NDArray[np.float64], unit: str) -> NDArray[np.float64] | None:
    """Return an axis in cm^-1, given the unit as a file spells it; None for a unit that is none of a spectrum.

    Parameters
    ----------
    values
        ``(channel,)``; wavelengths become wavenumbers.
    unit
        Such as ``"cm-1"``, ``"Wavenumber (cm^-1)"``, ``"Nanometers"`` or ``"µm"``.
    """
    inner = re.search(r"\(([^)]*)\)", unit)
    for text in (unit, inner[1] if inner else ""):
        name = re.sub(r"[\s^{}]", "", text.lower()).replace("µ", "u").replace("μ", "u").replace("−", "-")
        if name in _PLAIN:
            return values
        if name in _LENGTHS:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return _LENGTHS[name] / values
    return None


def ascending(values: NDArray[Any], name: str) -> tuple[NDArray[np.float64], bool]:
    """Return an axis in ascending order, and whether it was turned round for that.

    Raises
    ------
    CorruptSource
        It is empty, not finite, or neither ascending nor descending.
    """
    axis = np.array(values, np.float64).ravel()
    steps = np.diff(axis)
    if not len(axis) or not np.isfinite(axis).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise CorruptSource(
            f"{name}: its axis of {len(axis)} values is not finite and strictly ascending or descending: repair the "
            f"axis, or give one beside the file ({BESIDE[0]}, one wavenumber a line)"
        )
    turned = len(axis) > 1 and bool(steps[0] < 0)
    return (axis[::-1].copy() if turned else axis), turned


def axis_beside(path: Path) -> tuple[NDArray[np.float64], str] | None:
    """Return the axis that a user has put beside a file, and the name of its file; None where there is none.

    ``<stem>.wavenumber.txt`` or ``.csv`` has one wavenumber in cm^-1 a line, ``<stem>.wavenumber.npy`` is an array.

    Raises
    ------
    CorruptSource
        There is one and it cannot be read.
    """
    for ending in BESIDE:
        beside = path.with_name(path.stem + ending)
        if beside.is_file():
            return _read_beside(beside), beside.name
    return None


def _read_beside(path: Path) -> NDArray[np.float64]:
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(path.read_text("utf-8").splitlines(), delimiter=",", ndmin=1)
        if values.dtype.kind not in "fiu" or values.ndim != 1 or not values.size:
            raise ValueError(f"an array of shape {values.shape} and type {values.dtype}")
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise CorruptSource(
            f"cannot read the axis {path} ({error}): expected one wavenumber in cm^-1 a line"
        ) from error
    axis: NDArray[np.float64] = values.astype(np.float64)
    return axis


def axis_required(path: Path, n_channels: int, also: str) -> AxisRequired:
    """Return the error of a source that states no axis.

    Parameters
    ----------
    path
        The file.
    n_channels
        That it has.
    also
        How this format can state one itself, as the beginning of a sentence.
    """
    return AxisRequired(
        f"{path.name} states no axis for its {n_channels} channels: {also}, or write {path.stem}{BESIDE[0]} beside it "
        f"with one wavenumber in cm^-1 a line"
    )


def check_length(axis: NDArray[Any], n_channels: int, where: str, name: str) -> None:
    """Refuse an axis of another length than the spectra.

    Raises
    ------
    CorruptSource
        The lengths differ.
    """
    if axis.size != n_channels:
        raise CorruptSource(
            f"{name}: the axis in {where} has {axis.size} values, the spectra have {n_channels} channels: they do not "
            f"belong together"
        )
