"""Spectra written once in a global random order, so that even a small window of them mixes all slides.

Two passes, neither of which holds more than its budget. The first reads the chosen spectra and throws each into one of
many buckets on disk, at random; the second takes one bucket after another into memory, shuffles it and stores it. That
is a uniform random order of all of them (Rao 1961; Sandelius 1962).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import msicube
from msicube import schema
from msicube.bytesize import format_bytes, parse_bytes
from msicube.codecs import DEFAULT_CODEC, ChunkCodec
from msicube.errors import MemoryLimitError, UsageError
from msicube.scheduling import default_workers
from msicube.shards import ShardLayout
from msicube.store import CubeWriter, Location, Study, array_metadata, open_study
from msicube.store.draft import METADATA, work_folder
from msicube.store.lock import write_lock
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.stream.lookup import ORIGIN, POOL, select, slide_groups
from msicube.stream.options import Source
from msicube.stream.order import Draw, generator
from msicube.stream.pool_buckets import Buckets, record_type, scatter
from msicube.stream.sampling import GroupSampler
from msicube.stream.selection import Selection
from msicube.tiling import DEFAULT_SHARD_BYTES, TilePlan, Window, plan_tiles

#: Parts of the budget: a bucket and its shuffled copy, a shard as numbers and encoded, what is read ahead.
PARTS = 8
MAX_BUCKETS = 4096
Progress = Callable[[str, int, int], None]


def pool(
    study: Study | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    slides: Sequence[str] | None = None,
    where: str = "acquired",
    balance: str | None = None,
    replacement: bool = False,
    limit: int | None = None,
    seed: int = 0,
    memory: str | int = "1 GiB",
    codec: str = DEFAULT_CODEC,
    scratch: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Study:
    """Write chosen spectra of a study once, in a random order of all of them.

    The result is a study of one image, named ``pool``, whose pixels are the spectra in their new order; the variable
    ``origin`` says which slide, y and x each comes from. :class:`~msicube.stream.SpectrumStream` reads it, with the
    slides, labels and places of the study that it was made of.

    Parameters
    ----------
    study
        A study or its path.
    out
        Where the pool goes.
    slides, where
        Which spectra: names of slides, and a mask or an expression such as ``"tissue & ~dead"``.
    balance, replacement, limit
        How many of each value of a column of the samples table, as for :class:`~msicube.stream.SpectrumStream`.
    seed
        Of the order.
    memory
        Budget of the process. The shuffle is out of core: more memory means fewer and larger buckets.
    codec
        One of :data:`msicube.codecs.CODECS`.
    scratch
        A folder on a local disk for the buckets, which take as much as the spectra uncompressed; beside ``out`` by
        default.
    overwrite
        Whether to replace a pool that is there.
    progress
        Called with what is done, spectra done and spectra in all.

    Returns
    -------
    Study
        The pool. It is there whole or not at all.

    Raises
    ------
    UsageError
        ``out`` holds something already, or the disk of ``scratch`` is too full; the message has both numbers.
    MemoryLimitError
        The budget is too small; the message has the size that is needed.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    target = Location.of(out)
    selection = select(opened, Source(slides=slides, where=where, labels=None))
    dtypes = {cube.dtype for cube in selection.cubes}
    if len(dtypes) > 1:
        raise UsageError(
            f"the slides hold {', '.join(sorted(map(str, dtypes)))}: pool slides of one number type"
        )
    groups = selection.per_cell(slide_groups(opened, selection.slides, balance))
    draws = GroupSampler(selection.counts, groups, limit, replacement).draw(seed=seed, epoch=0)
    plan = plan_pool(selection, int(draws.counts.sum()), parse_bytes(memory))
    with write_lock(target), _buckets_folder(target, scratch) as folder:
        _check_target(target, overwrite)
        _check_disk(folder, plan)
        buckets = Buckets(folder, plan.n_buckets, plan.record)
        scatter(
            selection,
            draws,
            buckets,
            seed=seed,
            block_bytes=plan.part_bytes,
            threads=plan.threads,
            progress=progress,
        )
        header = create_study(target, modality=opened.modality)
        _Writer(header, plan, codec).write(
            buckets,
            channels=_channels(opened, selection.slides[0]),
            about=_describe(opened, selection, plan, {"where": where, "balance": balance, "seed": seed}),
            seed=seed,
            progress=progress,
        )
    return open_study(out)


@dataclass(frozen=True)
class PoolPlan:
    """How a pool is laid out.

    Attributes
    ----------
    n_samples, n_buckets
        Spectra, and parts that are shuffled at a time.
    part_bytes
        Of the budget, for the blocks that are read.
    threads
        That read them.
    record
        A spectrum and where it is from.
    tiles
        Of the image that the spectra fill, tile after tile.
    """

    n_samples: int
    n_buckets: int
    part_bytes: int
    threads: int
    record: np.dtype[Any]
    tiles: TilePlan


def plan_pool(selection: Selection, n_samples: int, memory: int) -> PoolPlan:
    """Divide a budget.

    Raises
    ------
    UsageError
        There is no spectrum.
    MemoryLimitError
        A part of it does not hold a bucket or a cell; the message has what is needed and what was given.
    """
    if not n_samples:
        raise UsageError(
            f"{len(selection.slides)} slides hold no selected spectrum: choose others, or another mask"
        )
    n_channels, dtype = selection.cubes[0].shape[2], selection.cubes[0].dtype
    record = record_type(n_channels, dtype)
    part = memory // PARTS
    least = max(-(-n_samples * record.itemsize // MAX_BUCKETS), selection.stored_cell_bytes)
    if part < least:
        needed = -(-least * PARTS // 2**20)
        raise MemoryLimitError(
            f'memory="{format_bytes(memory)}" is too little to shuffle {n_samples} spectra of '
            f'{format_bytes(record.itemsize)} in at most {MAX_BUCKETS} buckets: raise it to "{needed} MiB"'
        )
    n_buckets = max(1, -(-n_samples * record.itemsize // part))
    shard_bytes = max(min(DEFAULT_SHARD_BYTES, part), n_channels * dtype.itemsize)
    side = isqrt(n_samples - 1) + 1
    height = plan_tiles((side, side, n_channels), dtype.itemsize, shard_bytes=shard_bytes).tile[0]
    width = -(-n_samples // height)
    tiles = plan_tiles((height, width, n_channels), dtype.itemsize, shard_bytes=shard_bytes)
    # A thread holds a block of one cell at the least, and that cell as it is stored and decoded.
    threads = max(1, min(default_workers(), memory // 2 // (3 * selection.stored_cell_bytes)))
    return PoolPlan(n_samples, n_buckets, part, threads, record, tiles)


class _Writer:
    """The second pass: buckets become the tiles of an image."""

    def __init__(self, study: Study, plan: PoolPlan, codec: str) -> None:
        self.plan, self.codec = plan, codec
        self.draft = SlideDraft.of(study.location, POOL, study.modality)
        self.draft.discard()
        ny, nx, n_channels = plan.tiles.shape
        self.acquired = np.zeros((ny, nx), bool)
        self.number = np.full((ny, nx), -1, np.int64)
        self.total = np.zeros((ny, nx))
        self.sums, self.largest = np.zeros(n_channels), np.full(n_channels, -np.inf)

    def write(
        self,
        buckets: Buckets,
        *,
        channels: Mapping[str, NDArray[np.float64]],
        about: dict[str, Any],
        seed: int,
        progress: Progress | None,
    ) -> None:
        """Write the image; nothing of it is left where that fails."""
        draft, plan = self.draft, self.plan
        try:
            writers = self._writers()
            records = _Shuffled(buckets, seed)
            done = 0
            for window in plan.tiles.tiles():
                block = records.take(min(window.n_pixels, plan.n_samples - done))
                if len(block):
                    self._tile(window, block, done, writers)
                done += len(block)
                if progress is not None:
                    progress("shuffling", done, plan.n_samples)
            draft.write("acquired", self.acquired)
            draft.write("spectrum_index", self.number)
            draft.write("total_ion_current", self.total)
            draft.write("mean_spectrum", self.sums / plan.n_samples)
            draft.write("max_spectrum", np.where(np.isfinite(self.largest), self.largest, 0.0))
            for name, values in channels.items():
                draft.write(name, values)
            for name, length in zip(("y", "x"), plan.tiles.shape, strict=False):
                draft.write(name, np.arange(length, dtype=np.float64))
            draft.commit(about)
        except BaseException:
            draft.discard()
            raise

    def _writers(self) -> tuple[CubeWriter, CubeWriter]:
        tiles, dtype = self.plan.tiles, self.plan.record["values"].base
        values = self.draft.cube_writer(tiles, dtype, self.codec)
        shard, chunk = (*tiles.shard_shape[:2], 3), (*tiles.cell, 3)
        layout = ShardLayout(shard, chunk, ChunkCodec.named("zstd", np.dtype("<i4")))
        location = self.draft.draft.work / ORIGIN
        metadata = array_metadata(
            (*tiles.shape[:2], 3),
            np.dtype("<i4"),
            chunks=chunk,
            shards=shard,
            dims=("y", "x", f"{ORIGIN}_part"),
            attrs={
                "long_name": "slide (a number into the pool's list of slides), y and x that the spectrum comes from"
            },
            codec=layout.codec.zarr_arguments(),
        )
        (location / METADATA).put(metadata)
        return values, CubeWriter(location, layout)

    def _tile(
        self, window: Window, block: NDArray[Any], done: int, writers: tuple[CubeWriter, CubeWriter]
    ) -> None:
        """Write spectra into a tile, row by row; where they do not fill it, the rest was not acquired."""
        n, pixels = len(block), window.n_pixels
        values = np.full((pixels, self.plan.tiles.shape[2]), writers[0].layout.fill, block["values"].dtype)
        values[:n] = block["values"]
        origin = np.zeros((pixels, 3), np.int32)
        origin[:n] = block["place"]
        writers[0].write(window, values.reshape(*window.shape, -1))
        writers[1].write(window, origin.reshape(*window.shape, 3))
        inside = np.arange(pixels).reshape(window.shape) < n
        self.acquired[window.slices] = inside
        self.number[window.slices] = np.where(inside, done + np.arange(pixels).reshape(window.shape), -1)
        total = np.zeros(pixels)
        total[:n] = values[:n].sum(axis=1, dtype=np.float64)
        self.total[window.slices] = total.reshape(window.shape)
        self.sums += values[:n].sum(axis=0, dtype=np.float64)
        np.maximum(self.largest, values[:n].max(axis=0), out=self.largest)


def _channels(study: Study, slide: str) -> dict[str, NDArray[np.float64]]:
    """Return the spectral axis of a slide, and the edges of its channels where it has them."""
    found = {schema.AXIS_NAME[study.modality]: study.axis(slide)}
    for name in ("channel_lower", "channel_upper"):
        if (study.location / slide / name).exists():
            found[name] = study.small(slide, name)
    return found


def _describe(
    study: Study, selection: Selection, plan: PoolPlan, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the attributes of a pool: those that every slide has, and what is known of its spectra."""
    known = {
        "slides": list(selection.slides),
        "samples": {name: study.slide_attrs[name].get("sample", {}) for name in selection.slides},
        "study": study.path,
        "software": f"msicube {msicube.__version__}",
        **chosen,
    }
    return {
        "sample": {},
        "source": {"study": study.path},
        "pixel_size": {"y": 1.0, "x": 1.0, "provenance": "none: the pixels of a pool are in random order"},
        "axis": study.slide_attrs[selection.slides[0]]["axis"],
        "conversion": {"spectra": plan.n_samples},
        POOL: known,
    }


class _Shuffled:
    """The records of one bucket after another, each in random order; a bucket is gone once it was read."""

    def __init__(self, buckets: Buckets, seed: int) -> None:
        self._buckets, self._seed, self._next = buckets, seed, 0
        self._records = np.empty(0, buckets.record)
        self._order = np.empty(0, np.int64)

    def take(self, n: int) -> NDArray[Any]:
        """Return the next ``n``, of as many buckets as that needs."""
        parts = []
        while n > 0:
            if not len(self._order):
                self._records = np.empty(0, self._buckets.record)  # before the next one is read, not after it
                self._records = self._buckets.pop(self._next)
                self._order = generator(self._seed, Draw.POOL, 1, self._next).permutation(len(self._records))
                self._next += 1
            parts.append(self._records[self._order[:n]])
            self._order = self._order[n:]
            n -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self._buckets.record), *parts])


@contextmanager
def _buckets_folder(target: Location, scratch: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Make an empty folder for the buckets, and remove it at the end."""
    beside = work_folder(target).local
    if scratch is None and beside is None:
        raise UsageError(f"{target} is no local folder: name one for the buckets with scratch=")
    parent = Path(scratch) if scratch is not None else beside
    assert parent is not None
    folder = parent / f"buckets.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=False)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_target(target: Location, overwrite: bool) -> None:
    if not target.children():
        return
    if not overwrite:
        raise UsageError(
            f"{target} is there already: say overwrite=True to replace it, or name another place"
        )
    if POOL not in open_study(target).slide_attrs:
        raise UsageError(f"{target} is a study and no pool: name another place")
    target.remove()


def _check_disk(folder: Path, plan: PoolPlan) -> None:
    needed, free = plan.n_samples * plan.record.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"the buckets of {plan.n_samples} spectra take {format_bytes(needed)}, {folder.parent} has "
            f"{format_bytes(free)}: name a folder on another disk with scratch="
        )
