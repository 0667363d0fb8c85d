"""The imzML reader."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msicube.axis import OBSERVED, SpectralBins
from msicube.errors import AxisRequired, CorruptSource, UsageError
from msicube.readers.base import AxisSurvey, CubeInfo, Tile
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.describe import describe
from msicube.readers.imzml.index import Header, SpectrumIndex, read_index
from msicube.readers.imzml.peaks import IbdPeaks
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
    """

    path: Path
    ibd: Path
    header: Header
    index: SpectrumIndex
    info: CubeInfo
    bins: SpectralBins | None = None

    @classmethod
    def open(cls, path: Path) -> ImzMLReader:
        """Read the XML, check it against the .ibd, and read the axis of a continuous file.

        Raises
        ------
        CorruptSource
            No .ibd, an .ibd of another UUID or too short, two spectra at one position, or XML that contradicts itself.
        """
        ibd = find_ibd(path)
        header, index = read_index(path)
        _check_ibd(path, ibd, header, index)
        return cls(path, ibd, header, index, describe(path, ibd, header, index))

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
        shape = (*window.shape, len(self.info.axis))
        if self.bins is None or self.bins.exact:
            return DenseTile(self.ibd, shape, self.info.dtype, pixels, self.index.intensity.take(rows))
        return RaggedTile(self._all_peaks().take(rows), pixels, shape, self.info.dtype, self.bins)

    def read_tile(self, window: Window) -> Tile:
        """Read one tile."""
        return self.tile(window).read()

    def survey(self) -> AxisSurvey | None:
        """Look through the m/z values of a processed file; None for a continuous one."""
        if self.info.axis_law == OBSERVED and self.bins is None:
            return None
        return survey(self._all_peaks())

    def peaks(self) -> IbdPeaks | None:
        """Return every peak of a processed file by the number of its spectrum; None for a continuous one."""
        return None if self.info.axis_law == OBSERVED and self.bins is None else self._all_peaks()

    def _all_peaks(self) -> IbdPeaks:
        source = IbdPeaks(self.ibd, self.index.mz, self.index.intensity)
        foreign = np.ones(len(self.index), bool)
        foreign[self.info.spectrum_index[self.info.acquired]] = False
        return source.without(foreign) if foreign.any() else source

    def with_axis(self, bins: SpectralBins, law: str) -> ImzMLReader:
        """Return this file on a given axis.

        Raises
        ------
        UsageError
            The file is continuous and has an axis of its own.
        """
        if self.info.axis is not None and self.bins is None:
            raise UsageError(f"{self.path.name} is continuous and keeps its own axis")
        intensity = self.index.intensity.dtype
        info = replace(
            self.info,
            axis=bins.centres,
            axis_law=law,
            dtype=intensity if bins.exact else binned_dtype(intensity),
            bins=None if bins.exact else bins,
        )
        return replace(self, bins=bins, info=info)

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


def find_ibd(path: Path) -> Path:
    """Return the binary file of an .imzML: the same name with ``.ibd`` in any case.

    Raises
    ------
    CorruptSource
        There is none.
    """
    for candidate in (path.with_suffix(".ibd"), path.with_suffix(".IBD")):
        if candidate.is_file():
            return candidate
    for candidate in path.parent.iterdir():
        if candidate.stem == path.stem and candidate.suffix.lower() == ".ibd":
            return candidate
    raise CorruptSource(f"{path} has no .ibd beside it: expected {path.with_suffix('.ibd').name}")


def _check_ibd(path: Path, ibd: Path, header: Header, index: SpectrumIndex) -> None:
    size = ibd.stat().st_size
    end = max(index.mz.end, index.intensity.end)
    if end > size:
        raise CorruptSource(
            f"{ibd.name} has {size} bytes, {path.name} refers to {end}: the .ibd is truncated or of another file"
        )
    declared = _plain_uuid(header.value("fileContent", cv.UUID) or "")
    if not declared:
        return
    found = np.empty(16, np.uint8)
    with IbdFile(ibd) as file:
        file.read_into(found, 0)
    if found.tobytes().hex() != declared:
        raise CorruptSource(
            f"{ibd.name} has the UUID {found.tobytes().hex()}, {path.name} declares {declared}: they are not a pair"
        )


def _plain_uuid(text: str) -> str:
    return text.strip().strip("{}").replace("-", "").lower()
