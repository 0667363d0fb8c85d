"""The first pass of a pool: every chosen spectrum is read once and thrown into a bucket on disk, at random."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.stream.cells import CellReader
from msicube.stream.order import Draw, Integers, generator
from msicube.stream.sampling import Draws, draw_pixels
from msicube.stream.selection import Selection


def record_type(n_channels: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a spectrum with its slide, y and x."""
    return np.dtype([("values", dtype, (n_channels,)), ("place", "<i4", (3,))])


class Buckets:
    """Files of records.

    Parameters
    ----------
    folder
        An empty one.
    n
        How many.
    record
        Type of the records.
    """

    def __init__(self, folder: Path, n: int, record: np.dtype[Any]) -> None:
        self.folder, self.n, self.record = folder, n, record

    def add(self, records: NDArray[Any], bucket: Integers) -> None:
        """Append each record to its bucket."""
        order = np.argsort(bucket, kind="stable")
        names, starts = np.unique(bucket[order], return_index=True)
        for name, start, stop in zip(names.tolist(), starts, [*starts[1:], len(order)], strict=True):
            with self._path(name).open("ab") as file:
                records[order[start:stop]].tofile(file)

    def pop(self, number: int) -> NDArray[Any]:
        """Return the records of a bucket and remove it."""
        path = self._path(number)
        if not path.exists():
            return np.empty(0, self.record)
        records = np.fromfile(path, self.record)
        path.unlink()
        return records

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}"


def scatter(
    selection: Selection,
    draws: Draws,
    buckets: Buckets,
    *,
    seed: int,
    block_bytes: int,
    threads: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Read what was drawn and throw it into buckets.

    Blocks are read by several threads and taken in their order, so that the buckets do not depend on the threads.

    Parameters
    ----------
    selection, draws
        Which spectra.
    buckets
        Where they go.
    seed
        Of who goes where, and of the pixels where not all of a cell are taken.
    block_bytes
        Of all blocks that are in memory at a time.
    threads
        That read.
    progress
        Called with what is done, spectra done and spectra in all.
    """
    total, done = int(draws.counts.sum()), 0
    rows = max(1, block_bytes // ((threads + 1) * buckets.record.itemsize))
    jobs = _blocks(draws, rows)
    read = partial(_read, selection, draws, buckets.record, seed)
    with ThreadPoolExecutor(threads, thread_name_prefix="msicube-pool") as executor:
        waiting: deque[Future[NDArray[Any]]] = deque()
        for entries in jobs:
            waiting.append(executor.submit(read, entries))
            if len(waiting) > threads:
                done = _throw(waiting.popleft().result(), buckets, seed, done)
            if progress is not None:
                progress("reading", done, total)
        while waiting:
            done = _throw(waiting.popleft().result(), buckets, seed, done)
    if progress is not None:
        progress("reading", done, total)


def _throw(records: NDArray[Any], buckets: Buckets, seed: int, done: int) -> int:
    bucket = generator(seed, Draw.POOL, 0, done).integers(buckets.n, size=len(records))
    buckets.add(records, bucket)
    return done + len(records)


def _blocks(draws: Draws, rows: int) -> Iterator[range]:
    """Cut the entries, in the order of the store, into runs of about so many samples."""
    number = (np.cumsum(draws.counts) - draws.counts) // rows
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
    for start, stop in pairwise(edges):
        if draws.counts[start:stop].any():
            yield range(start, stop)


def _read(
    selection: Selection, draws: Draws, record: np.dtype[Any], seed: int, entries: range
) -> NDArray[Any]:
    reader = CellReader(selection)
    records = np.empty(int(draws.counts[entries.start : entries.stop].sum()), record)
    done = 0
    for entry in entries:
        n = int(draws.counts[entry])
        if not n:
            continue
        cell = selection.cell(int(draws.cells[entry]))
        rng = generator(seed, Draw.PIXELS, 0, cell.number, int(draws.rounds[entry]))
        samples = (
            np.arange(n) if n == len(cell.pixels) else np.sort(draw_pixels(rng, len(cell.pixels), n, None))
        )
        rows = np.arange(done, done + n)
        reader.read(cell, samples, records["values"], rows)
        records["place"][rows] = reader.places(cell, samples)
        done += n
    return records
