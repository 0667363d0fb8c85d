"""The peaks of a processed imzML file, many spectra with one read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.index import ArrayColumns
from msicube.readers.imzml.tiles import IbdFile, decode
from msicube.readers.ragged import Peaks

#: Arrays closer together than this in the file are fetched with one read; what lies between is thrown away.
GAP = 2**14
#: Bound on one read of many arrays, so that overlapping or scattered arrays cost no more memory than their run.
SPAN = 8 * 2**20


@dataclass(frozen=True)
class IbdPeaks:
    """The m/z and intensity arrays of some spectra; see :class:`msicube.readers.ragged.PeakSource`.

    Attributes
    ----------
    path
        The .ibd.
    mz, intensity
        Where the arrays lie.
    mz_dtype, intensity_dtype
        The types that hold the values of all spectra of the file: a few may be stored in narrower ones.
    """

    path: Path
    mz: ArrayColumns
    intensity: ArrayColumns
    mz_dtype: np.dtype[Any]
    intensity_dtype: np.dtype[Any]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(spectrum,)`` peaks of each spectrum."""
        return self.mz.length

    def take(self, rows: NDArray[np.intp]) -> IbdPeaks:
        """Return some of the spectra."""
        return replace(self, mz=self.mz.take(rows), intensity=self.intensity.take(rows))

    def without(self, rows: NDArray[np.bool_]) -> IbdPeaks:
        """Return the same spectra, those in the mask with no peaks."""

        def emptied(columns: ArrayColumns) -> ArrayColumns:
            return replace(
                columns,
                length=np.where(rows, 0, columns.length),
                encoded=np.where(rows, 0, columns.encoded),
                offset=np.where(rows, 0, columns.offset),
            )

        return replace(self, mz=emptied(self.mz), intensity=emptied(self.intensity))

    def read(self, start: int, stop: int) -> Peaks:
        """Read the spectra ``start`` to ``stop``."""
        mz, intensity = _read(self.path, (self.mz, self.intensity), start, stop)
        return Peaks(_joined(mz, self.mz_dtype), _joined(intensity, self.intensity_dtype))

    def read_mz(self, start: int, stop: int) -> NDArray[Any]:
        """Read the m/z values alone."""
        return _joined(_read(self.path, (self.mz,), start, stop)[0], self.mz_dtype)


def _joined(parts: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(parts) == 1 and parts[0].dtype == dtype:
        return parts[0]
    # A signalling NaN that changes its type is no reason to warn: it is kept as a NaN.
    with np.errstate(invalid="ignore"):
        return np.concatenate([np.empty(0, dtype), *parts], dtype=dtype)


def _read(path: Path, columns: tuple[ArrayColumns, ...], start: int, stop: int) -> list[list[NDArray[Any]]]:
    """Return the arrays of the spectra ``start`` to ``stop``: of each kind, one or several that follow each other."""
    count = stop - start
    offset = np.concatenate([column.offset[start:stop] for column in columns])
    size = np.concatenate([column.encoded[start:stop] for column in columns])
    pieces: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(offset)  # by kind, then by spectrum
    with IbdFile(path) as ibd:
        for members, first, length in _spans(offset, size):
            buffer = np.empty(length, np.uint8)
            ibd.read_into(buffer, first)
            for member, at, n_bytes in zip(
                members, (offset[members] - first).tolist(), size[members].tolist(), strict=True
            ):
                pieces[member] = buffer[at : at + n_bytes]
    return [
        _decoded(pieces[kind * count : (kind + 1) * count], column, start, path)
        for kind, column in enumerate(columns)
    ]


def _decoded(
    pieces: list[NDArray[np.uint8]], columns: ArrayColumns, start: int, path: Path
) -> list[NDArray[Any]]:
    """Return the values of arrays from their bytes: at once where all are of one type and none is compressed."""
    if len(columns.kinds) == 1 and columns.kinds[0][1] == "none" and pieces:
        return [np.concatenate(pieces).view(columns.kinds[0][0])]
    return [decode(piece.data, columns, start + row, path) for row, piece in enumerate(pieces)]


def _spans(offset: NDArray[np.int64], size: NDArray[np.int64]) -> Iterator[tuple[list[int], int, int]]:
    """Group pieces of a file into reads: yield the pieces of each, its first byte and its length."""
    order = np.argsort(offset, kind="stable")
    begin = offset[order]
    reach = np.maximum.accumulate(begin + size[order])
    apart = np.append(np.flatnonzero(begin[1:] - reach[:-1] > GAP) + 1, len(order))
    start = 0
    while start < len(order):
        within = np.searchsorted(reach, begin[start] + SPAN, side="right")
        stop = max(start + 1, min(int(within), int(apart[np.searchsorted(apart, start, side="right")])))
        members, first = order[start:stop], int(begin[start])
        yield members.tolist(), first, int((offset[members] + size[members]).max()) - first
        start = stop
