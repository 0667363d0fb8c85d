"""From an ENVI header and its data file to a cube."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisRequired, CorruptSource
from msicube.readers.base import OnError
from msicube.readers.dense import DenseReader
from msicube.readers.envi.header import EnviHeader, is_envi
from msicube.readers.infrared import cube_info, file_entry, head, in_order, without_blanks
from msicube.readers.strided import Layout, StridedCube, check_size, native_dtype
from msicube.readers.wavenumbers import ascending, axis_beside, axis_required, check_length, per_centimetre

DATA_ENDINGS = (".img", ".dat", ".raw", ".bil", ".bip", ".bsq", ".bin", "")
#: Agilent writes an ENVI header beside its own files; with these there it is not the source.
AGILENT_ENDINGS = (".dmt", ".bsp", ".dms")


def main_file(path: Path) -> Path | None:
    """Return the header, given either file; None for files of other formats that share the endings."""
    names = {
        candidate.name.casefold(): candidate for candidate in path.parent.iterdir() if candidate.is_file()
    }
    wanted = [path.name] if path.suffix.lower() == ".hdr" else [f"{path.name}.hdr", f"{path.stem}.hdr"]
    header = next((names[name.casefold()] for name in wanted if name.casefold() in names), None)
    if header is None or any((header.stem + ending).casefold() in names for ending in AGILENT_ENDINGS):
        return None
    return header if is_envi(head(header, 64)) else None


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[DenseReader]:
    """Open an image: its header is read, and of its values one channel.

    Parameters
    ----------
    path
        The header.
    on_error
        With ``"report"`` a data file that is longer than the header says is read all the same.
    index_cache
        Not used: there is no index to keep.

    Raises
    ------
    UnknownFormat
        No ENVI header, or a kind of image that holds no spectra.
    AxisRequired
        The header gives no wavelengths, or not in which unit.
    CorruptSource
        Header and data file do not agree.
    """
    header = EnviHeader.read(path)
    layout = header.layout()
    data = _data_file(path, layout)
    remarks = [*header.remarks(), *_check_longer(data, layout, on_error)]
    axis, turned = ascending(_axis(header, path, layout.shape[2], remarks), path.name)
    info = cube_info(
        path,
        name=path.with_suffix("").stem if path.stem.lower().endswith(DATA_ENDINGS[:-1]) else path.stem,
        axis=axis,
        dtype=native_dtype(layout.dtype, path.name),
        numbers=in_order(*layout.shape[:2]),
        source={
            "format": "ENVI",
            "header": file_entry(path),
            "data": file_entry(data),
            "interleave": header.values["interleave"].lower(),
            "description": header.values.get("description"),
        },
        pixel_size=header.pixel_size(),
        flips=["channels: the file descends in wavenumber"] if turned else [],
        remarks=remarks,
    )
    reader = without_blanks(DenseReader(info, StridedCube(data, layout.flipped(2) if turned else layout)))
    ignored = header.ignored()
    return [reader if ignored is None else without_blanks(reader, blank=ignored)]


def _data_file(path: Path, layout: Layout) -> Path:
    """Return the file beside the header that has the values; where there are several, the one of the right size."""
    wanted = {(path.stem + ending).casefold() for ending in DATA_ENDINGS}
    found = sorted(p for p in path.parent.iterdir() if p.name.casefold() in wanted and p.is_file())
    exact = [p for p in found if p.stat().st_size == layout.end]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        raise CorruptSource(
            f"{path} has no data file beside it: expected {path.stem} with one of the endings "
            f"{', '.join(DATA_ENDINGS[:-1])} or none"
        )
    raise CorruptSource(
        f"{path.name} has {len(found)} files beside it that may be its values ({', '.join(p.name for p in found)}), "
        f"{len(exact)} of them of the size {layout.end} that it promises: leave only the right one in the folder"
    )


def _check_longer(data: Path, layout: Layout, on_error: OnError) -> list[str]:
    size = data.stat().st_size
    check_size(data, layout.end, size)
    if size == layout.end:
        return []
    message = f"{data.name} has {size} bytes, its header promises {layout.end}"
    if on_error == "stop":
        raise CorruptSource(
            f"{message}: one of them is wrong. Repair the header, or convert it with --on-error report, which "
            f"leaves out the {size - layout.end} bytes at the end"
        )
    return [f"{message}: the bytes at the end are left out"]


def _axis(header: EnviHeader, path: Path, n_channels: int, remarks: list[str]) -> NDArray[np.float64]:
    """Return the wavenumber of each band, in the order of the file."""
    beside = axis_beside(path)
    if beside is not None:
        check_length(beside[0], n_channels, beside[1], path.name)
        remarks.append(f"the axis is that of {beside[1]}")
        return beside[0]
    values = header.numbers("wavelength")
    if values is None:
        raise axis_required(
            path,
            n_channels,
            "add a line 'wavelength = {...}' and one 'wavelength units = Wavenumber' to the header",
        )
    check_length(values, n_channels, "the header", path.name)
    titles = header.items("z plot titles")
    units = [header.values.get("wavelength units", ""), titles[0] if titles else ""]
    for unit in units:
        axis = per_centimetre(values, unit)
        if axis is not None:
            return axis
    raise AxisRequired(
        f"{path.name} gives wavelengths from {values[0]:g} to {values[-1]:g} and no unit that is known "
        f"(wavelength units = {units[0] or 'nothing'}): write 'wavelength units = Wavenumber' into the header for "
        f"cm^-1, or Nanometers, or Micrometers"
    )
