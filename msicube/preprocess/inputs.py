"""What ``fit`` takes: a study, the dataset of a slide, or an array; each turned into a source of spectra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, LeakageError, UnknownSlide, UsageError
from msicube.preprocess.channels import Channels, describe, same_axis
from msicube.preprocess.datasets import (
    VARIABLE,
    as_spectra,
    dataset_channels,
    dataset_cube,
    dataset_mask,
    is_dataset,
)
from msicube.preprocess.request import SLIDE
from msicube.preprocess.sources import ArrayCube, Piece, SlidePieces, Source
from msicube.schema import AXIS_NAME
from msicube.store import Location, Study
from msicube.tiling import Window

if TYPE_CHECKING:
    import dask.array as da

#: Bytes of an array in memory that one task processes.
PIECE_BYTES = 64 * 2**20


def source_of(
    X: Any, y: Any = None, *, slides: Iterable[str] | None = None, allow_test: bool = False
) -> Source:
    """Return what to fit on.

    Parameters
    ----------
    X
        A study, the dataset of a slide, or an ``(n, channels)`` array.
    y
        For an array ``(n,)`` classes, for a dataset ``(y, x)`` classes or one class for all. A study takes them from
        its samples table.
    slides, allow_test
        For a study; see :func:`chosen_slides`.
    """
    if isinstance(X, Study):
        if y is not None:
            raise UsageError(
                "y was given with a study: the classes of its slides come from the samples table, name the column "
                'with by="label"'
            )
        return StudySource.of(X, chosen_slides(X, slides, allow_test=allow_test))
    if slides is not None or allow_test:
        raise UsageError(f"slides= and allow_test= are for studies, X is of type {type(X).__name__}")
    if is_dataset(X):
        shape = (X.sizes.get("y", 0), X.sizes.get("x", 0))
        return DatasetSource(dataset_channels(X), dataset_cube(X), dataset_mask(X), _given_classes(y, shape))
    values = as_spectra(X)
    return ArraySource(values, _given_classes(y, (len(values),)))


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An ``(n, channels)`` array; it is read as a cube that is one pixel wide.

    Attributes
    ----------
    values
        The spectra.
    labels
        ``(n,)`` classes, or None.
    """

    values: NDArray[Any]
    labels: NDArray[Any] | None

    @property
    def channels(self) -> Channels:
        """Columns, numbered."""
        return Channels.numbered("x", self.values.shape[1])

    @property
    def slides(self) -> list[str]:
        """None."""
        return []

    def classes(self, by: str) -> list[Any]:
        """Return the classes in ``y``."""
        return _classes_in(self.labels)

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield runs of rows."""
        rows = max(1, PIECE_BYTES // (self.values.shape[1] * self.values.dtype.itemsize))
        pieces = []
        for start in range(0, len(self.values), rows):
            span = slice(start, start + rows)
            values = self.values[span, None]
            labels = None if by in (None, SLIDE) or self.labels is None else self.labels[span, None]
            pieces.append(Piece(Window(0, len(values), 0, 1), ArrayCube(values), labels))
        yield SlidePieces("", pieces)


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """The dataset of one slide; each of its Dask chunks is a piece.

    Attributes
    ----------
    channels
        Its spectral axis.
    cube
        ``(y, x, channel)``, lazy.
    mask
        ``(y, x)``: which pixels hold spectra.
    labels
        ``(y, x)`` classes, or None.
    """

    channels: Channels
    cube: da.Array
    mask: NDArray[np.bool_]
    labels: NDArray[Any] | None

    @property
    def slides(self) -> list[str]:
        """None: a dataset does not say which study it is from."""
        return []

    def classes(self, by: str) -> list[Any]:
        """Return the classes in ``y`` of the acquired pixels."""
        return _classes_in(None if self.labels is None else self.labels[self.mask])

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield the chunks."""
        from dask.base import optimize

        pieces, keys = [], []
        rows, columns = (np.cumsum([0, *sizes]).tolist() for sizes in self.cube.chunks[:2])
        for i, j in np.ndindex(*self.cube.numblocks[:2]):
            window = Window(rows[i], rows[i + 1], columns[j], columns[j + 1])
            labels = None if by in (None, SLIDE) or self.labels is None else self.labels[window.slices]
            pieces.append(Piece(window, None, labels, self.mask[window.slices]))
            keys.append((self.cube.name, i, j, 0))
        (cube,) = optimize(self.cube)
        yield SlidePieces("", pieces, chunks=keys, graph=dict(cube.__dask_graph__()))


@dataclass(frozen=True, eq=False)
class StudySource:
    """Slides of a study; each tile is a piece.

    Attributes
    ----------
    study
        Where they are.
    slides
        Names.
    channels
        The spectral axis that they share.
    """

    study: Study
    slides: list[str]
    channels: Channels

    @classmethod
    def of(cls, study: Study, slides: list[str]) -> StudySource:
        """Check that the slides share one axis.

        Raises
        ------
        AxisMismatch
            They do not; the message names two of them.
        """
        first = study_channels(study, slides[0])
        for slide in slides[1:]:
            other = study_channels(study, slide)
            if not same_axis(first, other):
                raise AxisMismatch(
                    f"slides {slides[0]} ({describe(first)}) and {slide} ({describe(other)}) lie on different axes: "
                    f"convert the study onto one axis, or fit on slides that share one"
                )
        return cls(study, slides, first)

    def classes(self, by: str) -> list[Any]:
        """Return the classes in a column of the samples table."""
        return sorted(set(self._labels(by).values()), key=str)

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield the tiles."""
        labels = {} if by is None else self._labels(by)
        for slide in self.slides:
            cube = self.study.cube(slide, VARIABLE)
            pieces = [Piece(tile, cube, labels.get(slide)) for tile in cube.tiles()]
            yield SlidePieces(slide, pieces, read_mask=partial(read_mask, self.study.location, slide))

    def _labels(self, by: str) -> dict[str, Any]:
        if by == SLIDE:
            return {slide: slide for slide in self.slides}
        samples = self.study.samples
        if by not in samples:
            raise UsageError(
                f"{self.study.path} has no column '{by}' in its samples table, only "
                f"{', '.join(map(str, samples.columns)) or 'none'}: convert with --samples, or name another with by="
            )
        column = samples[by]
        missing = [slide for slide in self.slides if pd.isna(column[slide]) or column[slide] == ""]
        if missing:
            raise UsageError(
                f"{_some(missing)} without a value of '{by}' in the samples table: give one, or leave them out with "
                f"slides="
            )
        return {slide: _plain(column[slide]) for slide in self.slides}


def chosen_slides(study: Study, slides: Iterable[str] | None, *, allow_test: bool) -> list[str]:
    """Return the slides to fit on, in the order of the study.

    Parameters
    ----------
    study
        Its samples table may have a column ``split``.
    slides
        Names. None stands for those whose ``split`` is ``train``, or for all where there is no such column.
    allow_test
        Whether slides whose ``split`` is ``test`` may be among them.

    Raises
    ------
    LeakageError
        A slide that is held out for testing.
    UnknownSlide
        A name that the study does not have.
    UsageError
        No slides.
    """
    samples = study.samples
    split = samples["split"].astype(object) if "split" in samples else None
    if slides is None:
        names = study.slides if split is None else [s for s in study.slides if split[s] == "train"]
        if not names:
            raise UsageError(
                f"{study.path} has {len(study.slides)} slides and none with split == 'train': name the slides to fit "
                f"on with slides="
            )
        return names
    wanted = {slides} if isinstance(slides, str) else set(slides)
    unknown = sorted(wanted - set(study.slides))
    if unknown:
        raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {len(study.slides)} slides")
    names = [name for name in study.slides if name in wanted]
    if not names:
        raise UsageError("slides= is empty: name at least one slide to fit on")
    held_out = [] if split is None else [name for name in names if split[name] == "test"]
    if held_out and not allow_test:
        raise LeakageError(
            f"{_some(held_out)} held out for testing (split == 'test'): leave out what must not be seen, or say "
            f"allow_test=True"
        )
    return names


def study_channels(study: Study, slide: str) -> Channels:
    """Return the spectral axis of a slide."""
    return Channels(AXIS_NAME[study.modality], study.axis(slide))


def read_mask(study: Location, slide: str) -> NDArray[np.bool_]:
    """Return the mask of a slide, in a task: reads nothing else of the study."""
    import zarr

    array = zarr.open_array(study.zarr_store(), path=f"{slide}/acquired", mode="r", zarr_format=3)
    return np.asarray(array[...], bool)


def _given_classes(y: Any, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return ``y`` as an array of classes of a shape."""
    if y is None:
        return None
    classes = np.asarray(y)
    if classes.ndim == 0:
        classes = np.broadcast_to(classes, shape)
    if classes.shape != shape:
        raise UsageError(
            f"y has shape {classes.shape}, the spectra have {shape}: give one class for each spectrum"
        )
    return classes


def _classes_in(labels: NDArray[Any] | None) -> list[Any]:
    if labels is None:
        raise UsageError("a step needs the class of each spectrum: give them as y")
    missing = int(pd.isna(labels).sum())
    if missing:
        raise UsageError(f"{missing} spectra have no class in y: give each one, or leave these spectra out")
    return sorted(np.unique(labels).tolist(), key=str)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python value."""
    return value.item() if isinstance(value, np.generic) else value


def _some(names: Sequence[str]) -> str:
    """Return slides as the subject of a sentence: ``slides a, b and 3 more are``."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"slides {shown} are" if len(names) > 1 else f"slide {shown} is"
