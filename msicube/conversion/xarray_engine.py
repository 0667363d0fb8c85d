"""``xr.open_dataset("x.dmt", engine="agilent")``: a source as the slide that it would become, with no conversion."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from msicube import schema
from msicube.axis import Range, parse_range
from msicube.conversion.axis_plan import AxisPlan, plan_axis
from msicube.conversion.lazy_source import attributes, lazy_variables
from msicube.errors import UsageError
from msicube.readers import CubeReader, open_source


class SourceBackend(BackendEntrypoint):  # type: ignore[misc,unused-ignore]
    """An xarray engine: variables, coordinates and types of a source are those of a slide of a study.

    Nothing but metadata, index and axis is read before a value is asked for, and then of each file only the bytes of
    the channels that are wanted, where the format allows it. With ``chunks={}`` the chunks of Dask are the slide's
    tiles. The by-products ``total_ion_current``, ``mean_spectrum`` and ``max_spectrum`` come from one pass over all
    spectra, made when the first of them is asked for.
    """

    #: Name of the format in :data:`msicube.readers.registry.FORMATS`.
    format: ClassVar[str]
    #: Endings that are this format's alone, so that a file is known by its name.
    endings: ClassVar[tuple[str, ...]] = ()
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables", "crop", "cube")

    def open_dataset(  # type: ignore[override,unused-ignore]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        crop: str | Range | None = None,
        cube: str | None = None,
    ) -> xr.Dataset:
        """Open a source lazily.

        Parameters
        ----------
        filename_or_obj
            Any file of the source, or a folder that holds no other.
        drop_variables
            Names to leave out.
        crop
            ``(lower, upper)`` or ``"lower:upper"``: the channels to keep, both ends included.
        cube
            Which one of several cubes in the file, by the name of the slide that it would become. None takes the only
            one.

        Raises
        ------
        UsageError
            There are several cubes and none is named, or there is none of the name; the message has their names.
        UnknownFormat
            The file is not of this engine's format.
        CorruptSource
            The file contradicts itself or is damaged.
        """
        return _dataset(self._open(filename_or_obj, cube), AxisPlan(crop=_range(crop)), drop_variables)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether the name ends in a way that is this format's alone, in any case."""
        return (
            isinstance(filename_or_obj, str | os.PathLike)
            and Path(filename_or_obj).suffix.lower() in self.endings
        )

    def _open(self, filename: Any, cube: str | None) -> CubeReader:
        if not isinstance(filename, str | os.PathLike):
            raise UsageError(
                f"a source of the format {self.format} is opened by its path, found {type(filename).__name__}"
            )
        return open_source(filename, format_name=self.format, cube=cube)


class ImzMLBackend(SourceBackend):
    """The xarray engine ``imzml``."""

    description = "Mass-spectrometry images in imzML, through msicube"
    format, endings = "imzML", (".imzml",)
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "crop", "cube", "mz_axis")

    def open_dataset(  # type: ignore[override,unused-ignore]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        crop: str | Range | None = None,
        cube: str | None = None,
        mz_axis: str | None = None,
    ) -> xr.Dataset:
        """Open an imzML file lazily.

        Parameters
        ----------
        filename_or_obj
            The ``.imzML``, its ``.ibd`` beside it.
        drop_variables, crop, cube
            As for the other engines.
        mz_axis
            Axis law for a processed file; see :func:`msicube.convert`.

        Raises
        ------
        AxisRequired
            The file is processed and no law is given; the message suggests one.
        CorruptSource
            The file contradicts itself or is damaged.
        """
        reader = self._open(filename_or_obj, cube)
        plan = plan_axis({reader.info.name: (lambda: reader, reader.survey())}, mz_axis, None)
        return _dataset(reader, replace(plan, crop=_range(crop)), drop_variables)


class AgilentBackend(SourceBackend):
    """The xarray engine ``agilent``."""

    description = "Agilent infrared mosaics and single tiles, through msicube"
    format, endings = "Agilent", (".dmt", ".dmd", ".dms", ".bsp")


class EnviBackend(SourceBackend):
    """The xarray engine ``envi``."""

    description = "Infrared images in ENVI files, through msicube"
    format = "ENVI"


class PerkinElmerBackend(SourceBackend):
    """The xarray engine ``perkinelmer``."""

    description = "PerkinElmer infrared images, through msicube"
    format, endings = "PerkinElmer", (".fsm",)


class OmnicBackend(SourceBackend):
    """The xarray engine ``omnic``."""

    description = "Thermo OMNIC infrared maps, through msicube"
    format = "OMNIC map"


class OpusBackend(SourceBackend):
    """The xarray engine ``opus``."""

    description = "Bruker OPUS spectra and images, through msicube"
    format = "OPUS"


class MatlabBackend(SourceBackend):
    """The xarray engine ``matlab``."""

    description = "Infrared images in MATLAB files, through msicube"
    format = "MATLAB"


class HDF5Backend(SourceBackend):
    """The xarray engine ``hdf5``."""

    description = "Infrared images in HDF5 files, through msicube"
    format = "HDF5"


class NumPyBackend(SourceBackend):
    """The xarray engine ``npy``."""

    description = "Infrared images in NumPy files, through msicube"
    format = "NumPy"


def _range(crop: str | Range | None) -> Range | None:
    return None if crop is None else parse_range(crop)


def _dataset(reader: CubeReader, plan: AxisPlan, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    reader = plan.apply(reader, reader.survey())
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    found = {name: v for name, v in lazy_variables(reader).items() if name not in dropped}
    axis = schema.AXIS_NAME[reader.info.modality]
    dataset = xr.Dataset(found, attrs=attributes(reader))
    return dataset if axis in dropped else dataset.set_coords(axis).set_xindex(axis)
