"""The features of a saved pipeline, and what its EMSC found, written into the study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UnknownSlide, UsageError
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.chain import Chain, axis_of_its_own
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import VARIABLE
from msicube.preprocess.emsc_details import RESIDUALS, details_chain
from msicube.preprocess.engine import Progress
from msicube.preprocess.lazy import Part, map_pixels
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.sources import STRIP_BYTES, strips, within
from msicube.preprocess.studies import mask_digest, mask_reader, study_channels
from msicube.scheduling import SchedulerLike, run_tasks
from msicube.store import CubeArray, CubeWriter, Study, new_variable, open_study
from msicube.store.draft import read_attrs
from msicube.store.lock import write_lock
from msicube.tiling import Window

#: Attributes of stored features; together they decide their numbers. The last is of what is stored beside them.
FINGERPRINT, WHERE, WHERE_DIGEST, QUANTITY = "pipeline_fingerprint", "where", "where_digest", "quantity"
#: Slides are begun until so many tiles are on hand: enough to keep workers busy, and few unfinished slides at a time.
BATCH_TILES = 256


def apply(
    study: Study | str | os.PathLike[str],
    *,
    name: str,
    slides: Iterable[str] | None = None,
    where: str | None = None,
    coefficients: bool = False,
    residuals: bool = False,
    overwrite: bool = False,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write the features of a saved pipeline into the slides of its study.

    Each slide gets a float32 variable ``<name>`` of dims ``(y, x, <name>_feature)`` with the tiles of its intensities,
    0 where not acquired or outside ``where``. It appears when all of its tiles are written. What the pipeline's EMSC
    finds goes into variables beside it, if asked for, computed from the same read.

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
    coefficients
        Whether to write ``<name>_coefficients``, of dims ``(y, x, <name>_coefficients_feature)``, whose columns are
        named after the terms of the model (``reference``, ``constant``, ``v``, ..., ``interferent 1``, ...), and
        ``<name>_residual_rms``, ``(y, x)``, the weighted root mean square of what the model leaves of each spectrum.
    residuals
        Whether to write that rest itself, ``<name>_residuals``, as large as the spectra that reach the EMSC.
    overwrite
        Whether to replace what another pipeline of this name, or this one on other pixels, has left.
    scheduler, workers
        Where tiles are computed; see :mod:`msicube.scheduling`.
    progress
        Called in this process with slide, tiles done and tiles in all.

    Returns
    -------
    list of str
        The slides that were written. Those that have all of it from this very pipeline already are not.

    Raises
    ------
    UsageError
        No such pipeline or mask, a slide has a variable of this name from another pipeline or of other pixels, a step
        that works by slide has not seen one of them, or coefficients of a pipeline that has not just one EMSC.
    AxisMismatch
        A slide lies on another axis than those of the fit.
    StudyLocked
        Another process is writing to the study.

    Notes
    -----
    A task is one tile. It holds a strip of its intensities, and its features twice: as numbers and encoded.
    Coefficients count as features, and so do residuals.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    pipeline = Pipeline.load(opened, name=name)
    wanted = opened.slides if slides is None else list(dict.fromkeys(slides))
    unknown = [slide for slide in wanted if slide not in opened]
    if unknown:
        raise UnknownSlide(f"{opened.path} has no slide {unknown[0]!r}; it has {len(opened.slides)} slides")
    with write_lock(opened.location):
        fingerprint = pipeline.fingerprint()
        chain, variables = _variables(pipeline, name, coefficients, residuals)
        todo: dict[str, list[_Variable]] = {}
        axes: dict[str, Channels | None] = {}
        for slide in wanted:
            made_by = _made_by(opened, slide, fingerprint, where)
            wanted_here = [one.of_slide(made_by) for one in variables]
            missing = [one for one in wanted_here if not _is_done(opened, slide, one, overwrite)]
            if missing:
                todo[slide] = missing
                own = chain.for_slide(slide)
                found = study_channels(opened, slide)
                axes[slide] = axis_of_its_own(own, pipeline.channels_in, found, where=f"slide {slide}")
        writing = _Writing(opened, where, todo, axes, progress)
        with writing, one_blas_thread():
            for tiles in _batches(list(todo), writing):
                run_tasks(
                    partial(_apply_tile, chain),
                    tiles,
                    scheduler=scheduler,
                    workers=workers,
                    on_result=writing.tile_done,
                )
    return list(todo)


@dataclass(frozen=True)
class _Variable:
    """What becomes a variable of the slides.

    Attributes
    ----------
    name
        Of the variable.
    columns
        Of what the chain gives.
    image
        Whether it is ``(y, x)``, of one column.
    attrs
        Attributes, those included that decide its numbers.
    made_by
        These by themselves.
    """

    name: str
    columns: slice
    image: bool
    attrs: Mapping[str, Any]
    made_by: Mapping[str, str] = field(default_factory=dict)

    def of_slide(self, made_by: Mapping[str, str]) -> _Variable:
        """Return the variable of a slide, from what decides the numbers of its features."""
        own = {**made_by, **({QUANTITY: self.attrs[QUANTITY]} if QUANTITY in self.attrs else {})}
        return replace(self, attrs={**self.attrs, **own}, made_by=own)


def _variables(
    pipeline: Pipeline, name: str, coefficients: bool, residuals: bool
) -> tuple[Chain, list[_Variable]]:
    """Return what gives all that is to be written, and the variables that it goes to."""
    chain, parts = pipeline.chain, tuple[Part, ...]()
    if coefficients or residuals:
        chain, parts = details_chain(
            pipeline.steps_, pipeline.n_features_in_, features=True, residuals=residuals
        )
    features = {
        "long_name": f"features of pipeline {name}",
        "pipeline_name": name,
        "feature_names": pipeline.get_feature_names_out().tolist(),
    }
    found = [_Variable(name, slice(0, pipeline.n_features_out_), False, features)]
    for part in parts:
        if coefficients or part.name == RESIDUALS:
            about: dict[str, Any] = {
                "long_name": part.long_name,
                "pipeline_name": name,
                QUANTITY: part.name,
            }
            if part.dim is not None:
                about["feature_names"] = list(part.labels)
            found.append(_Variable(f"{name}_{part.name}", part.columns, part.dim is None, about))
    return chain, found


@dataclass(frozen=True, eq=False)
class _Tile:
    """The work of one task."""

    cube: CubeArray
    writers: Sequence[tuple[slice, CubeWriter]]
    read_mask: Callable[[], NDArray[np.bool_]]
    window: Window
    channels: Channels | None


class _Writing:
    """The variables under construction; each is committed with its last tile, or discarded when the block fails."""

    def __init__(
        self,
        study: Study,
        where: str | None,
        todo: Mapping[str, Sequence[_Variable]],
        axes: Mapping[str, Channels | None],
        progress: Progress | None,
    ) -> None:
        self.study = study
        self.where = where
        self.todo = todo
        self.axes = axes
        self.progress = progress
        self.drafts: dict[str, ExitStack] = {}
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def tiles(self, slide: str) -> Sequence[_Tile]:
        """Begin a slide's variables and return its tiles."""
        cube = self.study.cube(slide, VARIABLE)
        drafts = self.drafts[slide] = ExitStack()
        writers = []
        for variable in self.todo[slide]:
            draft = new_variable(
                self.study,
                slide,
                variable.name,
                like=cube,
                n_features=None if variable.image else variable.columns.stop - variable.columns.start,
                dtype=np.dtype(np.float32),
                attrs=variable.attrs,
            )
            writers.append((variable.columns, drafts.enter_context(draft)))
        mask = mask_reader(self.study, slide, self.where)
        tiles = [_Tile(cube, writers, mask, window, self.axes[slide]) for window in cube.tiles()]
        self.totals[slide] = len(tiles)
        return tiles

    def tile_done(self, slide: str) -> None:
        """Count a tile; the last one makes the variables appear."""
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
    if tile.channels is not None:
        chain = chain.on_axis(tile.channels)
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
    for columns, writer in tile.writers:
        writer.write(window, features[..., columns])
    return tile.cube.slide


def _made_by(study: Study, slide: str, fingerprint: str, where: str | None) -> dict[str, str]:
    """Return the attributes of a slide's features that tell what decided their numbers."""
    found = {FINGERPRINT: fingerprint}
    return found if where is None else {**found, WHERE: where, WHERE_DIGEST: mask_digest(study, where, slide)}


def _is_done(study: Study, slide: str, variable: _Variable, overwrite: bool) -> bool:
    """Return whether a slide has this very variable already.

    Raises
    ------
    UsageError
        It has others of the same name.
    """
    attrs = read_attrs(study.location / slide / variable.name)
    if attrs is None:
        return False
    found = {key: attrs[key] for key in (FINGERPRINT, WHERE, WHERE_DIGEST, QUANTITY) if key in attrs}
    if found == variable.made_by:
        return True
    if not overwrite:
        other = (
            "that another pipeline made"
            if any(found.get(key) != variable.made_by.get(key) for key in (FINGERPRINT, QUANTITY))
            else "of other pixels"
        )
        raise UsageError(
            f"slide {slide} has a variable '{variable.name}' {other}: say overwrite=True to replace it, or save the "
            f"pipeline under another name"
        )
    return False
