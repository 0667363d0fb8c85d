"""The index of an imzML file: one pass over the XML into columns, in bounded memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.params import (
    Groups,
    Param,
    Params,
    compression,
    data_type,
    integer,
    local_name,
    param,
)

if TYPE_CHECKING:
    from lxml.etree import _Element

_SECTIONS = ("fileContent", "scanSettings", "instrumentConfiguration", "software")
_TAGS = ("cvList", "fileDescription", "referenceableParamGroup", "spectrum", *_SECTIONS)


@dataclass(frozen=True)
class ArrayColumns:
    """Where one binary array of each spectrum lies in the .ibd.

    Attributes
    ----------
    offset, length, encoded
        ``(spectrum,)`` int64: bytes from the start, number of values, bytes in the file.
    dtype
        NumPy type of the values, the same for all spectra.
    compression
        ``"none"`` or ``"zlib"``.
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    encoded: NDArray[np.int64]
    dtype: np.dtype[Any]
    compression: str

    def take(self, rows: NDArray[np.intp]) -> ArrayColumns:
        """Return the columns of some spectra."""
        return ArrayColumns(
            self.offset[rows], self.length[rows], self.encoded[rows], self.dtype, self.compression
        )

    @property
    def end(self) -> int:
        """First byte past all arrays."""
        return int((self.offset + self.encoded).max(initial=0))


@dataclass(frozen=True)
class SpectrumIndex:
    """Position and binary arrays of every spectrum, in the order of the file.

    Attributes
    ----------
    x, y, z
        ``(spectrum,)`` int64, as written in the file.
    mz, intensity
        The two arrays.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    z: NDArray[np.int64]
    mz: ArrayColumns
    intensity: ArrayColumns

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class Header:
    """What the XML says besides the spectra, by section; terms of all sections of one name together."""

    sections: dict[str, list[Param]] = field(default_factory=lambda: {name: [] for name in _SECTIONS})
    representation: set[str] = field(default_factory=set)
    polarity: set[str] = field(default_factory=set)

    def value(self, section: str, accession: str) -> str | None:
        """Return the first value of a term in a section."""
        found = (p.value.strip() for p in self.sections[section] if p.accession == accession)
        return next((value for value in found if value), None)

    def has(self, section: str, accession: str) -> bool:
        """Return whether a section has a term."""
        return any(p.accession == accession for p in self.sections[section])


def read_index(path: Path) -> tuple[Header, SpectrumIndex]:
    """Read an ``.imzML`` in one streaming pass.

    Parameters
    ----------
    path
        The XML file.

    Returns
    -------
    Header, SpectrumIndex

    Raises
    ------
    CorruptSource
        No well-formed XML, a document type definition, no spectra, or a spectrum that lacks what imzML demands.
    """
    from lxml import etree

    builder = _Builder()
    try:
        # Entities stay unresolved and no file or network is ever asked for; namespaces are optional in published files.
        with path.open("rb") as file:
            context = etree.iterparse(
                file,
                events=("end",),
                tag=[f"{{*}}{name}" for name in _TAGS],
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                huge_tree=True,
            )
            for _, element in context:
                if builder.take(element):
                    _forget(element)
    except etree.XMLSyntaxError as error:
        raise CorruptSource(f"{path.name} is not well-formed XML: {error}") from error
    except CorruptSource as error:
        raise CorruptSource(f"{path.name}, {builder.place}: {error}") from error
    return builder.header, builder.finish(path)


def _forget(element: _Element) -> None:
    """Free an element that has been read, and the ones before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


class _ArrayBuilder:
    """Growing columns of one binary array."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.offset, self.length, self.encoded = array("q"), array("q"), array("q")
        self.kinds: set[tuple[str, str]] = set()

    def add(self, params: Params) -> None:
        dtype, packed = data_type(params, self.what), compression(params, self.what)
        self.kinds.add((dtype, packed))
        length = integer(params.value(cv.EXTERNAL_LENGTH), f"the external array length of {self.what}")
        plain = length * np.dtype(dtype).itemsize
        encoded = params.value(cv.EXTERNAL_ENCODED_LENGTH)
        if encoded is None and packed != "none":
            raise CorruptSource(f"{self.what} is compressed and has no external encoded length (IMS:1000104)")
        self.offset.append(integer(params.value(cv.EXTERNAL_OFFSET), f"the external offset of {self.what}"))
        self.length.append(length)
        self.encoded.append(
            plain if packed == "none" else integer(encoded, f"the encoded length of {self.what}")
        )

    def finish(self, path: Path) -> ArrayColumns:
        if len(self.kinds) != 1:
            kinds = ", ".join(" ".join(kind) for kind in sorted(self.kinds))
            raise CorruptSource(
                f"{path.name}: {self.what} changes its type between spectra ({kinds}): expected one"
            )
        dtype, packed = next(iter(self.kinds))
        if packed not in ("none", "zlib"):
            raise CorruptSource(
                f"{path.name}: {self.what} is compressed with {packed}: msicube reads none and zlib"
            )
        offset, length, encoded = (
            np.frombuffer(c, np.int64) for c in (self.offset, self.length, self.encoded)
        )
        return ArrayColumns(offset, length, encoded, np.dtype(dtype), packed)


class _Builder:
    """Takes elements as they end and keeps what is needed of them."""

    def __init__(self) -> None:
        self.place = "header"
        self._spectra = 0
        self.header = Header()
        self.groups: Groups = {}
        self.x, self.y, self.z = array("q"), array("q"), array("q")
        self.mz, self.intensity = _ArrayBuilder("the m/z array"), _ArrayBuilder("the intensity array")

    def take(self, element: _Element) -> bool:
        """Look at an element that has ended; return whether it can be freed."""
        tag = local_name(element)
        if tag == "spectrum":
            self._spectrum(element)
            return True
        if tag == "referenceableParamGroup":
            self.groups[element.get("id", "")] = [
                param(child) for child in element.iterchildren() if local_name(child) == "cvParam"
            ]
        elif tag in _SECTIONS:
            self.header.sections[tag].extend(Params.of(element, self.groups))
        elif element.getroottree().docinfo.internalDTD is not None:
            raise CorruptSource("the XML has a document type definition, which imzML does not allow")
        return False

    def _spectrum(self, element: _Element) -> None:
        self._spectra += 1
        self.place = f"spectrum {self._spectra} (from 1)"
        own = Params.of(element, self.groups)
        self.header.representation |= own.choose((cv.CENTROID, cv.PROFILE))
        self.header.polarity |= own.choose(cv.POLARITY)
        scan = next((e for e in element.iter() if local_name(e) == "scan"), None)
        if scan is None:
            raise CorruptSource("it has no scan element, which holds the position")
        position = Params.of(scan, self.groups)
        self.x.append(integer(position.value(cv.POSITION_X), "position x (IMS:1000050)"))
        self.y.append(integer(position.value(cv.POSITION_Y), "position y (IMS:1000051)"))
        self.z.append(integer(position.value(cv.POSITION_Z) or "1", "position z (IMS:1000052)"))
        arrays = [Params.of(e, self.groups) for e in element.iter() if local_name(e) == "binaryDataArray"]
        for accession, column in ((cv.MZ_ARRAY, self.mz), (cv.INTENSITY_ARRAY, self.intensity)):
            found = [params for params in arrays if params.get(accession)]
            if len(found) != 1:
                raise CorruptSource(
                    f"it must have one array with the term {accession} ({column.what}), found {len(found)}"
                )
            column.add(found[0])

    def finish(self, path: Path) -> SpectrumIndex:
        if not self.x:
            raise CorruptSource(f"{path.name} holds no spectrum: expected at least one")
        x, y, z = (np.frombuffer(column, np.int64) for column in (self.x, self.y, self.z))
        return SpectrumIndex(x, y, z, self.mz.finish(path), self.intensity.finish(path))
