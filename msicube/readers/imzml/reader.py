"""The imzML reader."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from msicube.axis import OBSERVED, SpectralBins
from msicube.errors import AxisRequired, CorruptSource, UsageError
from msicube.readers.base import AxisSurvey, CubeInfo, OnError, Tile
from msicube.readers.dense import cropped
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.cache import cached_scan
from msicube.readers.imzml.describe import check_positions, describe
from msicube.readers.imzml.faults import FaultLog
from msicube.readers.imzml.index import SpectrumIndex
from msicube.readers.imzml.peaks import IbdPeaks
from msicube.readers.imzml.resolve import resolve
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.tiles import DenseTile, IbdFile
from msicube.readers.ragged import RaggedTile, binned_dtype, survey
from msicube.tiling import Window

_HASH_BLOCK = 4 * 2**20


@dataclass(frozen=True)
class ImzMLReader:
    """One imzML pair; see :class:`msicube.readers.CubeReader` for the methods.

    Attributes
    ----------
    path
        The .imzML.
    ibd
        The .ibd.
    header, index
        What the XML says.
    info
        The same in the words of the protocol.
    bins
        The axis of a processed file, once chosen.
    first
        Where the axis of ``info`` begins on that of the file.
    """

    path: Path
    ibd: Path
    header: Header
    index: SpectrumIndex
    info: CubeInfo
    bins: SpectralBins | None = None
    first: int = 0

    @classmethod
    def open(
        cls, path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
    ) -> list[ImzMLReader]:
        """Read the XML, check it against the .ibd, and read the axis of a continuous file.

        Parameters
        ----------
        path
            The .imzML.
        on_error
            Whether spectra that are wrong are an error, or masked and named.
        index_cache
            Where the index is kept: a folder, ``"beside"`` the file, or ``"off"``.

        Returns
        -------
        list of ImzMLReader
            One for each plane of a 3D stack, in the order of z.

        Raises
        ------
        CorruptSource
            No .ibd, XML that is not well-formed, nothing that can be read; with ``on_error="stop"`` also any spectrum
            that is wrong, and an .ibd of another UUID.
        """
        ibd = find_ibd(path)
        header, table = cached_scan(path, ibd, cache=index_cache)
        faults = FaultLog(table)
        faults.remarks.extend(_check_uuid(path, ibd, header, on_error))
        index = resolve(table, header, ibd.stat().st_size, faults)
        check_positions(index, faults)
        if on_error == "report":
            _check_packed(ibd, index, faults)
        remarks = faults.settle(path.name, on_error)
        infos = describe(path, ibd, header, index, masked=faults.masked, remarks=remarks)
        return [cls(path, ibd, header, index, info) for info in infos]

    def tile(self, window: Window) -> DenseTile | RaggedTile:
        """Return one tile, ready to be read anywhere."""
        if self.info.axis is None:
            raise AxisRequired(
                f"{self.path.name} is processed and no axis has been chosen: give one with with_axis"
            )
        if not (
            0 <= window.y0 < window.y1 <= self.info.shape[0]
            and 0 <= window.x0 < window.x1 <= self.info.shape[1]
        ):
            raise UsageError(f"{window} is empty or leaves {self.path.name} of {self.info.shape} pixels")
        numbers = self.info.spectrum_index[window.slices].ravel()
        pixels = np.flatnonzero(numbers >= 0)
        rows = numbers[pixels]
        # In the order of the file, so that reading runs forward through it.
        order = np.argsort(self.index.intensity.offset[rows], kind="stable")
        pixels, rows = pixels[order], rows[order]
        # An empty array is an empty spectrum: its pixel stays 0.
        filled = self.index.intensity.length[rows] > 0
        pixels, rows = pixels[filled], rows[filled]
        shape = (*window.shape, len(self.info.axis))
        if self.bins is None or self.bins.exact:
            intensity = self.index.intensity.take(rows)
            return DenseTile(self.ibd, shape, self.info.dtype, pixels, intensity, self.first)
        return RaggedTile(self._peaks_of(rows), pixels, shape, self.info.dtype, self.bins)

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def open_ibd(self) -> IbdFile:
        """Open the binary file: any array of the index, as it stands."""
        return IbdFile(self.ibd)

    def survey(self) -> AxisSurvey | None:
        """Look through the m/z values of a processed file; None for a continuous one."""
        if self.info.axis_law == OBSERVED and self.bins is None:
            return None
        rows = self.info.spectrum_index[self.info.acquired]
        # In the order of the file, so that reading runs forward through it.
        return survey(self._peaks_of(rows[np.argsort(self.index.mz.offset[rows], kind="stable")]))

    def peaks(self) -> IbdPeaks | None:
        """Return every peak of a processed file by the number of its spectrum; None for a continuous one."""
        if self.info.axis_law == OBSERVED and self.bins is None:
            return None
        foreign = np.ones(len(self.index), bool)
        foreign[self.info.spectrum_index[self.info.acquired]] = False
        return self._peaks_of(np.arange(len(self.index))).without(foreign)

    def _peaks_of(self, rows: NDArray[np.intp]) -> IbdPeaks:
        source = self.info.source
        types = np.dtype(source["mz_dtype"]), np.dtype(source["intensity_dtype"])
        return IbdPeaks(self.ibd, self.index.mz.take(rows), self.index.intensity.take(rows), *types)

    def with_axis(self, bins: SpectralBins, law: str) -> ImzMLReader:
        """Return this file on a given axis.

        Raises
        ------
        UsageError
            The file is continuous and has an axis of its own.
        """
        if self.info.axis is not None and self.bins is None:
            raise UsageError(f"{self.path.name} is continuous and keeps its own axis")
        intensity = np.dtype(self.info.source["intensity_dtype"])
        info = replace(
            self.info,
            axis=bins.centres,
            axis_law=law,
            dtype=intensity if bins.exact else binned_dtype(intensity),
            bins=None if bins.exact else bins,
        )
        return replace(self, bins=bins, info=info)

    def crop(self, lower: float, upper: float) -> ImzMLReader:
        """Return a reader of the channels from ``lower`` to ``upper``, both included."""
        if self.info.axis is None:
            raise AxisRequired(f"{self.path.name} is processed: choose its axis before cropping it")
        info, chosen = cropped(self.info, lower, upper)
        bins = None if self.bins is None else self.bins.crop(chosen)
        info = replace(info, bins=None if info.bins is None else bins)
        return replace(self, info=info, bins=bins, first=self.first + chosen.start)

    def verify(self) -> dict[str, str]:
        """Check the .ibd against the strongest checksum that the XML declares."""
        declared = {
            name: value.lower()
            for accession, name in cv.CHECKSUMS.items()
            if (value := self.header.value("fileContent", accession))
        }
        if not declared:
            return {}
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in declared}
        with self.ibd.open("rb") as file:
            while block := file.read(_HASH_BLOCK):
                for algorithm in hashes.values():
                    algorithm.update(block)
        met = {name: value for name, value in declared.items() if hashes[name].hexdigest() == value}
        strongest = next(iter(declared))
        if strongest not in met:
            raise CorruptSource(
                f"{self.ibd.name} has the {strongest} {hashes[strongest].hexdigest()}, {self.path.name} declares "
                f"{declared[strongest]}: the file is damaged or was changed, copy it again"
            )
        return met


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[ImzMLReader]:
    """Open an imzML pair; see :meth:`ImzMLReader.open`."""
    return ImzMLReader.open(path, on_error=on_error, index_cache=index_cache)


def main_file(path: Path) -> Path | None:
    """Return the .imzML of a pair, given either file; None for an .ibd that stands alone."""
    return path if path.suffix.lower() == ".imzml" else _beside(path, ".imzML")


def find_ibd(path: Path) -> Path:
    """Return the binary file of an .imzML: the same name with ``.ibd`` in any case.

    Raises
    ------
    CorruptSource
        There is none.
    """
    found = _beside(path, ".ibd")
    if found is not None:
        return found
    raise CorruptSource(f"{path} has no .ibd beside it: expected {path.with_suffix('.ibd').name}")


def _beside(path: Path, ending: str) -> Path | None:
    """Return the file of the same name with another ending, in any case."""
    for candidate in (path.with_suffix(ending), path.with_suffix(ending.upper())):
        if candidate.is_file():
            return candidate
    alike = (c for c in path.parent.iterdir() if c.stem == path.stem)
    return next((c for c in alike if c.suffix.lower() == ending.lower()), None)


def _check_uuid(path: Path, ibd: Path, header: Header, on_error: OnError) -> list[str]:
    """Compare the UUID of the XML with the first bytes of the .ibd; return what the report says of it."""
    declared = _plain_uuid(header.value("fileContent", cv.UUID) or "")
    if not declared:
        return ["no UUID: whether the .imzML and the .ibd are a pair cannot be known"]
    if ibd.stat().st_size < 16:
        raise CorruptSource(
            f"{ibd.name} has {ibd.stat().st_size} bytes, not even the 16 of a UUID: it is truncated"
        )
    head = np.empty(16, np.uint8)
    with IbdFile(ibd) as file:
        file.read_into(head, 0)
    found = head.tobytes()
    if found.hex() == declared:
        return []
    if UUID(bytes_le=found).hex == declared:
        return ["the .ibd has the UUID in the byte order of Windows: the same UUID"]
    message = f"{ibd.name} has the UUID {found.hex()}, {path.name} declares {declared}: they are not a pair"
    if on_error == "report":
        return [f"{message}; read all the same, because wrong sources are to be reported"]
    raise CorruptSource(message)


def _check_packed(ibd: Path, index: SpectrumIndex, faults: FaultLog) -> None:
    """Unpack every compressed array once, so that what is damaged is known before the first tile."""
    with IbdFile(ibd) as file:
        for columns in (index.mz, index.intensity):
            for row in np.flatnonzero(faults.valid & columns.packed).tolist():
                try:
                    file.array(columns, row)
                except CorruptSource as error:
                    faults.fault(str(error), np.array([row]))


def _plain_uuid(text: str) -> str:
    return text.strip().strip("{}").replace("-", "").lower()
