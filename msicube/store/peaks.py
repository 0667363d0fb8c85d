"""The peaks of a slide: ``peaks/mz`` and ``peaks/intensity``, one value a peak, and where each spectrum's begin.

The arrays are in the order of the source's spectra, cut into shards of whole chunks like the cubes. A task of the
conversion fills one shard of both, so no two tasks write the same object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.codecs import ChunkCodec
from msicube.errors import CorruptStore
from msicube.readers import Peaks
from msicube.shards import ShardLayout, StoredShard
from msicube.store.draft import METADATA, array_metadata, group_metadata, location_metadata
from msicube.store.location import Location

PEAKS = "peaks"
#: Values in a chunk: a few spectra of centroids.
CHUNK_VALUES = 2**14
#: Values in a shard, at most.
SHARD_VALUES = 2**20
#: Neighbouring m/z share their high bytes. With these together, the default codec packs them three times as fast and a
#: fifth smaller (``docs/codecs.md``); of intensities only the exponent is shared, and there it gains little.
MZ_CODEC = {"zstd": "blosc-zstd"}


@dataclass(frozen=True)
class PeakLayout:
    """How the two arrays are cut.

    Attributes
    ----------
    length
        Peaks in all.
    chunk, shard
        Values in a chunk and in a shard.
    """

    length: int
    chunk: int
    shard: int

    @classmethod
    def of(cls, length: int, pair_bytes: int, shard_bytes: int) -> PeakLayout:
        """Cut so that a shard of both arrays takes at most ``shard_bytes``, one pair at the least."""
        bound = max(1, min(SHARD_VALUES, shard_bytes // pair_bytes, length))
        chunk = min(bound, CHUNK_VALUES)
        return cls(length, chunk, bound // chunk * chunk)

    def spans(self) -> list[tuple[int, int]]:
        """Return the peaks of each shard."""
        return [(start, min(start + self.shard, self.length)) for start in range(0, self.length, self.shard)]

    def shards(self, dtype: np.dtype[Any], codec: str) -> ShardLayout:
        """Return the layout of the shards of one array."""
        return ShardLayout((1, 1, self.shard), (1, 1, self.chunk), ChunkCodec.named(codec, dtype))


@dataclass(frozen=True)
class PeakWriter:
    """Writes the shards of one array; picklable, one call one stored object."""

    location: Location
    layout: ShardLayout

    def write(self, start: int, values: NDArray[Any]) -> StoredShard:
        """Encode and store the shard that begins at a peak, and return what was stored."""
        data = self.layout.encode(values.reshape(1, 1, -1))
        self.shard(start).put(data)
        return data.stored

    def shard(self, start: int) -> Location:
        """Return where the shard that begins at a peak is stored."""
        return _shard(self.location, self.layout, start)


def peak_codecs(codec: str) -> tuple[str, str]:
    """Return the codecs of m/z and of intensity, by name, in a slide whose spectra have ``codec``."""
    return MZ_CODEC.get(codec, codec), codec


def create_peaks(
    group: Location, layout: PeakLayout, mz: np.dtype[Any], intensity: np.dtype[Any], codec: str
) -> tuple[PeakWriter, PeakWriter]:
    """Write the metadata of the group and its two arrays of values, and return their writers."""
    (group / METADATA).put(group_metadata({}))
    writers = []
    for spec, dtype, name in zip(schema.PEAK_SPECS, (mz, intensity), peak_codecs(codec), strict=False):
        writer = PeakWriter(group / spec.name, layout.shards(dtype, name))
        metadata = array_metadata(
            (layout.length,),
            dtype,
            chunks=(layout.chunk,),
            shards=(layout.shard,),
            dims=spec.dims,
            attrs=spec.attributes(),
            codec=writer.layout.codec.zarr_arguments(),
        )
        (writer.location / METADATA).put(metadata)
        writers.append(writer)
    return writers[0], writers[1]


@dataclass(frozen=True)
class PeakArray:
    """One stored array of peaks; picklable, read from any thread or process.

    Attributes
    ----------
    location
        The array's folder.
    length
        Peaks.
    layout
        Of its shards, ``(1, 1, peak)``.
    """

    location: Location
    length: int
    layout: ShardLayout
    _indexes: dict[int, NDArray[np.uint64]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, location: Location) -> PeakArray:
        """Open an array from its metadata.

        Raises
        ------
        CorruptStore
            There is no such array, or it is not sharded as msicube writes it.
        """
        metadata = location_metadata(location)
        if metadata is None or metadata.get("node_type") != "array":
            raise CorruptStore(f"there is no array at {location}: convert the slide again")
        sharding, grid = metadata["codecs"][0], metadata["chunk_grid"]["configuration"]["chunk_shape"]
        if len(grid) != 1 or sharding["name"] != "sharding_indexed":
            raise CorruptStore(f"{location} is not a sharded array of one dimension, as msicube writes peaks")
        configuration = sharding["configuration"]
        codec = ChunkCodec.from_metadata(configuration["codecs"], np.dtype(metadata["data_type"]))
        layout = ShardLayout((1, 1, grid[0]), (1, 1, configuration["chunk_shape"][0]), codec)
        return cls(location, int(metadata["shape"][0]), layout)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indexes": {}}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.layout.codec.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read the peaks ``start`` to ``stop``.

        Raises
        ------
        CorruptStore
            A shard is missing or damaged.
        """
        out = np.empty((1, 1, stop - start), self.dtype)
        size = self.layout.shape[2]
        for first in range(start // size * size, stop, size):
            low, high = max(start, first), min(stop, first + size)
            region = (slice(0, 1), slice(0, 1), slice(low - first, high - first))
            source = _shard(self.location, self.layout, first).source()
            try:
                if first not in self._indexes:
                    self._indexes[first] = self.layout.read_index(source)
                self.layout.read(source, self._indexes[first], region, out[..., low - start : high - start])
            except FileNotFoundError as error:
                raise CorruptStore(
                    f"{self.location}: the shard from peak {first} is missing; convert the slide again"
                ) from error
            except CorruptStore as error:
                raise CorruptStore(f"{self.location} from peak {first}: {error}") from error
        return out.reshape(-1)


@dataclass(frozen=True)
class StoredPeaks:
    """The peaks of a stored slide; see :class:`msicube.readers.PeakSource`.

    Attributes
    ----------
    mz, intensity
        The arrays.
    start, lengths
        ``(spectrum,)`` int64, first peak and number of peaks of each spectrum.
    """

    mz: PeakArray
    intensity: PeakArray
    start: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def open(cls, group: Location, offset: NDArray[np.int64]) -> StoredPeaks:
        """Open the peaks of a slide; ``offset`` is the stored ``(spectrum_edge,)`` array.

        Raises
        ------
        CorruptStore
            The arrays are not there, or the offsets do not fit them.
        """
        mz, intensity = PeakArray.open(group / "mz"), PeakArray.open(group / "intensity")
        lengths = np.diff(offset)
        if (
            not len(offset)
            or offset[0] != 0
            or (lengths < 0).any()
            or not offset[-1] == mz.length == intensity.length
        ):
            raise CorruptStore(
                f"{group}/offset must begin at 0, never fall and end at the number of peaks ({mz.length} m/z "
                f"values and {intensity.length} intensities): convert the slide again"
            )
        return cls(mz, intensity, offset[:-1], lengths)

    @property
    def mz_dtype(self) -> np.dtype[Any]:
        """Of the m/z values."""
        return self.mz.dtype

    @property
    def intensity_dtype(self) -> np.dtype[Any]:
        """Of the intensities."""
        return self.intensity.dtype

    def take(self, rows: NDArray[np.intp]) -> StoredPeaks:
        """Return some of the spectra."""
        return replace(self, start=self.start[rows], lengths=self.lengths[rows])

    def read(self, start: int, stop: int) -> Peaks:
        """Read the spectra ``start`` to ``stop``."""
        return Peaks(self._read(self.mz, start, stop), self._read(self.intensity, start, stop))

    def read_mz(self, start: int, stop: int) -> NDArray[Any]:
        """Read the m/z values alone."""
        return self._read(self.mz, start, stop)

    def _read(self, array: PeakArray, start: int, stop: int) -> NDArray[Any]:
        parts = [array.read(*span) for span in self._spans(start, stop)]
        return np.concatenate([np.empty(0, array.dtype), *parts])

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of peaks, one for each run of spectra that are neighbours in the store."""
        first, last = self.start[start:stop], (self.start + self.lengths)[start:stop]
        new = np.flatnonzero(first[1:] != last[:-1]) + 1
        for low, high in zip(first[np.r_[0, new]].tolist(), last[np.r_[new - 1, -1]].tolist(), strict=True):
            if low < high:
                yield low, high


def _shard(array: Location, layout: ShardLayout, start: int) -> Location:
    """Return where a shard is stored, by the default chunk key encoding of Zarr 3."""
    return array / f"c/{start // layout.shape[2]}"
