"""Arrays and datasets as users hand them in, checked and brought into one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.channels import AXIS_KINDS, Channels
from msicube.tiling import plan_tiles

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

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
    values = np.asarray(X)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise UsageError(
            f"X has shape {values.shape} and type {values.dtype}, expected an (n, channels) array of real numbers, "
            f"the dataset of a slide, or a study"
        )
    if 0 in values.shape:
        raise UsageError(f"X has shape {values.shape}: at least one spectrum and one channel are needed")
    return values


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
