"""A study: one Zarr store with many slides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import msicube
from msicube import schema
from msicube.errors import CorruptStore, FormatVersionError, NotAStudy, UnknownSlide, UsageError
from msicube.samples import samples_frame
from msicube.store.cube import CubeArray
from msicube.store.draft import METADATA, group_metadata, read_attrs
from msicube.store.location import TEMPORARY, Location, spread
from msicube.store.masks import ACQUIRED, mask_names, read_mask
from msicube.store.peaks import PEAKS, StoredPeaks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PIPELINES = "_pipelines"


def open_study(
    path: str | os.PathLike[str] | Location, *, storage_options: Mapping[str, Any] | None = None
) -> Study:
    """Open a study for reading.

    Parameters
    ----------
    path
        A local folder, or a URL that fsspec knows (``s3://bucket/study.zarr``).
    storage_options
        What fsspec needs for it: credentials, endpoints.

    Returns
    -------
    Study
        Lazy: nothing but metadata is read.

    Raises
    ------
    NotAStudy
        Nothing is there, or something else.
    FormatVersionError
        It was written by a newer msicube.
    """
    location = Location.of(path, storage_options)
    header = _header(location)
    if header is None:
        raise NotAStudy(
            f"{location} is no msicube study"
            + ("" if location.exists() else " (there is nothing of this name)")
            + ": make one with `msicube convert SRC... STUDY`"
        )
    if header["format_version"] > schema.FORMAT_VERSION:
        raise FormatVersionError(
            f"{location} has format version {header['format_version']}, this msicube reads up to "
            f"{schema.FORMAT_VERSION}: upgrade msicube"
        )
    return Study(location)


def find_study(location: Location) -> Study | None:
    """Open the study at a place where one may be made; None where there is nothing yet.

    Raises
    ------
    NotAStudy
        The folder holds something else.
    """
    if _header(location) is not None:
        return open_study(location)
    if all(name.endswith(TEMPORARY) for name in location.children()):
        return None  # nothing, or what a task beside this one is about to name zarr.json
    if _header(location) is None:  # else a task beside this one has just made it
        raise NotAStudy(f"{location} is not empty and no msicube study: choose another path for the study")
    return open_study(location)


def create_study(location: Location, *, modality: str) -> Study:
    """Open a study for adding slides, and make it where there is none.

    Raises
    ------
    NotAStudy
        The folder holds something else.
    UsageError
        The study holds slides of another modality.
    """
    study = check_modality(location, modality)
    if study is None:
        header = {
            "format_version": schema.FORMAT_VERSION,
            "modality": modality,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": f"msicube {msicube.__version__}",
        }
        (location / METADATA).put(group_metadata({"msicube": header}))
        study = open_study(location)
    return study


def check_modality(location: Location, modality: str) -> Study | None:
    """Return the study that slides of a modality can be added to, or None where there is none yet.

    Raises
    ------
    NotAStudy
        The folder holds something else.
    UsageError
        The study holds slides of another modality.
    """
    study = find_study(location)
    if study is not None and study.modality != modality:
        raise UsageError(
            f"{location} holds slides of modality {study.modality}, not {modality}: use another study"
        )
    return study


class Study(Mapping[str, "xr.Dataset"]):
    """A collection of slides, read lazily; a mapping of slide name to dataset.

    Made by :func:`open_study`. Picklable; what it knows of the slides is read once, so open it again to see slides that
    were added since.

    Attributes
    ----------
    location
        Where it is.
    """

    def __init__(self, location: Location) -> None:
        self.location = location

    @property
    def path(self) -> str:
        """Path or URL."""
        return self.location.url

    @property
    def modality(self) -> str:
        """``"msi"`` or ``"ftir"``."""
        return str(self.header["modality"])

    @cached_property
    def header(self) -> dict[str, Any]:
        """The study's own attributes: format version, modality, created, software."""
        return _header(self.location) or {}

    @property
    def slides(self) -> list[str]:
        """Names of the slides, sorted."""
        return list(self.slide_attrs)

    @cached_property
    def slide_attrs(self) -> dict[str, dict[str, Any]]:
        """Attributes of each slide by its name; :data:`msicube.schema.SLIDE_ATTRS` says what they hold."""
        names = [
            name for name in self.location.children() if name != METADATA and not name.startswith(("_", "."))
        ]
        found = spread(
            lambda name: read_attrs(self.location / name), names, remote=self.location.local is None
        )
        return {name: a for name, a in zip(names, found, strict=True) if a is not None and "msicube" in a}

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The samples table: index ``slide``, columns ``label``, ``patient``, ``split``, ... as far as given."""
        return samples_frame({name: attrs.get("sample", {}) for name, attrs in self.slide_attrs.items()})

    def __getitem__(self, slide: str) -> xr.Dataset:
        """Return a slide as a lazy dataset; its cubes are Dask arrays with one chunk a tile."""
        import dask.array as da
        import xarray as xr

        self._check(slide)
        dataset: xr.Dataset = xr.open_zarr(
            self.location.zarr_store(), group=slide, chunks=None, consolidated=False, zarr_format=3
        )
        for name, variable in dataset.variables.items():
            if variable.ndim == 3:
                cube = self.cube(slide, str(name))
                # Through the shard reader: a slice of the lazy array reads just the chunks that it touches.
                lazy = da.from_array(
                    cube, chunks=(*cube.tile, -1), name=f"{slide}-{name}-{id(cube)}", lock=False
                )
                dataset[name] = (variable.dims, lazy, variable.attrs)
                if "feature_names" in variable.attrs:
                    dataset = dataset.assign_coords({variable.dims[2]: list(variable.attrs["feature_names"])})
        return dataset.set_xindex(schema.AXIS_NAME[self.modality])

    def __iter__(self) -> Iterator[str]:
        return iter(self.slides)

    def __len__(self) -> int:
        return len(self.slides)

    def __contains__(self, slide: object) -> bool:
        return slide in self.slide_attrs

    def cube(self, slide: str, variable: str = "intensity") -> CubeArray:
        """Return a handle on a ``(y, x, channel)`` variable that reads without zarr-python's pipeline."""
        self._check(slide)
        return CubeArray.open(self.location / slide / variable, slide=slide, variable=variable)

    def acquired(self, slide: str) -> NDArray[np.bool_]:
        """Return the ``(y, x)`` mask of the pixels that hold a measured spectrum."""
        return self.small(slide, "acquired").astype(bool)

    def mask(self, slide: str, where: str = ACQUIRED) -> NDArray[np.bool_]:
        """Return which pixels of a slide an expression of its masks chooses.

        Parameters
        ----------
        slide
            Name.
        where
            Names of masks joined by ``&`` (both), ``|`` (either), ``~`` (not) and parentheses, such as
            ``"tissue & ~dead"``.

        Returns
        -------
        ndarray
            ``(y, x)`` bool; False where nothing was acquired, whatever the expression.

        Raises
        ------
        UsageError
            No expression of masks, or a mask that the slide lacks; the message lists those it has.
        """
        return self.mask_reader(slide, where)()

    def mask_reader(self, slide: str, where: str = ACQUIRED) -> Callable[[], NDArray[np.bool_]]:
        """Return what :meth:`mask` returns, as a function that pickles, for a task on a worker."""
        self._check(slide)
        return partial(read_mask, self.location, slide, where)

    def masks(self, slide: str) -> list[str]:
        """Return the names of a slide's masks, ``acquired`` first."""
        self._check(slide)
        return mask_names(self.location, slide)

    def axis(self, slide: str) -> NDArray[np.float64]:
        """Return the ``(channel,)`` m/z or wavenumber of a slide."""
        return self.small(slide, schema.AXIS_NAME[self.modality]).astype(np.float64)

    def peaks(self, slide: str) -> StoredPeaks | None:
        """Return the peaks of a slide of processed data, or None where none are kept.

        Raises
        ------
        CorruptStore
            They are there and contradict themselves.
        """
        self._check(slide)
        group = self.location / slide / PEAKS
        if read_attrs(group) is None:
            return None
        return StoredPeaks.open(group, self.small(slide, f"{PEAKS}/offset").astype(np.int64))

    def only(self, slides: Iterable[str]) -> Study:
        """Return the study as if it held no slides but these; only their metadata are read, now."""
        part = Study(self.location)
        attrs = {name: read_attrs(self.location / name) for name in slides}
        part.__dict__["slide_attrs"] = {
            name: a for name, a in attrs.items() if a is not None and "msicube" in a
        }
        return part

    def pipelines(self) -> list[str]:
        """Return the names of the fitted pipelines in the study."""
        folder = self.location / PIPELINES
        return [name for name in folder.children() if read_attrs(folder / name) is not None]

    def small(self, slide: str, variable: str) -> NDArray[Any]:
        """Return a variable that is small beside the cube, such as ``mean_spectrum``, whole."""
        import zarr

        self._check(slide)
        try:
            array = zarr.open_array(
                self.location.zarr_store(), path=f"{slide}/{variable}", mode="r", zarr_format=3
            )
        except FileNotFoundError as error:
            raise CorruptStore(f"slide {slide} of {self.path} has no variable '{variable}'") from error
        return np.asarray(array[...])

    def _check(self, slide: str) -> None:
        if "slide_attrs" not in self.__dict__:
            attrs = read_attrs(self.location / slide) or {}
            if "slide" in attrs.get("msicube", {}):
                return  # one look, where a task wants one slide of a thousand
        if slide not in self.slide_attrs:
            known = ", ".join(self.slides[:8]) + (", ..." if len(self.slides) > 8 else "")
            raise UnknownSlide(f"{self.path} has no slide {slide!r}; it has {len(self.slides)}: {known}")

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location}

    def __repr__(self) -> str:
        return f"<msicube.Study {self.path!r}: {self.modality}, {len(self.slides)} slides>"


def _header(location: Location) -> dict[str, Any] | None:
    attrs = read_attrs(location)
    return None if attrs is None else attrs.get("msicube")
