"""Writing imzML 1.1: an XML file of metadata beside a binary file (``.ibd``) of spectra.

The layout follows Schramm et al., J. Proteomics 75 (2012) 5106: the ``.ibd`` opens with the 16 bytes of the UUID that
the XML repeats, a continuous file holds its one m/z axis next, and every array is found by its offset and length.

Nothing is kept in memory but the block at hand. The XML of the spectra goes to a spool file, because the header in
front of it needs what is only known at the end: the number of spectra and the checksum of the ``.ibd``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from msicube.errors import UsageError
from msicube.writers.imzml_xml import (
    ARRAY_TYPES,
    FOOTER,
    MODES,
    POLARITIES,
    REPRESENTATIONS,
    SPECTRUM,
    Description,
    Instrument,
    header,
)

Mode = Literal["continuous", "processed"]
Representation = Literal["profile", "centroid"]


class ImzMLWriter:
    """Stream spectra into an imzML pair; use it in a ``with`` statement.

    Both files appear, complete, when the ``with`` block ends. When it ends by an exception, nothing remains. Memory
    does not grow with the number of spectra. One thread writes.

    Parameters
    ----------
    path
        The ``.imzML`` file; the ``.ibd`` comes beside it.
    shape
        ``(y, x)`` of the pixel grid.
    mode
        ``continuous`` (one m/z axis for all) or ``processed`` (m/z values with each spectrum).
    representation
        ``profile`` or ``centroid``, independent of the mode; None leaves it unsaid.
    mz
        ``(channel,)`` axis of a continuous file; not allowed for a processed one.
    mz_dtype, intensity_dtype
        ``float32``, ``float64``, ``int32`` or ``int64``; stored little-endian.
    pixel_size
        ``(y, x)`` in micrometres; None writes no pixel size.
    polarity
        ``positive``, ``negative`` or None.
    instrument
        What is known of the mass spectrometer.
    uuid
        Identity of the pair; random when None.
    overwrite
        Replace a pair that is there already.

    Raises
    ------
    UsageError
        Options that contradict each other or a type that imzML does not have; on entering the ``with`` block, files
        that exist already; at its end, no spectrum.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int],
        mode: Mode = "continuous",
        representation: Representation | None = "profile",
        mz: ArrayLike | None = None,
        mz_dtype: DTypeLike = "float64",
        intensity_dtype: DTypeLike = "float32",
        pixel_size: tuple[float, float] | None = None,
        polarity: Literal["positive", "negative"] | None = None,
        instrument: Instrument | None = None,
        uuid: UUID | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path, self.ibd_path = imzml_pair(path)
        self.n_spectra = 0
        self.description = Description(
            shape=_checked_shape(shape),
            mode=_choice("mode", mode, MODES),
            representation=representation and _choice("representation", representation, REPRESENTATIONS),
            mz_type=_array_type("mz_dtype", mz_dtype),
            intensity_type=_array_type("intensity_dtype", intensity_dtype),
            pixel_size=_checked_pixel_size(pixel_size),
            polarity=None if polarity is None else _choice("polarity", polarity, POLARITIES),
            instrument=instrument or Instrument(),
            uuid=uuid or uuid4(),
        )
        self._mz = _checked_axis(mz, self.description)
        self._mz_offset = 0
        self._size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._overwrite = overwrite
        self._files: ExitStack | None = None
        self._ibd: IO[bytes]
        self._spool: IO[bytes]

    def __enter__(self) -> Self:
        folder = self.path.parent
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder} to write {self.path.name} into: create it first")
        taken = [path.name for path in (self.path, self.ibd_path) if path.exists()]
        if taken and not self._overwrite:
            raise UsageError(
                f"{folder} holds {' and '.join(taken)} already: choose another name or allow overwriting"
            )
        with ExitStack() as files:
            files.callback(self._discard)
            self._ibd = files.enter_context(_part(self.ibd_path).open("wb"))
            self._spool = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._append(self.description.uuid.bytes)
            if self._mz is not None:
                self._mz_offset = self._append(self._mz)
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        files, self._files = self._files, None
        with files or ExitStack():
            if kind is None:
                self._write_xml()
                self._ibd.close()
                _part(self.ibd_path).replace(self.ibd_path)
                _part(self.path).replace(self.path)

    def write(self, y: int, x: int, intensity: ArrayLike, mz: ArrayLike | None = None) -> None:
        """Write one spectrum.

        Parameters
        ----------
        y, x
            The pixel, from 0.
        intensity
            ``(channel,)``, or ``(peak,)`` in a processed file.
        mz
            ``(peak,)``, in a processed file only.
        """
        values = np.asarray(intensity)
        if self._mz is not None:
            if mz is not None:
                raise UsageError("a continuous file has one m/z axis for all spectra: give it to the writer")
            self.write_block([y], [x], values[None])
        elif mz is None:
            raise UsageError("a spectrum of a processed file comes with its own m/z values: none were given")
        else:
            self.write_ragged([y], [x], mz, values, [values.size])

    def write_block(self, y: ArrayLike, x: ArrayLike, intensity: ArrayLike) -> None:
        """Write many spectra of a continuous file.

        Parameters
        ----------
        y, x
            ``(spectrum,)`` the pixels, from 0.
        intensity
            ``(spectrum, channel)``.
        """
        if self._mz is None:
            raise UsageError("write_block needs the one axis of a continuous file: use write_ragged")
        rows, columns = self._pixels(y, x)
        block = _cast(intensity, self.description.intensity_type, "intensity")
        n, channels = len(rows), len(self._mz)
        if block.shape != (n, channels):
            raise UsageError(f"{n} pixels take a block of shape {(n, channels)}, found {block.shape}")
        width = channels * block.itemsize
        offsets = self._append(block) + width * np.arange(n)
        axis = (np.full(n, value) for value in (self._mz_offset, channels, self._mz.nbytes))
        self._spool_xml(
            _ion_currents(block),
            columns + 1,
            rows + 1,
            *axis,
            offsets,
            np.full(n, channels),
            np.full(n, width),
        )

    def write_ragged(
        self, y: ArrayLike, x: ArrayLike, mz: ArrayLike, intensity: ArrayLike, lengths: ArrayLike
    ) -> None:
        """Write many spectra of a processed file, their peaks one after the other.

        Parameters
        ----------
        y, x
            ``(spectrum,)`` the pixels, from 0.
        mz, intensity
            ``(peak,)`` of all spectra together.
        lengths
            ``(spectrum,)`` number of peaks of each; 0 for an empty spectrum.
        """
        if self._mz is not None:
            raise UsageError("write_ragged is for processed files: a continuous one takes write_block")
        rows, columns = self._pixels(y, x)
        positions = _cast(mz, self.description.mz_type, "m/z")
        values = _cast(intensity, self.description.intensity_type, "intensity")
        sizes = np.asarray(lengths, dtype=np.int64)
        if not (sizes.shape == rows.shape and positions.shape == values.shape == (sizes.sum(),)):
            raise UsageError(
                f"{len(rows)} pixels and {sizes.size} lengths of together {sizes.sum()} peaks do not fit m/z values "
                f"of shape {positions.shape} and intensities of shape {values.shape}"
            )
        ends = np.cumsum(sizes)
        starts = ends - sizes
        fields = []
        for array in (positions, values):
            fields += [self._append(array) + starts * array.itemsize, sizes, sizes * array.itemsize]
        tic = _ion_currents([values[start:end] for start, end in zip(starts, ends, strict=True)])
        self._spool_xml(tic, columns + 1, rows + 1, *fields)

    def _pixels(self, y: ArrayLike, x: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._files is None:
            raise UsageError("the writer is not open: use it as `with ImzMLWriter(...) as writer:`")
        rows, columns = np.asarray(y, dtype=np.int64), np.asarray(x, dtype=np.int64)
        ny, nx = self.description.shape
        if rows.ndim != 1 or rows.shape != columns.shape:
            raise UsageError(
                f"y and x must be two rows of equal length, found {rows.shape} and {columns.shape}"
            )
        outside = (rows < 0) | (rows >= ny) | (columns < 0) | (columns >= nx)
        if outside.any():
            y0, x0 = rows[outside][0], columns[outside][0]
            raise UsageError(
                f"the pixel (y, x) = ({y0}, {x0}) lies outside the grid of {ny} x {nx}, which starts at 0"
            )
        return rows, columns

    def _append(self, data: bytes | NDArray[Any]) -> int:
        """Write to the .ibd and return the offset."""
        offset = self._size
        buffer = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data.reshape(-1).view(np.uint8)
        self._ibd.write(buffer.data)
        self._sha1.update(buffer.data)
        self._size += buffer.nbytes
        return offset

    def _spool_xml(self, tic: NDArray[np.float64], *fields: NDArray[np.int64]) -> None:
        """Format the spectra; ``fields`` are the integers of ``SPECTRUM`` in its order."""
        columns = [field.tolist() for field in (tic, *fields)]
        numbered = enumerate(zip(*columns, strict=True), start=self.n_spectra)
        text = "".join([SPECTRUM % (index + 1, index, *values) for index, values in numbered])
        self._spool.write(text.encode("ascii"))
        self.n_spectra += len(tic)

    def _write_xml(self) -> None:
        if not self.n_spectra:
            raise UsageError(f"{self.path.name} would hold no spectrum: imzML has no empty files")
        self._spool.seek(0)
        with _part(self.path).open("wb") as file:
            opening = header(self.description, n_spectra=self.n_spectra, sha1=self._sha1.hexdigest())
            file.write(opening.encode("utf-8"))
            shutil.copyfileobj(self._spool, file, 1 << 20)
            file.write(FOOTER.encode("utf-8"))

    def _discard(self) -> None:
        """Remove the unfinished files, where there are any."""
        _part(self.ibd_path).unlink(missing_ok=True)
        _part(self.path).unlink(missing_ok=True)


def imzml_pair(path: str | Path) -> tuple[Path, Path]:
    """Return the ``.imzML`` and the ``.ibd`` path of a pair.

    Raises
    ------
    UsageError
        The name does not end in ``.imzML``.
    """
    target = Path(path)
    if target.suffix != ".imzML":
        raise UsageError(f"{target.name} is no name for an imzML file: it must end in .imzML")
    return target, target.with_suffix(".ibd")


def _part(path: Path) -> Path:
    """Return the name under which a file grows: hidden, and no pattern for finished files finds it."""
    return path.with_name(f".{path.name}.part")


def _cast(values: ArrayLike, array_type: str, what: str) -> NDArray[Any]:
    """Return values as the file stores them; floats may lose digits as the type asks, nothing else may change."""
    array = np.asarray(values)
    target = np.dtype(array_type).newbyteorder("<")
    if array.dtype.kind in "iuf":
        with np.errstate(invalid="ignore", over="ignore"):
            stored = np.ascontiguousarray(array, dtype=target)
            if np.can_cast(array.dtype, target, "safe") or _same_numbers(array, stored):
                return stored
    raise UsageError(f"{what} of type {array.dtype} does not fit into {array_type}: choose a wider type")


def _same_numbers(array: NDArray[Any], stored: NDArray[Any]) -> bool:
    if array.dtype.kind == stored.dtype.kind == "f":
        return np.array_equal(np.isfinite(array), np.isfinite(stored))
    return np.array_equal(array, stored.astype(array.dtype))


def _ion_currents(spectra: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the total ion current of each spectrum; NaN where infinities of both signs meet."""
    with np.errstate(invalid="ignore"):
        return np.array([spectrum.sum(dtype=np.float64) for spectrum in spectra], dtype=np.float64)


def _choice(option: str, value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise UsageError(f"{option}={value!r} is unknown: expected {' or '.join(known)}")
    return value


def _array_type(option: str, dtype: DTypeLike) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    return _choice(option, name, ARRAY_TYPES)


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    ny, nx = (int(extent) for extent in shape)
    if min(ny, nx) < 1:
        raise UsageError(f"shape={shape}: expected (y, x), both at least 1")
    return ny, nx


def _checked_pixel_size(pixel_size: tuple[float, float] | None) -> tuple[float, float] | None:
    if pixel_size is None:
        return None
    height, width = (float(size) for size in pixel_size)
    if not (0 < height < np.inf and 0 < width < np.inf):
        raise UsageError(f"pixel_size={pixel_size}: expected (y, x) in micrometres, both positive")
    return height, width


def _checked_axis(mz: ArrayLike | None, description: Description) -> NDArray[Any] | None:
    """Return the axis as a continuous file holds it; None for a processed file."""
    if (mz is None) == (description.mode == "continuous"):
        found = "no axis" if mz is None else "an axis"
        raise UsageError(
            f"a continuous file has one m/z axis and a processed file none: {found} for {description.mode}"
        )
    if mz is None:
        return None
    axis = _cast(mz, description.mz_type, "m/z")
    if axis.ndim != 1 or not axis.size:
        raise UsageError(f"an m/z axis is one row of at least one value, found the shape {axis.shape}")
    return axis
