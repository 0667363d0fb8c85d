"""Transforming spectra: an array at once, a dataset and a study lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.chain import Chain, axis_of_its_own, working_dtype
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import (
    VARIABLE,
    Where,
    array_where,
    as_spectra,
    dataset_channels,
    dataset_cube,
    dataset_mask,
    dataset_where,
    is_dataset,
    require_columns,
)
from msicube.preprocess.sources import Cube
from msicube.preprocess.studies import mask_reader, study_where
from msicube.store import CubeArray, Study
from msicube.tiling import Window, windows

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr

FEATURES = "features"
#: Edge of what one task of a lazy transform makes, in pixels, where the cells are no larger.
BLOCK_EDGE = 32


@dataclass(frozen=True)
class Part:
    """Columns that a chain gives beside the features and that become a variable of their own.

    Attributes
    ----------
    name
        Of the variable.
    columns
        Where they lie in what the chain gives.
    dim
        Name of the last dimension; None for an image ``(y, x)`` of one column.
    labels
        Of the columns, along ``dim``.
    long_name
        For the attributes.
    """

    name: str
    columns: slice
    dim: str | None
    labels: tuple[str, ...]
    long_name: str


@dataclass(frozen=True, eq=False)
class Mapped:
    """A fitted map of spectra and what goes in and comes out of it.

    Attributes
    ----------
    name
        Of the estimator, for messages.
    chain
        The map.
    channels_in, channels_out
        What the columns of the spectra and of the features stand for.
    provenance
        Returns attributes of the features: how they were made.
    parts
        What the chain gives behind the features. Where the first of them begins at column 0, there are no features.
    """

    name: str
    chain: Chain
    channels_in: Channels
    channels_out: Channels
    provenance: Callable[[], dict[str, Any]]
    parts: tuple[Part, ...] = ()

    def for_slide(self, slide: str) -> Mapped:
        """Return the map of one slide."""
        chain = self.chain.for_slide(slide)
        return self if chain is self.chain else replace(self, chain=chain)

    def on(self, channels: Channels, *, where: str) -> Mapped:
        """Return the map of spectra on an axis, which is that of the fit unless the first step takes any."""
        own = axis_of_its_own(self.chain, self.channels_in, channels, where=where)
        return self if own is None else replace(self, chain=self.chain.on_axis(own))

    @cached_property
    def node(self) -> Any:
        """The chain as one node of a Dask graph, shared by all slides and not a part of every task."""
        from dask.delayed import delayed

        return delayed(self.chain, name=f"chain-{uuid4().hex}", traverse=False)

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the features."""
        return self.provenance()


class TransformedStudy(Mapping[str, "xr.Dataset"]):
    """The features of each slide of a study; nothing is read until they are computed.

    A slide is cut into blocks of a few cells of its cube, so that a patch of the features costs reading little more
    than the cells that it touches.

    Attributes
    ----------
    study
        Where the spectra are.
    where
        Which pixels have features: the name of a mask or an expression; None for all that are acquired.
    """

    def __init__(self, study: Study, mapped: Mapped, where: str | None = None) -> None:
        self.study = study
        self.where = where
        self._mapped = mapped

    @property
    def slides(self) -> list[str]:
        """Names of the slides, sorted."""
        return self.study.slides

    @property
    def samples(self) -> pd.DataFrame:
        """The samples table of the study."""
        return self.study.samples

    def __getitem__(self, slide: str) -> xr.Dataset:
        """Return the features of a slide: ``features`` (y, x, feature), lazy, 0 where not acquired.

        Coefficients and residuals of an EMSC, where they were asked for, are variables beside it or in its place.
        """
        import dask.array as da
        from dask.delayed import delayed

        dataset = self.study[slide]
        mapped = self._mapped.for_slide(slide).on(dataset_channels(dataset), where=f"slide {slide}")
        cube = self.study.cube(slide, VARIABLE)
        mask = delayed(mask_reader(self.study, slide, self.where), pure=False)()
        inside = None if self.where is None else da.from_delayed(mask, cube.shape[:2], dtype=bool)
        return _features_dataset(dataset, _lazy_cells(cube, mask, mapped), mapped, inside, self.where)

    def __iter__(self) -> Iterator[str]:
        return iter(self.slides)

    def __len__(self) -> int:
        return len(self.slides)

    def __repr__(self) -> str:
        return f"<msicube.TransformedStudy of {self.study.path!r}: {len(self)} slides>"


def transform_any(X: Any, mapped: Mapped, where: Where = None) -> Any:
    """Transform a study, a dataset or an array; see :meth:`msicube.preprocess.transformer.Transformer.transform`."""
    if isinstance(X, Study):
        return TransformedStudy(X, mapped, study_where(where))
    mapped = mapped.for_slide("")
    if not is_dataset(X):
        # Beside the bits, which do not depend on the processors then: threads that share a narrow product mostly wait.
        with one_blas_thread():
            return _transform_array(as_spectra(X), mapped, where)
    mapped = mapped.on(dataset_channels(X), where="the dataset")
    inside = None if where is None else dataset_where(X, where)
    if inside is not None and "acquired" in X:
        inside = inside & X["acquired"].transpose("y", "x").data
    name = where if isinstance(where, str) else None
    return _features_dataset(X, _lazy_chunks(X, inside, mapped), mapped, inside, name)


def _transform_array(values: NDArray[Any], mapped: Mapped, where: Where) -> NDArray[Any]:
    """Map the chosen rows of an array; the features of the others are 0."""
    chain = mapped.chain
    require_columns(values, chain.n_in, mapped.name)
    if where is None:
        return chain(values)
    inside = array_where(where, (len(values),))
    features = np.zeros((len(values), chain.n_out), working_dtype(values.dtype))
    features[inside] = chain(values[inside])
    return features


def map_pixels(values: NDArray[Any], mask: NDArray[np.bool_], chain: Chain) -> NDArray[Any]:
    """Map the acquired spectra of a window.

    Parameters
    ----------
    values
        ``(y, x, columns)`` with the columns that the chain chooses.
    mask
        ``(y, x)``: which pixels hold spectra.
    chain
        What to apply.

    Returns
    -------
    ndarray
        ``(y, x, feature)``, 0 where not acquired.
    """
    if mask.all():  # without a copy of the spectra
        return chain.map(values.reshape(-1, values.shape[2])).reshape(*mask.shape, chain.n_out)
    features = np.zeros((*mask.shape, chain.n_out), working_dtype(values.dtype))
    if mask.any():
        features[mask] = chain.map(values[mask])
    return features


def _map_chunk(values: NDArray[Any], mask: NDArray[np.bool_], *, chain: Chain) -> NDArray[Any]:
    """Map one Dask chunk of intensities; ``mask`` is ``(y, x, 1)``."""
    if chain.columns is not None:
        values = np.take(values, chain.columns, axis=2)
    return map_pixels(np.asarray(values), np.asarray(mask)[..., 0], chain)


def _map_cells(*, cube: Cube, mask: Any, chain: Chain, block_id: Any) -> NDArray[Any]:
    """Read and map the cells of one block of a stored cube; ``mask`` is that of the slide."""
    (i, j, _), (height, width) = block_id, _block(cube)
    ny, nx, _ = cube.shape
    block = Window(i * height, min((i + 1) * height, ny), j * width, min((j + 1) * width, nx))
    if mask[block.slices].all():
        return map_pixels(cube.read(block, channels=chain.columns), mask[block.slices], chain)
    features = np.zeros((*block.shape, chain.n_out), working_dtype(cube.dtype))
    for cell in windows(block.shape, cube.cell):
        place = cell.shifted(block.y0, block.x0)
        here = mask[place.slices]
        if here.any():
            features[cell.slices] = map_pixels(cube.read(place, channels=chain.columns), here, chain)
    return features


def _block(cube: Cube) -> tuple[int, int]:
    """Return the pixels of one task: whole cells, so that a graph of many slides stays small."""
    height, width = cube.cell
    return max(1, BLOCK_EDGE // height) * height, max(1, BLOCK_EDGE // width) * width


def _lazy_chunks(dataset: xr.Dataset, inside: Any, mapped: Mapped) -> da.Array:
    """Return the features of a dataset, in the chunks of its intensities."""
    import dask.array as da

    cube = dataset_cube(dataset)
    if "acquired" in dataset and dataset["acquired"].chunks is not None:
        mask = dataset["acquired"].transpose("y", "x").data.rechunk(cube.chunks[:2])
    else:
        mask = da.from_array(dataset_mask(dataset), chunks=cube.chunks[:2])
    if inside is not None:
        mask = mask & da.asarray(inside, chunks=cube.chunks[:2]).rechunk(cube.chunks[:2])
    return _map_blocks(
        _map_chunk, cube, mask[..., None], mapped=mapped, chunks=cube.chunks[:2], dtype=cube.dtype
    )


def _lazy_cells(cube: CubeArray, mask: Any, mapped: Mapped) -> da.Array:
    """Return the features of a slide, in blocks of cells of its cube."""
    chunks = [
        tuple(min(step, size - start) for start in range(0, size, step))
        for size, step in zip(cube.shape[:2], _block(cube), strict=True)
    ]
    return _map_blocks(_map_cells, mapped=mapped, chunks=chunks, dtype=cube.dtype, cube=cube, mask=mask)


def _map_blocks(
    function: Any, *arrays: da.Array, mapped: Mapped, chunks: Any, dtype: Any, **options: Any
) -> da.Array:
    """Map blocks without a look at the data."""
    import dask.array as da

    dtype = working_dtype(dtype)
    return da.map_blocks(
        function,
        *arrays,
        chain=mapped.node,
        chunks=(*chunks, (mapped.chain.n_out,)),
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
        **options,
    )


def _features_dataset(
    dataset: xr.Dataset, features: da.Array, mapped: Mapped, inside: Any, where: str | None
) -> xr.Dataset:
    """Return a new dataset of features, and of what else was found, with the pixel coordinates and ``acquired``."""
    import xarray as xr

    coords = {name: dataset[name].variable for name in ("y", "x") if name in dataset.coords}
    variables: dict[str, xr.Variable] = {}
    n_features = mapped.parts[0].columns.start if mapped.parts else mapped.chain.n_out
    if n_features:
        channels = mapped.channels_out
        coords["feature"] = xr.Variable("feature", channels.names().astype(str))
        if channels.on_axis:
            attrs = dataset[channels.kind].attrs if channels.kind in dataset.variables else {}
            coords[channels.kind] = xr.Variable("feature", channels.values, attrs)
        variables[FEATURES] = xr.Variable(
            ("y", "x", "feature"), features[..., :n_features] if mapped.parts else features, mapped.attrs
        )
    for part in mapped.parts:
        about = {"long_name": part.long_name, **mapped.attrs}
        if part.dim is None:
            variables[part.name] = xr.Variable(("y", "x"), features[..., part.columns.start], about)
        else:
            coords[part.dim] = xr.Variable(part.dim, np.array(part.labels, str))
            variables[part.name] = xr.Variable(("y", "x", part.dim), features[..., part.columns], about)
    if "acquired" in dataset:
        variables["acquired"] = dataset["acquired"].variable
    if inside is not None:
        about = {"long_name": "whether the pixel has features", **({} if where is None else {"where": where})}
        variables["inside"] = xr.Variable(("y", "x"), inside, about)
    return xr.Dataset(variables, coords, dict(dataset.attrs))
