"""The features of a saved pipeline, written into the study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UnknownSlide, UsageError
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.chain import Chain
from msicube.preprocess.datasets import VARIABLE
from msicube.preprocess.engine import Progress
from msicube.preprocess.lazy import map_pixels
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.sources import STRIP_BYTES, strips, within
from msicube.preprocess.studies import mask_digest, mask_reader, study_channels
from msicube.scheduling import SchedulerLike, run_tasks
from msicube.store import CubeArray, CubeWriter, Study, new_variable, open_study
from msicube.store.draft import read_attrs
from msicube.store.lock import write_lock
from msicube.tiling import Window

#: Attributes of stored features; together they decide their numbers.
FINGERPRINT, WHERE, WHERE_DIGEST = "pipeline_fingerprint", "where", "where_digest"
#: Slides are begun until so many tiles are on hand: enough to keep workers busy, and few unfinished slides at a time.
BATCH_TILES = 256


def apply(
    study: Study | str | os.PathLike[str],
    *,
    name: str,
    slides: Iterable[str] | None = None,
    where: str | None = None,
    overwrite: bool = False,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the features of a saved pipeline into the slides of its study.

    Each slide gets a float32 variable ``<name>`` of dims ``(y, x, <name>_feature)`` with the tiles of its intensities,
    0 where not acquired or outside ``where``. It appears when all of its tiles are written.

    Parameters
    ----------
    study
        The study or its path.
    name
        Of the pipeline.
    slides
        Names; all by default.
    where
        Which pixels get features: a mask by name, or an expression such as ``"tissue & ~dead"``. By default all that
        are acquired. The variable's attributes tell it, and with ``where_digest`` which pixels these were.
    overwrite
        Whether to replace what another pipeline of this name, or this one on other pixels, has left.
    scheduler, workers
        Where tiles are computed; see :mod:`msicube.scheduling`.
    progress
        Called in this process with slide, tiles done and tiles in all.

    Returns
    -------
    list of str
        The slides that were written. Those that have the features of this very pipeline already are not.

    Raises
    ------
    UsageError
        No such pipeline or mask, a slide has a variable of this name from another pipeline or of other pixels, or a
        step that works by slide has not seen one of them.
    AxisMismatch
        A slide lies on another axis than those of the fit.
    StudyLocked
        Another process is writing to the study.

    Notes
    -----
    A task is one tile. It holds a strip of its intensities, and its features twice: as numbers and encoded.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    pipeline = Pipeline.load(opened, name=name)
    wanted = opened.slides if slides is None else list(dict.fromkeys(slides))
    unknown = [slide for slide in wanted if slide not in opened]
    if unknown:
        raise UnknownSlide(f"{opened.path} has no slide {unknown[0]!r}; it has {len(opened.slides)} slides")
    with write_lock(opened.location):
        fingerprint = pipeline.fingerprint()
        made_by = {slide: _made_by(opened, slide, fingerprint, where) for slide in wanted}
        todo = [slide for slide in wanted if not _is_done(opened, slide, name, made_by[slide], overwrite)]
        for slide in todo:
            pipeline.channels_in.require(study_channels(opened, slide), where=f"slide {slide}")
            pipeline.chain.for_slide(slide)
        attrs = {
            "long_name": f"features of pipeline {name}",
            "pipeline_name": name,
            "feature_names": pipeline.get_feature_names_out().tolist(),
        }
        each = {slide: {**attrs, **made_by[slide]} for slide in todo}
        writing = _Writing(opened, name, where, each, pipeline.n_features_out_, progress)
        with writing, one_blas_thread():
            for tiles in _batches(todo, writing):
                run_tasks(
                    partial(_apply_tile, pipeline.chain),
                    tiles,
                    scheduler=scheduler,
                    workers=workers,
                    on_result=writing.tile_done,
                )
    return todo


@dataclass(frozen=True, eq=False)
class _Tile:
    """The work of one task."""

    cube: CubeArray
    writer: CubeWriter
    read_mask: Callable[[], NDArray[np.bool_]]
    window: Window


class _Writing:
    """The variables under construction; each is committed with its last tile, or discarded when the block fails."""

    def __init__(
        self,
        study: Study,
        name: str,
        where: str | None,
        attrs: Mapping[str, dict[str, Any]],
        n_features: int,
        progress: Progress | None,
    ) -> None:
        self.study = study
        self.name = name
        self.where = where
        self.attrs = attrs
        self.n_features = n_features
        self.progress = progress
        self.drafts: dict[str, ExitStack] = {}
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def tiles(self, slide: str) -> Sequence[_Tile]:
        """Begin a slide's variable and return its tiles."""
        cube = self.study.cube(slide, VARIABLE)
        draft = self.drafts[slide] = ExitStack()
        writer = draft.enter_context(
            new_variable(
                self.study,
                slide,
                self.name,
                like=cube,
                n_features=self.n_features,
                dtype=np.dtype(np.float32),
                attrs=self.attrs[slide],
            )
        )
        mask = mask_reader(self.study, slide, self.where)
        tiles = [_Tile(cube, writer, mask, window) for window in cube.tiles()]
        self.totals[slide] = len(tiles)
        return tiles

    def tile_done(self, slide: str) -> None:
        """Count a tile; the last one makes the variable appear."""
        self.done[slide] += 1
        if self.done[slide] == self.totals[slide]:
            self.drafts.pop(slide).close()
        if self.progress is not None:
            self.progress(slide, self.done[slide], self.totals[slide])

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *error: Any) -> None:
        for draft in self.drafts.values():
            draft.__exit__(*error)


def _batches(slides: Sequence[str], writing: _Writing) -> Iterator[list[_Tile]]:
    """Yield the tiles of a few slides at a time, so that a run that is killed leaves finished slides behind."""
    tiles: list[_Tile] = []
    for slide in slides:
        tiles += writing.tiles(slide)
        if len(tiles) >= BATCH_TILES:
            yield tiles
            tiles = []
    if tiles:
        yield tiles


def _apply_tile(chain: Chain, tile: _Tile) -> str:
    """Read, map and store one tile; returns the name of its slide."""
    chain = chain.for_slide(tile.cube.slide)
    window = tile.window
    mask = tile.read_mask()[window.slices]
    features = np.zeros((*window.shape, chain.n_out), np.float32)
    n_columns = chain.n_in if chain.columns is None else len(chain.columns)
    pixels = STRIP_BYTES // (n_columns * tile.cube.dtype.itemsize)
    with one_blas_thread():
        for strip in strips(window, tile.cube.cell, pixels):
            inside = within(strip, window)
            if mask[inside].any():
                values = tile.cube.read(strip, channels=chain.columns)
                features[inside] = map_pixels(values, mask[inside], chain)
                del values  # before the next one is read, not after it
    tile.writer.write(window, features)
    return tile.cube.slide


def _made_by(study: Study, slide: str, fingerprint: str, where: str | None) -> dict[str, str]:
    """Return the attributes of a slide's features that tell what decided their numbers."""
    found = {FINGERPRINT: fingerprint}
    return found if where is None else {**found, WHERE: where, WHERE_DIGEST: mask_digest(study, where, slide)}


def _is_done(study: Study, slide: str, name: str, made_by: Mapping[str, str], overwrite: bool) -> bool:
    """Return whether a slide has these features already.

    Raises
    ------
    UsageError
        It has others of the same name.
    """
    attrs = read_attrs(study.location / slide / name)
    if attrs is None:
        return False
    found = {key: attrs[key] for key in (FINGERPRINT, WHERE, WHERE_DIGEST) if key in attrs}
    if found == made_by:
        return True
    if not overwrite:
        other = (
            "that another pipeline made"
            if found.get(FINGERPRINT) != made_by[FINGERPRINT]
            else "of other pixels"
        )
        raise UsageError(
            f"slide {slide} has a variable '{name}' {other}: say overwrite=True to replace it, or save the pipeline "
            f"under another name"
        )
    return False
