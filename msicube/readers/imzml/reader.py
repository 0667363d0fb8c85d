"""The imzML reader."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msicube.axis import OBSERVED, SpectralBins
from msicube.errors import AxisRequired, CorruptSource, UsageError
from msicube.readers.base import AxisSurvey, CubeInfo, OnError, Tile
from msicube.readers.dense import cropped
from msicube.readers.imzml.cache import cached_scan
from msicube.readers.imzml.checksums import verify_ibd
from msicube.readers.imzml.describe import check_positions, describe
from msicube.readers.imzml.faults import FaultLog
from msicube.readers.imzml.index import SpectrumIndex
from msicube.readers.imzml.pair import check_uuid, find_ibd
from msicube.readers.imzml.peaks import IbdPeaks
from msicube.readers.imzml.resolve import resolve
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.tiles import DenseTile, IbdFile
from msicube.readers.ragged import RaggedTile, binned_dtype, survey
from msicube.tiling import Window


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
        faults.remarks.extend(check_uuid(path, ibd, header, on_error))
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
        return verify_ibd(self.path, self.ibd, self.header)


def open_readers(
    path: Path, *, on_error: OnError = "stop", index_cache: str | None = None
) -> list[ImzMLReader]:
    """Open an imzML pair; see :meth:`ImzMLReader.open`."""
    return ImzMLReader.open(path, on_error=on_error, index_cache=index_cache)


def _check_packed(ibd: Path, index: SpectrumIndex, faults: FaultLog) -> None:
    """Unpack every compressed array once, so that what is damaged is known before the first tile."""
    with IbdFile(ibd) as file:
        for columns in (index.mz, index.intensity):
            for row in np.flatnonzero(faults.valid & columns.packed).tolist():
                try:
                    file.array(columns, row)
                except CorruptSource as error:
                    faults.fault(str(error), np.array([row]))
