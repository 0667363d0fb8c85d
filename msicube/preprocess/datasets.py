"""Arrays and datasets as users hand them in, checked and brought into one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msicube.errors import UsageError
from msicube.preprocess.channels import AXIS_KINDS, Channels
from msicube.tiling import plan_tiles

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

#: What chooses spectra: a name, an expression, or a boolean array.
Where: TypeAlias = str | ArrayLike | None

VARIABLE = "intensity"
DIMS = ("y", "x", "channel")


def is_dataset(X: Any) -> bool:
    """Return whether ``X`` is an :class:`xarray.Dataset`."""
    import xarray as xr

    return isinstance(X, xr.Dataset)


def as_spectra(X: Any) -> NDArray[Any]:
    """Return an ``(n, channels)`` array of real numbers.

    Raises
    ------
    UsageError
        Another shape or type, or no spectrum.
    """
    if hasattr(X, "dask"):
        raise UsageError("X is a Dask array: compute it, or give the dataset of a slide or a study")
    if hasattr(X, "tocsr"):
        raise UsageError(f"X is sparse, of type {type(X).__name__}: give a dense array, X.toarray()")
    values = np.asarray(X)
    wanted = "an (n, channels) array of real numbers, the dataset of a slide, or a study"
    if values.dtype.kind == "c":
        raise UsageError(f"Complex data not supported: X is of type {values.dtype}, expected {wanted}")
    if values.dtype.kind not in "biuf":
        raise UsageError(f"X is of type {values.dtype}, expected {wanted}")
    if values.ndim != 2:
        raise UsageError(
            f"X has shape {values.shape}, expected {wanted}. Reshape your data: X[None] is one spectrum, X[:, None] "
            f"are spectra of one channel"
        )
    for size, what in zip(values.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise UsageError(
                f"X has 0 {what}(s) (shape={values.shape}) while a minimum of 1 is required. Give at least one "
                f"spectrum of one channel"
            )
    return values


def require_columns(values: NDArray[Any], n: int, name: str) -> None:
    """Check that an array has as many columns as an estimator was fitted on.

    Raises
    ------
    UsageError
        It has another number.
    """
    if values.shape[1] != n:
        raise UsageError(
            f"X has {values.shape[1]} features, but {name} is expecting {n} features as input: use data on the axis "
            f"of the fit"
        )


def dataset_channels(dataset: xr.Dataset) -> Channels:
    """Return the spectral axis of a dataset, or numbered channels where it has none."""
    for kind in sorted(AXIS_KINDS):
        if kind in dataset.variables:
            return Channels(kind, np.asarray(dataset[kind].values, np.float64))
    return Channels.numbered("x", dataset[VARIABLE].sizes["channel"])


def dataset_cube(dataset: xr.Dataset) -> da.Array:
    """Return the intensities of a dataset, ``(y, x, channel)``, lazily and with all channels in one chunk.

    Raises
    ------
    UsageError
        There are none, or they have other dimensions.
    """
    import dask.array as da

    if VARIABLE not in dataset or set(dataset[VARIABLE].dims) != set(DIMS):
        raise UsageError(
            f"the dataset needs a variable '{VARIABLE}' of dims {DIMS}, it has "
            f"{ {str(name): variable.dims for name, variable in dataset.data_vars.items()} }"
        )
    variable = dataset[VARIABLE].variable.transpose(*DIMS)
    if variable.chunks is not None:
        lazy: da.Array = variable.data
        return lazy.rechunk({2: -1}) if lazy.numblocks[2] > 1 else lazy
    tile = plan_tiles(variable.shape, variable.dtype.itemsize).tile  # type: ignore[arg-type]
    if isinstance(variable._data, np.ndarray):
        return da.from_array(variable._data, chunks=(*tile, -1), name=False)
    stored = variable.encoding.get("preferred_chunks", {})
    return variable.chunk({"y": stored.get("y", tile[0]), "x": stored.get("x", tile[1]), "channel": -1}).data


def dataset_mask(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Return which pixels of a dataset hold spectra: ``acquired``, or all."""
    if "acquired" not in dataset:
        return np.ones([dataset.sizes["y"], dataset.sizes["x"]], bool)
    return np.asarray(dataset["acquired"].transpose("y", "x").values, bool)


def dataset_where(dataset: xr.Dataset, where: Where) -> Any:
    """Return a mask of a dataset's pixels, ``(y, x)``: an array, or a Dask array where the variable is lazy.

    Parameters
    ----------
    dataset
        Of a slide.
    where
        The name of one of its boolean variables, or a ``(y, x)`` boolean array.

    Raises
    ------
    UsageError
        There is none of this name, type and shape.
    """
    if not isinstance(where, str):
        return array_where(where, (dataset.sizes["y"], dataset.sizes["x"]))
    if where not in dataset or dataset[where].dtype != bool or set(dataset[where].dims) != {"y", "x"}:
        masks = [str(name) for name, v in dataset.data_vars.items() if v.dtype == bool and v.ndim == 2]
        raise UsageError(
            f"the dataset has no boolean variable {where!r} of dims ('y', 'x'), it has {', '.join(masks) or 'none'}: "
            f"name one of these, or give a (y, x) array"
        )
    return dataset[where].variable.transpose("y", "x").data


def array_where(where: Where, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a boolean array that was given to choose spectra.

    Raises
    ------
    UsageError
        It is of another type or shape.
    """
    mask = np.asarray(where)
    if mask.dtype != bool or mask.shape != shape:
        found = (
            repr(where) if isinstance(where, str) else f"an array of type {mask.dtype} and shape {mask.shape}"
        )
        raise UsageError(f"where= is {found}: expected one boolean for each spectrum, of shape {shape}")
    return mask
