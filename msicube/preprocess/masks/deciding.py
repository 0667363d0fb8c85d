"""Deciding on the pixels of slides: one task for each tile, put together in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.chain import Chain
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import VARIABLE
from msicube.preprocess.engine import Progress
from msicube.preprocess.masks.jobs import Job, MadeMask, Origin
from msicube.preprocess.sources import STRIP_BYTES, strips, within
from msicube.scheduling import SchedulerLike, run_tasks
from msicube.store import CubeArray, Location, read_mask
from msicube.tiling import Window

Bools = NDArray[np.bool_]
#: Slides are begun until so many tiles are on hand: enough to keep workers busy, few masks in memory at a time.
BATCH_TILES = 256


def decide_slides(
    job: Job,
    slides: Mapping[str, Channels | None],
    chain: Chain,
    origin: Origin,
    *,
    scheduler: SchedulerLike,
    workers: int | None,
    progress: Progress | None,
) -> dict[str, MadeMask]:
    """Make and store the masks of slides, a few slides at a time.

    Parameters
    ----------
    job
        What is to be made.
    slides
        Names, each with the axis of its spectra where that is not the one of the fit.
    chain
        The fitted steps; of what comes out, the first column is the mask, and those behind it are the images.
    origin
        How the masks came about.
    scheduler, workers, progress
        As for :func:`msicube.preprocess.masks.make_mask`.

    Notes
    -----
    A task is one tile: it holds a strip of intensities and sends back a mask. This process holds the masks and images
    of the slides whose tiles are on hand.
    """
    made: dict[str, MadeMask] = {}
    with one_blas_thread():
        for tiles in _batches(job, slides, chain):
            making = _Making(job, tiles, origin, progress)
            run_tasks(
                partial(_decide, n_images=len(job.images)),
                tiles,
                scheduler=scheduler,
                workers=workers,
                on_result=making.add,
            )
            made |= making.made
    return made


@dataclass(frozen=True, eq=False)
class _Tile:
    """The work of one task; picklable."""

    study: Location
    cube: CubeArray
    window: Window
    where: str
    chain: Chain


def _batches(job: Job, slides: Mapping[str, Channels | None], chain: Chain) -> Iterator[list[_Tile]]:
    tiles: list[_Tile] = []
    for slide, channels in slides.items():
        cube = job.study.cube(slide, VARIABLE)
        own = chain if channels is None else chain.on_axis(channels)
        tiles += [_Tile(job.study.location, cube, window, job.where, own) for window in cube.tiles()]
        if len(tiles) >= BATCH_TILES:
            yield tiles
            tiles = []
    if tiles:
        yield tiles


def _decide(tile: _Tile, *, n_images: int) -> tuple[str, Window, Bools, NDArray[np.float32]]:
    """Decide on the pixels of one tile: slide, window, mask and images."""
    window, chain = tile.window, tile.chain
    chosen = read_mask(tile.study, tile.cube.slide, tile.where)[window.slices]
    held = np.zeros(window.shape, bool)
    numbers = np.full((*window.shape, n_images), np.nan, np.float32)
    n_columns = chain.n_in if chain.columns is None else len(chain.columns)
    # Half of what a fit reads at a time, because the masks of whole slides are held beside it.
    pixels = STRIP_BYTES // (2 * n_columns * tile.cube.dtype.itemsize)
    with one_blas_thread():
        for strip in strips(window, tile.cube.cell, pixels):
            inside = within(strip, window)
            here = chosen[inside]
            if not here.any():
                continue
            values = tile.cube.read(strip, channels=chain.columns)
            # Without a copy where all pixels are chosen, which is most of the time.
            features = chain.map(values.reshape(-1, n_columns) if here.all() else values[here])
            held[inside][here] = features[:, 0] > 0
            numbers[inside][here] = features[:, 1 : 1 + n_images]
    return tile.cube.slide, window, held, numbers


class _Making:
    """The masks of some slides, put together from their tiles and stored with the last."""

    def __init__(
        self,
        job: Job,
        tiles: Sequence[_Tile],
        origin: Origin,
        progress: Progress | None,
    ) -> None:
        self.job, self.origin, self.progress = job, origin, progress
        self.made: dict[str, MadeMask] = {}
        self._shapes = {tile.cube.slide: tile.cube.shape[:2] for tile in tiles}
        self._totals = {slide: sum(tile.cube.slide == slide for tile in tiles) for slide in self._shapes}
        self._done = dict.fromkeys(self._shapes, 0)
        self._held: dict[str, Bools] = {}
        self._numbers: dict[str, NDArray[np.float32]] = {}

    def add(self, result: tuple[str, Window, Bools, NDArray[np.float32]]) -> None:
        """Put one tile in its place."""
        slide, window, held, numbers = result
        if slide not in self._held:
            self._held[slide] = np.zeros(self._shapes[slide], bool)
            self._numbers[slide] = np.full((*self._shapes[slide], len(self.job.images)), np.nan, np.float32)
        self._held[slide][window.slices] = held
        self._numbers[slide][window.slices] = numbers
        self._done[slide] += 1
        if self._done[slide] == self._totals[slide]:
            held, numbers = self._held.pop(slide), self._numbers.pop(slide)
            images = {image: numbers[..., i] for i, image in enumerate(self.job.images)}
            self.made[slide] = self.job.store(slide, held, self.job.looked_at(slide), self.origin, images)
        if self.progress is not None:
            self.progress(slide, self._done[slide], self._totals[slide])
