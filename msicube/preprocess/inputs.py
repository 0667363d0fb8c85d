"""What ``fit`` takes: a study, the dataset of a slide, or an array; each turned into a source of spectra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import (
    Where,
    array_where,
    as_spectra,
    dataset_channels,
    dataset_cube,
    dataset_mask,
    dataset_where,
    is_dataset,
)
from msicube.preprocess.request import SLIDE
from msicube.preprocess.sources import ArrayCube, Piece, SlidePieces, Source
from msicube.preprocess.studies import StudySource, chosen_slides, study_where
from msicube.store import Study
from msicube.tiling import Window

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

#: Bytes of an array in memory that one task processes.
PIECE_BYTES = 64 * 2**20


def source_of(
    X: Any,
    y: Any = None,
    *,
    slides: Iterable[str] | None = None,
    where: Where = None,
    allow_test: bool = False,
    any_axis: bool = False,
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
        For a study; see :func:`~msicube.preprocess.studies.chosen_slides`.
    where
        Which spectra: a mask of a study by name or expression, a boolean variable of a dataset by name, or a boolean
        array of one value for each spectrum of an array or a dataset.
    any_axis
        Whether the slides of a study may lie on different axes.
    """
    if isinstance(X, Study):
        if y is not None:
            raise UsageError(
                "y was given with a study: the classes of its slides come from the samples table, name the column "
                'with by="label"'
            )
        names = chosen_slides(X, slides, allow_test=allow_test)
        return StudySource.of(X, names, where=study_where(where), any_axis=any_axis)
    if slides is not None or allow_test:
        raise UsageError(f"slides= and allow_test= are for studies, X is of type {type(X).__name__}")
    if is_dataset(X):
        cube, mask = dataset_cube(X), dataset_mask(X)
        if where is not None:
            mask = mask & np.asarray(dataset_where(X, where))
        return DatasetSource(dataset_channels(X), cube, mask, _given_classes(y, mask.shape), _text(where), X)
    values = as_spectra(X)
    inside = None if where is None else array_where(where, (len(values),))
    return ArraySource(values, _given_classes(y, (len(values),)), inside)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An ``(n, channels)`` array; it is read as a cube that is one pixel wide.

    Attributes
    ----------
    values
        The spectra.
    labels
        ``(n,)`` classes, or None.
    mask
        ``(n,)``: which spectra, or None for all.
    """

    values: NDArray[Any]
    labels: NDArray[Any] | None
    mask: NDArray[np.bool_] | None = None

    @property
    def channels(self) -> Channels:
        """Columns, numbered."""
        return Channels.numbered("x", self.values.shape[1])

    @property
    def axes(self) -> dict[str, Channels]:
        """None."""
        return {}

    @property
    def slides(self) -> list[str]:
        """None."""
        return []

    @property
    def where(self) -> str | None:
        """A mask that is given as an array has no name."""
        return _text(self.mask)

    @property
    def digests(self) -> dict[str, str]:
        """None."""
        return {}

    def classes(self, by: str) -> list[Any]:
        """Return the classes in ``y`` of the spectra that are fitted on."""
        return _classes_in(self.labels, self.mask)

    def inside(self, where: str) -> ArraySource:
        """Refuse: the rows of an array have no names."""
        raise UsageError(
            f"a step asks for the spectra of the mask {where!r}, and X is an array, which has no masks: fit on a study "
            f"or a dataset that has it, or give the step what it would learn from it"
        )

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield runs of rows."""
        rows = max(1, PIECE_BYTES // (self.values.shape[1] * self.values.dtype.itemsize))
        pieces = []
        for start in range(0, len(self.values), rows):
            span = slice(start, start + rows)
            values = self.values[span, None]
            labels = None if by in (None, SLIDE) or self.labels is None else self.labels[span, None]
            mask = None if self.mask is None else self.mask[span, None]
            pieces.append(Piece(Window(0, len(values), 0, 1), ArrayCube(values), labels, mask))
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
        ``(y, x)``: which pixels hold spectra that are fitted on.
    labels
        ``(y, x)`` classes, or None.
    where
        What the mask is called, beside ``acquired``.
    dataset
        Which has other masks; None where there are none.
    """

    channels: Channels
    cube: da.Array
    mask: NDArray[np.bool_]
    labels: NDArray[Any] | None
    where: str | None = None
    dataset: xr.Dataset | None = None

    @property
    def axes(self) -> dict[str, Channels]:
        """None."""
        return {}

    @property
    def slides(self) -> list[str]:
        """None: a dataset does not say which study it is from."""
        return []

    @property
    def digests(self) -> dict[str, str]:
        """None."""
        return {}

    def classes(self, by: str) -> list[Any]:
        """Return the classes in ``y`` of the pixels that are fitted on."""
        return _classes_in(self.labels, self.mask)

    def inside(self, where: str) -> DatasetSource:
        """Return the pixels of a boolean variable of the same dataset."""
        assert self.dataset is not None
        mask = dataset_mask(self.dataset) & np.asarray(dataset_where(self.dataset, where))
        return replace(self, mask=mask, where=where)

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


def _text(where: Where) -> str | None:
    """Return what to call a mask."""
    return where if where is None or isinstance(where, str) else "a given array"


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


def _classes_in(labels: NDArray[Any] | None, mask: NDArray[np.bool_] | None) -> list[Any]:
    if labels is None:
        raise UsageError(
            "a step requires y to be passed, but the target y is None: it learns from the classes of the spectra, give "
            "them as y"
        )
    labels = labels if mask is None else labels[mask]
    missing = int(pd.isna(labels).sum())
    if missing:
        raise UsageError(f"{missing} spectra have no class in y: give each one, or leave these spectra out")
    return sorted(np.unique(labels).tolist(), key=str)
