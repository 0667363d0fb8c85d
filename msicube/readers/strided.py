"""Cubes that lie in a file as one regular array, whatever the order of its axes.

An offset and three strides say where every value is, so one source serves BSQ, BIL and BIP, C and Fortran order, blocks
of spectra with a header each, and every flip: a flipped axis begins at its end and has a negative stride.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, UnknownFormat
from msicube.tiling import Window


@dataclass(frozen=True)
class Layout:
    """Where the values of a cube are.

    Attributes
    ----------
    dtype
        In the byte order of the file.
    shape
        ``(y, x, channel)``.
    offset
        Byte of the value at row 0, column 0, channel 0.
    strides
        Bytes from a value to its neighbour in y, x and channel.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    offset: int
    strides: tuple[int, int, int]

    @classmethod
    def of_array(
        cls,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        *,
        order: str,
        offset: int = 0,
        fortran: bool = False,
    ) -> Layout:
        """Return the layout of an array whose axes are named.

        Parameters
        ----------
        dtype, shape
            Of the array.
        order
            A letter for each axis of ``shape``: y, x and c.
        offset
            Byte of its first value.
        fortran
            The first axis runs fastest, not the last.
        """
        strides = {}
        step = dtype.itemsize
        for axis in range(len(shape)) if fortran else reversed(range(len(shape))):
            strides[order[axis]] = step
            step *= shape[axis]
        size = dict(zip(order, shape, strict=True))
        return cls(
            dtype, (size["y"], size["x"], size["c"]), offset, (strides["y"], strides["x"], strides["c"])
        )

    @property
    def end(self) -> int:
        """The first byte after the value that comes last in the file."""
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + sum(max(0, (n - 1) * stride) for n, stride in steps) + self.dtype.itemsize

    def flipped(self, axis: int) -> Layout:
        """Return the same values with one axis the other way round."""
        y, x, channel = (-stride if at == axis else stride for at, stride in enumerate(self.strides))
        start = self.offset + (self.shape[axis] - 1) * self.strides[axis]
        return replace(self, offset=start, strides=(y, x, channel))

    def view(self, buffer: Any) -> NDArray[Any]:
        """Return the cube on the bytes of the file."""
        return np.ndarray(self.shape, self.dtype, buffer, self.offset, self.strides)


@dataclass(frozen=True)
class StridedCube:
    """A cube in a plain file, mapped for the time of a read; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    path
        The file.
    layout
        Where the values are in it.
    """

    path: Path
    layout: Layout

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube."""
        part = (*window.slices, channels)
        try:
            with self.path.open("rb") as file:
                check_size(self.path, self.layout.end, file.seek(0, 2))
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    return self._copied(mapped, part)
        except OSError as error:
            raise CorruptSource(f"cannot read {self.path}: {error.strerror}") from error

    def _copied(self, mapped: mmap.mmap, part: tuple[slice, slice, slice]) -> NDArray[Any]:
        # A function of its own: no view may be left when the map is closed.
        return np.array(self.layout.view(mapped)[part], self.layout.dtype.newbyteorder("="), order="C")


def check_size(path: Path, needed: int, found: int) -> None:
    """Refuse a file that ends too early.

    Raises
    ------
    CorruptSource
        It has fewer bytes than it should have.
    """
    if found < needed:
        raise CorruptSource(
            f"{path.name} has {found} bytes, its header promises {needed}: it is truncated, copy it again"
        )


def native_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return a type of values as it is handed out: real numbers of at most 64 bits, in the byte order of the machine.

    Raises
    ------
    UnknownFormat
        Complex numbers, truth values, text or anything else that is no spectrum.
    """
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise UnknownFormat(
            f"{name} holds values of type {dtype.name}: expected real numbers of at most 64 bits. Save its real part, "
            f"or its magnitude, as float32 or float64"
        )
    return dtype.newbyteorder("=")
