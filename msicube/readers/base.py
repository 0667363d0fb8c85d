"""The reader protocol: what every file format gives, and all that conversion knows of it.

Opening a source reads metadata and an index, never the spectra. After that, tiles are read on demand from any thread or
process: a reader pickles to little more than its path and its index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.axis import SpectralBins
from msicube.tiling import Window

#: What happens to a spectrum that is wrong: one clear error, or a masked pixel and a remark in the report.
OnError = Literal["stop", "report"]


@dataclass(frozen=True)
class PixelSize:
    """Distance between neighbouring pixel centres, in micrometre.

    Attributes
    ----------
    y, x
        Of rows and of columns.
    provenance
        Where the numbers come from, such as ``"IMS:1000046 in scanSettings"``.
    """

    y: float
    x: float
    provenance: str


@dataclass(frozen=True)
class CubeInfo:
    """What is known of a cube before its spectra are touched.

    Attributes
    ----------
    name
        Of the slide, from the file's name.
    modality
        ``"msi"`` or ``"ftir"``.
    axis
        ``(channel,)`` float64, ascending; None where the source is ragged and no axis has been chosen yet.
    dtype
        Of the intensities that ``read_tile`` returns.
    acquired
        ``(y, x)`` bool: where there is a spectrum.
    spectrum_index
        ``(y, x)`` int64: its number in the source, -1 where none.
    pixel_size
        None where the source does not say.
    source
        File names, sizes, checksums, mode and whatever else the format tells; JSON. Each file, or all files of one
        kind, is an entry with ``name`` and ``bytes``; ``geometry`` is from :func:`msicube.readers.dense.geometry`.
    axis_law
        What made the axis: ``"observed"`` for one that the source states, else the law.
    axis_origin
        What else is known of the axis: the range that it was cropped to, how spectra were resampled; JSON.
    remarks
        Oddities that were met and how they were taken; they go into the conversion report.
    masked
        Number of spectra that are wrong and were left out, each named in ``remarks``.
    bins
        The interval of m/z that each channel collects; None where nothing is binned.
    """

    name: str
    modality: str
    axis: NDArray[np.float64] | None
    dtype: np.dtype[Any]
    acquired: NDArray[np.bool_]
    spectrum_index: NDArray[np.int64]
    pixel_size: PixelSize | None
    source: dict[str, Any]
    axis_law: str | None = None
    remarks: tuple[str, ...] = ()
    masked: int = 0
    bins: SpectralBins | None = field(default=None, repr=False)
    axis_origin: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.acquired.shape

    @property
    def n_spectra(self) -> int:
        """Number of pixels that hold a spectrum."""
        return int(self.acquired.sum())

    @property
    def fill(self) -> float:
        """What tiles hold where nothing was acquired."""
        return schema.intensity_fill(self.modality, self.dtype)

    @property
    def source_bytes(self) -> int:
        """Size of all files of the source."""
        entries = (entry for entry in self.source.values() if isinstance(entry, dict))
        return sum(int(entry.get("bytes", 0)) for entry in entries)


@dataclass(frozen=True)
class BinningTally:
    """What happened to the peaks of a ragged source when they were summed into channels; tallies add up.

    Attributes
    ----------
    peaks
        (m/z, intensity) pairs that were read.
    out_of_range
        Pairs that no channel takes.
    tic_source
        Sum of all finite intensities that were read.
    """

    peaks: int = 0
    out_of_range: int = 0
    tic_source: float = 0.0

    def __add__(self, other: BinningTally) -> BinningTally:
        return BinningTally(
            self.peaks + other.peaks,
            self.out_of_range + other.out_of_range,
            self.tic_source + other.tic_source,
        )


class Tile(NamedTuple):
    """A tile as it is stored.

    Attributes
    ----------
    values
        ``(y, x, channel)``, where not acquired :func:`msicube.schema.intensity_fill`.
    binning
        What binning did; None where nothing was binned.
    """

    values: NDArray[Any]
    binning: BinningTally | None = None


class SparseTile(NamedTuple):
    """A tile most of whose values are 0, as the others and their places: no place twice, in any order.

    Attributes
    ----------
    shape
        ``(y, x, channel)``.
    pixel, channel
        ``(value,)`` int32 places: the flat number of the pixel in the tile, and the channel.
    values
        ``(value,)`` of the type of the tile.
    binning
        What binning did.
    """

    shape: tuple[int, int, int]
    pixel: NDArray[np.int32]
    channel: NDArray[np.int32]
    values: NDArray[Any]
    binning: BinningTally

    def dense(self) -> Tile:
        """Return the tile with its zeros."""
        values = np.zeros(self.shape, self.values.dtype)
        values.reshape(-1, self.shape[2])[self.pixel, self.channel] = self.values
        return Tile(values, self.binning)


@dataclass(frozen=True)
class AxisSurvey:
    """The m/z values of a ragged source, in summary: what an axis is planned from.

    Attributes
    ----------
    lowest, highest
        m/z; NaN where there is no peak at all.
    suggestion
        An axis law of the observed spacing.
    common_axis
        The one m/z array that every spectrum has, bit for bit; None where they differ.
    """

    lowest: float
    highest: float
    suggestion: str
    common_axis: NDArray[np.float64] | None = field(default=None, repr=False)


class TileSource(Protocol):
    """One tile of a source file, ready to be read anywhere: it pickles to the part of the index that it needs."""

    def read(self) -> Tile:
        """Read the tile.

        Raises
        ------
        CorruptSource
            The spectra cannot be read as the metadata promises.
        """


@runtime_checkable
class SparseTileSource(TileSource, Protocol):
    """A tile that is read without its zeros: on a wide axis, what writing and summing zeros would take is saved."""

    @property
    def is_sparse(self) -> bool:
        """Whether so much of the tile is zeros that its other values and their places take less memory."""

    def read_sparse(self) -> SparseTile:
        """Read the tile; errors are those of ``read``."""


@runtime_checkable
class CubeReader(Protocol):
    """One cube of a source file."""

    @property
    def info(self) -> CubeInfo:
        """What is known without reading spectra."""

    def tile(self, window: Window) -> TileSource:
        """Return a window of the cube, to be read now or on a worker.

        Raises
        ------
        AxisRequired
            The source is ragged and ``with_axis`` was not called.
        UsageError
            The window leaves the cube.
        """

    def read_tile(self, window: Window) -> Tile:
        """Read a window of the cube: ``tile(window).read()``."""

    def survey(self) -> AxisSurvey | None:
        """Look through the spectral values of a ragged source; None for one that states its axis."""

    def with_axis(self, bins: SpectralBins, law: str) -> CubeReader:
        """Return a reader of the same source on a given axis; ``law`` is written into the store."""

    def crop(self, lower: float, upper: float) -> CubeReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included.

        Only their bytes are read where the format allows it. A ragged source is cropped once it is on its axis, by the
        centres of the channels.

        Raises
        ------
        UsageError
            No channel lies in the range.
        AxisRequired
            The source is ragged and ``with_axis`` was not called.
        """

    def verify(self) -> dict[str, str]:
        """Check the data against the checksums that the source declares.

        Returns
        -------
        dict
            Name of each checksum that was met to its value; empty where the source declares none.

        Raises
        ------
        CorruptSource
            The strongest declared checksum is not met.
        """
