"""The unit of conversion: read one tile, write one shard, leave one record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from msicube.readers import BinningTally, SparseTile, SparseTileSource, Tile, TileSource
from msicube.store import CubeWriter, Location
from msicube.tiling import Window

#: Bytes of float64 that the sums of a tile work on at a time: a few blocks stay in the processor's cache.
SUM_BLOCK = 2**20


@dataclass(frozen=True)
class TileSummary:
    """What a tile adds to the slide's by-products and to its report.

    Attributes
    ----------
    total
        ``(y, x)`` float64 sum of each spectrum.
    sums, largest
        ``(channel,)`` float64 sum, and maximum in a type of float that holds it, of the finite values of the acquired
        pixels; -inf where there is none.
    spectra, empty, nonfinite
        Counts of spectra.
    """

    total: NDArray[np.float64]
    sums: NDArray[np.float64]
    largest: NDArray[np.floating[Any]]
    spectra: int
    empty: int
    nonfinite: int

    @classmethod
    def of(cls, values: NDArray[Any], acquired: NDArray[np.bool_]) -> TileSummary:
        """Summarise a tile in one pass.

        Parameters
        ----------
        values
            ``(y, x, channel)``.
        acquired
            ``(y, x)``.
        """
        n_channels = values.shape[2]
        flat = values.reshape(-1, n_channels)
        pixels = np.flatnonzero(acquired)
        total, sums = np.zeros(len(flat)), np.zeros(n_channels)
        largest = np.full(n_channels, -np.inf, _float_of(values.dtype))
        empty = nonfinite = 0
        step = max(1, SUM_BLOCK // (8 * n_channels))
        # Each block in the same memory: fresh memory would be fetched from the system and given back.
        doubles, part = np.empty((step, n_channels)), np.empty(n_channels)
        highest = np.empty(n_channels, values.dtype)
        for start in range(0, len(pixels), step):
            rows = pixels[start : start + step]
            neighbours = rows[-1] - rows[0] == len(rows) - 1
            taken = flat[rows[0] : rows[-1] + 1] if neighbours else flat[rows]
            block = doubles[: len(rows)]
            block[...] = taken
            total[rows] = row_sums = block.sum(axis=1)
            if np.isfinite(row_sums).all():
                np.add.reduce(block, axis=0, out=part)
                np.maximum.reduce(taken, axis=0, out=highest)
                np.maximum(largest, highest, out=largest)
            else:
                mask = np.isfinite(block)
                nonfinite += int((~mask).any(axis=1).sum())
                block.sum(axis=0, where=mask, out=part)
                block = np.where(mask, block, -np.inf)
                np.maximum(largest, block.max(axis=0), out=largest)
            sums += part
            quiet = row_sums == 0
            if quiet.any():
                empty += int((~block[quiet].any(axis=1)).sum())
        return cls(total.reshape(acquired.shape), sums, largest, len(pixels), empty, nonfinite)

    @classmethod
    def of_sparse(cls, tile: SparseTile, acquired: NDArray[np.bool_]) -> TileSummary:
        """Summarise a tile that is given without its zeros; sums differ from :meth:`of` by what float64 rounds."""
        n_pixels, n_channels = acquired.size, tile.shape[2]
        spectra = int(acquired.sum())
        pixel, channel, values = tile.pixel, tile.channel, tile.values
        total = _sums_of_runs(pixel, values.astype(np.float64), n_pixels)
        quiet = acquired.ravel() & (total == 0)
        quiet[pixel[quiet[pixel] & (values != 0)]] = False  # its values cancel
        nonfinite = 0
        if not np.isfinite(total).all():
            finite = np.isfinite(values)
            nonfinite = len(np.unique(pixel[~finite]))
            channel, values = channel[finite], values[finite]
        sums = np.bincount(channel, values, n_channels).astype(np.float64, copy=False)
        # Where a spectrum has no value it has a zero, which counts for the maximum as well.
        largest = np.full(n_channels, 0.0 if spectra else -np.inf, _float_of(values.dtype))
        if nonfinite or values.min(initial=0.0) < 0:
            largest[np.bincount(tile.channel, minlength=n_channels) == spectra] = -np.inf
        np.maximum.at(largest, channel, values)
        return cls(total.reshape(acquired.shape), sums, largest, spectra, int(quiet.sum()), nonfinite)


def _float_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the shortest type of float that holds the values of a type."""
    return np.result_type(dtype, np.float32)


def _sums_of_runs(
    group: NDArray[np.int32], values: NDArray[np.float64], n_groups: int
) -> NDArray[np.float64]:
    """Return the sum of the values of each group; values of one group that are neighbours are summed fastest."""
    if not len(values):
        return np.zeros(n_groups)
    start = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    with np.errstate(invalid="ignore"):  # infinities of both signs: their sum is not finite either
        parts = np.add.reduceat(values, start)
    return np.bincount(group[start], parts, n_groups).astype(np.float64, copy=False)


@dataclass(frozen=True)
class TileRecord:
    """Proof that a tile is stored, and all that the slide's end needs of it.

    Attributes
    ----------
    window
        The tile.
    stored_bytes, crc32c
        Of the shard as it was written.
    summary
        By-products.
    binning
        What binning did; None where nothing was binned.
    """

    window: Window
    stored_bytes: int
    crc32c: int
    summary: TileSummary
    binning: BinningTally | None

    def to_bytes(self) -> bytes:
        """Return the record as a line of JSON, the arrays, and the CRC-32C of both."""
        head = {
            "window": self.window,
            "stored_bytes": self.stored_bytes,
            "crc32c": self.crc32c,
            "counts": [self.summary.spectra, self.summary.empty, self.summary.nonfinite],
            "binning": asdict(self.binning) if self.binning else None,
            "channels": len(self.summary.sums),
            "largest": self.summary.largest.dtype.str,
        }
        arrays = (self.summary.total, self.summary.sums, self.summary.largest)
        data: bytes = b"".join([json.dumps(head).encode(), b"\n", *(array.tobytes() for array in arrays)])
        checksum: int = google_crc32c.value(data)
        return data + checksum.to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> TileRecord:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        ValueError
            It was cut off.
        """
        if google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ValueError("a record does not meet its checksum")
        start = data.index(b"\n") + 1
        head = json.loads(data[:start])
        window, n_channels = Window(*head["window"]), head["channels"]
        total = np.frombuffer(data, np.float64, window.n_pixels, start)
        sums = np.frombuffer(data, np.float64, n_channels, start + total.nbytes)
        largest = np.frombuffer(data, head["largest"], n_channels, start + total.nbytes + sums.nbytes)
        summary = TileSummary(total.reshape(window.shape), sums, largest, *head["counts"])
        binning = BinningTally(**head["binning"]) if head["binning"] else None
        return cls(window, head["stored_bytes"], head["crc32c"], summary, binning)


@dataclass(frozen=True)
class TileTask:
    """One tile to convert; picklable, may run anywhere and more than once.

    Attributes
    ----------
    source
        Where the spectra come from.
    window
        The tile.
    acquired
        ``(y, x)`` of the tile.
    writer
        Where the shard goes.
    record
        Where the record goes, after the shard.
    """

    source: TileSource
    window: Window
    acquired: NDArray[np.bool_]
    writer: CubeWriter
    record: Location

    def run(self) -> None:
        """Read, summarise and store the tile; its record comes last."""
        tile: Tile | SparseTile
        if isinstance(self.source, SparseTileSource) and self.source.is_sparse:
            tile = self.source.read_sparse()
            stored = self.writer.write_sparse(self.window, tile)
            summary = TileSummary.of_sparse(tile, self.acquired)
        else:
            tile = self.source.read()
            stored = self.writer.write(self.window, tile.values)
            summary = TileSummary.of(tile.values, self.acquired)
        record = TileRecord(self.window, *stored, summary, tile.binning)
        self.record.put(record.to_bytes())

    def finished(self) -> bool:
        """Return whether an earlier run stored the tile and its shard is still what was written then."""
        data = self.record.get()
        if data is None:
            return False
        try:
            record = TileRecord.from_bytes(data)
        except ValueError:
            return False  # cut off by a power failure: as if it were not there
        return unchanged(self.writer.shard(self.window), record.stored_bytes, record.crc32c)


def record_location(folder: Location, window: Window) -> Location:
    """Return where the record of a tile lies."""
    return folder / f"{window.y0}-{window.x0}.tile"


def unchanged(shard: Location, stored_bytes: int, crc32c: int) -> bool:
    """Return whether a stored object is still what was written."""
    data = shard.get()
    return data is not None and len(data) == stored_bytes and google_crc32c.value(data) == crc32c
