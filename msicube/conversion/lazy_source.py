"""A source as the dataset of the slide that it would become: small variables at once, large ones when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from msicube import schema
from msicube.conversion.slide import pixel_axes
from msicube.conversion.tiles import TileSummary
from msicube.readers import CubeReader
from msicube.tiling import Window, plan_tiles, windows

#: Bytes of spectra that are read at a time, whatever is asked for: an ion image needs every spectrum, but not at once.
READ_BYTES = 16 * 2**20
BY_PRODUCTS = ("total_ion_current", "mean_spectrum", "max_spectrum")


def lazy_variables(reader: CubeReader) -> dict[str, xr.Variable]:
    """Return the variables of a slide; the large ones lazy."""
    info = reader.info
    assert info.axis is not None
    cube = LazyCube(reader)
    tiles = plan_tiles(cube.shape, info.dtype.itemsize)
    one_pass = _OnePass(reader, tuple(tiles.tiles()))
    small: dict[str, Any] = {
        "acquired": info.acquired,
        "spectrum_index": info.spectrum_index,
        schema.AXIS_NAME[info.modality]: info.axis,
    }
    if info.bins is not None:
        small |= {"channel_lower": info.bins.lower, "channel_upper": info.bins.upper}
    lazy = {"intensity": cube, **{name: LazyByProduct(one_pass, name) for name in BY_PRODUCTS}}
    data = {**small, **{name: indexing.LazilyIndexedArray(array) for name, array in lazy.items()}}
    variables = {}
    for name, values in data.items():
        spec = schema.BY_NAME[name]
        variables[name] = xr.Variable(spec.dims, values, spec.attributes())
    preferred = dict(zip(schema.BY_NAME["intensity"].dims, (*tiles.tile, cube.shape[2]), strict=True))
    variables["intensity"].encoding["preferred_chunks"] = preferred
    for name, values, attrs in pixel_axes(info):
        variables[name] = xr.Variable((name,), values, {**schema.BY_NAME[name].attributes(), **attrs})
    return variables


def attributes(reader: CubeReader) -> dict[str, Any]:
    """Return the attributes of a slide that are known before it is converted."""
    info = reader.info
    size = info.pixel_size
    return {
        "source": info.source,
        "pixel_size": {"y": size.y, "x": size.x, "provenance": size.provenance} if size else None,
        "axis": {"law": info.axis_law, **info.axis_origin},
    }


class LazyCube(BackendArray):  # type: ignore[misc,unused-ignore]
    """The intensities of a source, ``(y, x, channel)``; picklable, any number of threads."""

    def __init__(self, reader: CubeReader) -> None:
        assert reader.info.axis is not None
        self.reader = reader
        self.shape = (*reader.info.shape, len(reader.info.axis))
        self.dtype = reader.info.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Read integers and slices, in windows of bounded size."""
        single = tuple(axis for axis, part in enumerate(key) if not isinstance(part, slice))
        y, x, channel = (
            np.arange(size)[part if isinstance(part, slice) else slice(int(part), int(part) + 1)]
            for part, size in zip(key, self.shape, strict=True)
        )
        out = np.empty((len(y), len(x), len(channel)), self.dtype)
        if out.size:
            reader, first = self._cropped(channel)
            for window in self._windows(y, x, int(np.ptp(channel)) + 1):
                rows = np.flatnonzero((window.y0 <= y) & (y < window.y1))
                columns = np.flatnonzero((window.x0 <= x) & (x < window.x1))
                if len(rows) and len(columns):
                    values = reader.read_tile(window).values
                    wanted = np.ix_(y[rows] - window.y0, x[columns] - window.x0, channel - first)
                    out[np.ix_(rows, columns)] = values[wanted]
        return out.squeeze(single)

    def _cropped(self, channel: NDArray[np.intp]) -> tuple[CubeReader, int]:
        """Return a reader from the first to the last wanted channel, and the number of the first."""
        first, last = int(channel.min()), int(channel.max())
        if last - first + 1 == self.shape[2]:
            return self.reader, 0
        axis = self.reader.info.axis
        assert axis is not None
        return self.reader.crop(float(axis[first]), float(axis[last])), first

    def _windows(self, y: NDArray[np.intp], x: NDArray[np.intp], n_channels: int) -> list[Window]:
        """Cut the rectangle around the wanted pixels into windows of whole rows, or of parts of one."""
        y0, x0, ny, nx = int(y.min()), int(x.min()), int(np.ptp(y)) + 1, int(np.ptp(x)) + 1
        pixels = max(1, READ_BYTES // (n_channels * self.dtype.itemsize))
        step = (max(1, pixels // nx), min(nx, pixels))
        return [window.shifted(y0, x0) for window in windows((ny, nx), step)]


@dataclass
class _OnePass:
    """What one pass over all spectra gives, made once and when it is needed."""

    reader: CubeReader
    tiles: tuple[Window, ...]
    _result: dict[str, NDArray[np.float64]] | None = None
    _lock: Lock = field(default_factory=Lock)

    def __getstate__(self) -> dict[str, Any]:
        return {"reader": self.reader, "tiles": self.tiles, "_result": self._result}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    def result(self) -> dict[str, NDArray[np.float64]]:
        """Return each by-product by its name."""
        with self._lock:
            if self._result is None:
                self._result = self._make()
            return self._result

    def _make(self) -> dict[str, NDArray[np.float64]]:
        info = self.reader.info
        assert info.axis is not None
        total = np.zeros(info.shape)
        sums, largest = np.zeros(len(info.axis)), np.full(len(info.axis), -np.inf)
        for window in self.tiles:
            summary = TileSummary.of(self.reader.read_tile(window).values, info.acquired[window.slices])
            total[window.slices] = summary.total
            sums += summary.sums
            np.maximum(largest, summary.largest, out=largest)
        mean = sums / max(1, info.n_spectra)
        largest = np.where(np.isfinite(largest), largest, 0.0)
        return dict(zip(BY_PRODUCTS, (total, mean, largest), strict=True))


class LazyByProduct(BackendArray):  # type: ignore[misc,unused-ignore]
    """One of the by-products of a source."""

    def __init__(self, one_pass: _OnePass, name: str) -> None:
        info = one_pass.reader.info
        assert info.axis is not None
        self.one_pass, self.name = one_pass, name
        self.shape = info.shape if schema.BY_NAME[name].dims == ("y", "x") else (len(info.axis),)
        self.dtype = np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        values = self.one_pass.result()[self.name]
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, values.__getitem__
        )
