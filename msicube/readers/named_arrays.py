"""Containers of named arrays (.npz, HDF5, MATLAB): which of them is a cube, and which its axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, UnknownFormat
from msicube.readers.base import PixelSize
from msicube.readers.wavenumbers import (
    ascending,
    axis_beside,
    axis_required,
    check_length,
    per_centimetre,
)

AXIS_NAMES = ("wavenumber", "wavenumbers", "wn", "wvn")
PIXEL_SIZE = "pixel_size"


@dataclass(frozen=True)
class NamedArray:
    """An array in a container.

    Attributes
    ----------
    shape
        ``(y, x, channel)`` where it is a cube.
    dtype
        Of its values.
    load
        Reads all of it; used for small ones only.
    unit
        That the container states.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]
    unit: str | None = None

    @property
    def is_vector(self) -> bool:
        """Whether it has one axis; MATLAB gives every vector a second one of length 1."""
        return (
            self.dtype.kind in "fiu" and len(self.shape) >= 1 and max(self.shape) == int(np.prod(self.shape))
        )


@dataclass(frozen=True)
class Chosen:
    """What a container holds for us.

    Attributes
    ----------
    cubes
        Names of the arrays that are cubes on the axis.
    axis
        Ascending wavenumbers.
    turned
        The axis of the container descends.
    pixel_size
        None where it does not say.
    remarks
        For the conversion report.
    """

    cubes: tuple[str, ...]
    axis: NDArray[np.float64]
    turned: bool
    pixel_size: PixelSize | None
    remarks: tuple[str, ...]

    def slide_name(self, path: Path, cube: str) -> str:
        """Return the name of the slide that a cube becomes: the file's, and the array's where there are several."""
        return path.stem if len(self.cubes) == 1 else f"{path.stem}_{cube.strip('/').replace('/', '_')}"


def choose(path: Path, arrays: Mapping[str, NamedArray], *, also: str) -> Chosen:
    """Find the cubes of a container: its arrays of three axes, the last of which is as long as the spectral axis.

    The axis is the array named ``wavenumber`` (or another of :data:`AXIS_NAMES`), unless one is given beside the file.

    Parameters
    ----------
    path
        The container.
    arrays
        By name.
    also
        How such a container states an axis, for the error where it does not.

    Raises
    ------
    UnknownFormat
        No array has three axes.
    AxisRequired
        No axis anywhere.
    CorruptSource
        An axis that fits no cube, or is none.
    """
    cubes = {
        name: a
        for name, a in arrays.items()
        if len(a.shape) == 3 and 0 not in a.shape and a.dtype.kind in "fiuc"
    }
    if not cubes:
        listed = ", ".join(f"{name} {a.shape}" for name, a in list(arrays.items())[:10]) or "nothing"
        raise UnknownFormat(
            f"{path.name} holds no array of three axes (y, x, channel), found {listed}: save the spectra "
            f"as such an array"
        )
    remarks = []
    beside = axis_beside(path)
    if beside is not None:
        values, where = beside
        remarks.append(f"the axis is that of {where}")
    else:
        found = _axis_name(arrays)
        if found is None:
            raise axis_required(path, next(iter(cubes.values())).shape[2], also)
        where, values = found, _in_wavenumbers(path, found, arrays[found])
    on_axis = tuple(name for name, a in cubes.items() if a.shape[2] == len(values))
    if not on_axis:
        check_length(values, next(iter(cubes.values())).shape[2], where, path.name)
    axis, turned = ascending(values, path.name)
    return Chosen(on_axis, axis, turned, pixel_size(arrays), tuple(remarks))


def held(values: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    """Return how an array is loaded that is here already."""
    return lambda: values


def pixel_size(arrays: Mapping[str, NamedArray]) -> PixelSize | None:
    """Return the two numbers (y, x) of an array ``pixel_size``, in micrometre; None where there is none."""
    found = next((a for name, a in arrays.items() if name.rpartition("/")[2] == PIXEL_SIZE), None)
    if found is None or not found.is_vector or max(found.shape) != 2:
        return None
    y, x = found.load().ravel().astype(np.float64).tolist()
    return (
        PixelSize(y, x, f"array {PIXEL_SIZE}, micrometre") if min(y, x) > 0 and max(y, x) < np.inf else None
    )


def _axis_name(arrays: Mapping[str, NamedArray]) -> str | None:
    by_last = {name.rpartition("/")[2].lower(): name for name, a in arrays.items() if a.is_vector}
    return next((by_last[name] for name in AXIS_NAMES if name in by_last), None)


def _in_wavenumbers(path: Path, name: str, array: NamedArray) -> NDArray[np.float64]:
    values = array.load().ravel().astype(np.float64)
    converted = per_centimetre(values, array.unit) if array.unit else values
    if converted is None:
        raise CorruptSource(
            f"{path.name}: the axis {name} is in {array.unit!r}, expected cm-1, nm or um: store wavenumbers in cm-1"
        )
    return converted
