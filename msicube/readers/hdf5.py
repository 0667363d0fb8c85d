"""Cubes in HDF5 (``.h5``, ``.hdf5``), with their axis in the file or beside it.

A file is opened for each read and closed again: handles of HDF5 neither pickle nor survive a fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, MSICubeError, UnknownFormat
from msicube.readers.base import OnError
from msicube.readers.dense import DenseReader
from msicube.readers.infrared import cube_info, file_entry, in_order, without_blanks
from msicube.readers.named_arrays import AXIS_NAMES, PIXEL_SIZE, NamedArray, choose, held
from msicube.readers.strided import native_dtype
from msicube.tiling import Window

MAGIC = b"\x89HDF\r\n\x1a\n"
#: Pixels that a cube may have for each byte of its file: more are a grid that nobody has written.
MAX_PIXELS_PER_BYTE = 16


@dataclass(frozen=True)
class Hdf5Cube:
    """A cube in an HDF5 file; a :class:`msicube.readers.dense.SpectraSource`.

    Attributes
    ----------
    path
        The file.
    dataset
        Its name.
    order
        A letter for each axis of the dataset: y, x, c, and b for one along which a single block is taken.
    size
        Of the channels.
    turned
        The channels descend.
    block
        Number of the block.
    """

    path: Path
    dataset: str
    order: str
    size: int
    turned: bool
    block: int = 0

    def read(self, window: Window, channels: slice) -> NDArray[Any]:
        """Read a part of the cube."""
        if self.turned:
            channels = slice(self.size - channels.stop, self.size - channels.start)
        rows, columns = window.slices
        wanted: dict[str, Any] = {"y": rows, "x": columns, "c": channels, "b": self.block}
        with opened(self.path) as file:
            values: NDArray[Any] = file[self.dataset][tuple(wanted[axis] for axis in self.order)]
        kept = self.order.replace("b", "")
        values = values.transpose([kept.index(axis) for axis in "yxc"])
        return values[..., ::-1] if self.turned else values


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; whatever HDF5 meets in a damaged one becomes one error.

    Raises
    ------
    MissingDependency
        h5py is not installed.
    CorruptSource
        It cannot be read.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency("HDF5 needs h5py: pip install 'msicube[ftir]'") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except MSICubeError:
        raise
    except Exception as error:  # h5py hands on whatever the library says, as errors of a dozen types
        raise CorruptSource(
            f"{path.name} cannot be read as HDF5 ({error}): it is damaged, copy it again"
        ) from error


def main_file(path: Path) -> Path | None:
    """Return the file itself: it holds everything."""
    return path


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open every cube of a file; one slide each.

    Parameters
    ----------
    path
        The HDF5 file.
    on_error, index_cache
        Not used: no single spectrum can be wrong, and there is no index to keep.

    Raises
    ------
    UnknownFormat
        No dataset of real numbers (y, x, channel).
    AxisRequired
        No axis in the file or beside it.
    CorruptSource
        The file is damaged, or the axis is of another length.
    MissingDependency
        h5py is not installed.
    """
    readers = []
    with opened(path) as file:
        arrays = named_arrays(file)
        found = choose(path, arrays, also="store it as a dataset or an attribute 'wavenumber' in cm^-1")
        for name in found.cubes:
            shape = arrays[name].shape
            check_grid(path, name, shape[:2])
            info = cube_info(
                path,
                name=found.slide_name(path, name),
                axis=found.axis,
                dtype=native_dtype(arrays[name].dtype, f"{path.name}, {name}"),
                numbers=in_order(*shape[:2]),
                source={"format": "HDF5", "file": file_entry(path), "dataset": name},
                pixel_size=found.pixel_size,
                flips=["channels: the file descends"] if found.turned else [],
                remarks=found.remarks,
            )
            readers.append(DenseReader(info, Hdf5Cube(path, name, "yxc", shape[2], found.turned)))
    return [without_blanks(reader) for reader in readers]


def named_arrays(file: Any) -> dict[str, NamedArray]:
    """Return every dataset by name, and those attributes of it and its groups that are an axis or a pixel size."""
    found: dict[str, NamedArray] = {}

    def visit(name: str, node: Any) -> None:
        for key in (*AXIS_NAMES, PIXEL_SIZE):
            if key in node.attrs:
                values = np.asarray(node.attrs[key])
                found[f"{name}@/{key}"] = NamedArray(values.shape, values.dtype, held(values))
        if hasattr(node, "shape") and node.shape is not None:
            # Text in a damaged file can keep libhdf5 busy for ever, so only that which matters is read.
            unit = _unit(node) if name.rpartition("/")[2].lower() in AXIS_NAMES else None
            found[name] = NamedArray(tuple(node.shape), node.dtype, lambda: node[()], unit)

    visit("", file)
    file.visititems(visit)
    return found


def _unit(node: Any) -> str | None:
    unit = node.attrs.get("units", node.attrs.get("unit"))
    unit = unit.decode("latin-1") if isinstance(unit, bytes) else unit
    return unit if isinstance(unit, str) else None


def check_grid(path: Path, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a grid that no file of this size was written for.

    Raises
    ------
    UnknownFormat
        It is far larger than the file.
    """
    if int(np.prod(shape, dtype=object)) > MAX_PIXELS_PER_BYTE * path.stat().st_size:
        raise UnknownFormat(
            f"{path.name}: {name} has {' x '.join(map(str, shape))} pixels in a file of {path.stat().st_size} bytes: "
            f"most of them were never written"
        )
