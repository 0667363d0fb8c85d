"""What one ``spectrum`` element says, as a row of integers, and the table of all rows."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource
from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.params import Groups, Param, Params, compression, data_type, integer, local_name

if TYPE_CHECKING:
    from lxml.etree import _Element

#: A number that the file does not give.
MISSING = -(2**62)

#: NumPy type and compression of a binary array, by the code that stands for them in a row.
KINDS: tuple[tuple[str, str], ...] = tuple(
    (dtype, packed)
    for dtype in dict.fromkeys(cv.DATA_TYPES.values())
    for packed in ("none", *cv.COMPRESSIONS.values())
)
_KIND = {kind: code for code, kind in enumerate(KINDS)}

SECTIONS = ("fileContent", "scanSettings", "instrumentConfiguration", "software")


class SpectrumRow(NamedTuple):
    """One spectrum; every field an integer, MISSING where the file does not give it.

    Attributes
    ----------
    x, y, z
        Position as written.
    level
        MS level; 0 where nothing is said.
    others
        Number of binary arrays beside m/z and intensity.
    mz_offset, mz_length, mz_encoded, mz_kind
        Where the m/z array lies: bytes from the start, number of values, bytes in the file, index into ``KINDS``.
    intensity_offset, intensity_length, intensity_encoded, intensity_kind
        The same of the intensity array.
    """

    x: int = MISSING
    y: int = MISSING
    z: int = MISSING
    level: int = 0
    others: int = 0
    mz_offset: int = MISSING
    mz_length: int = MISSING
    mz_encoded: int = MISSING
    mz_kind: int = 0
    intensity_offset: int = MISSING
    intensity_length: int = MISSING
    intensity_encoded: int = MISSING
    intensity_kind: int = 0


@dataclass
class Header:
    """What the XML says besides the rows; terms of all sections of one name together.

    Attributes
    ----------
    sections
        Terms by section.
    settings
        The ``scanSettings`` one by one: id and terms.
    settings_ref
        The one that an instrument refers to.
    representation, polarity
        Accessions that spectra have.
    contradictions
        Terms whose name is that of another term.
    arrays
        Further binary arrays of spectra.
    positions
        Further positions of spectra.
    declared
        Number of spectra that the list announces; -1 where it does not.
    """

    sections: dict[str, list[Param]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    settings: list[tuple[str, list[Param]]] = field(default_factory=list)
    settings_ref: str = ""
    representation: set[str] = field(default_factory=set)
    polarity: set[str] = field(default_factory=set)
    contradictions: set[str] = field(default_factory=set)
    arrays: set[str] = field(default_factory=set)
    positions: set[str] = field(default_factory=set)
    declared: int = -1

    def value(self, section: str, accession: str) -> str | None:
        """Return the first value of a term in a section."""
        found = (p.value.strip() for p in self.sections[section] if p.accession == accession)
        return next((value for value in found if value), None)

    def has(self, section: str, accession: str) -> bool:
        """Return whether a section has a term."""
        return any(p.accession == accession for p in self.sections[section])

    def check_names(self, params: list[Param]) -> None:
        """Note the terms whose name is that of another term; the accession decides."""
        for param in params:
            known = cv.NAMES.get(param.accession)
            if known is not None and param.name != known and param.name in cv.NAMES.values():
                self.contradictions.add(f"{param.accession} ({known}) is named '{param.name}'")


@dataclass(frozen=True)
class SpectrumTable:
    """The rows of all spectra as columns.

    Attributes
    ----------
    columns
        ``(field, spectrum)`` int64, in the order of :class:`SpectrumRow`.
    faults
        What is wrong with single spectra: message -> their numbers, from 0.
    rounded
        Numbers of the spectra that have an offset of which the last places are not known.
    """

    columns: NDArray[np.int64]
    faults: dict[str, NDArray[np.int64]]
    rounded: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.columns.shape[1])

    def __getitem__(self, name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = self.columns[SpectrumRow._fields.index(name)]
        return column


class TableBuilder:
    """Grows by rows, in bounded steps: whole blocks of columns, and single rows between them."""

    def __init__(self) -> None:
        self.faults: dict[str, array[int]] = {}
        self.rounded = array("q")
        self._blocks: list[NDArray[np.int64]] = []
        self._rows = array("q")
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, row: SpectrumRow) -> None:
        """Append one spectrum."""
        self._rows.extend(row)
        self._length += 1

    def add_block(self, block: NDArray[np.int64]) -> None:
        """Append ``(field, spectrum)`` columns."""
        self._flush()
        self._blocks.append(block)
        self._length += block.shape[1]

    def fault(self, message: str) -> None:
        """Note what is wrong with the spectrum that is added next."""
        self.faults.setdefault(message, array("q")).append(self._length)

    def last_sound_row(self) -> SpectrumRow | None:
        """Return the row that was added last; None where it is not plain: with a fault, or rounded."""
        number = self._length - 1
        marked = any(numbers[-1] == number for numbers in self.faults.values())
        if not self._rows or marked or (self.rounded and self.rounded[-1] == number):
            return None
        return SpectrumRow(*self._rows[-len(SpectrumRow._fields) :])

    def finish(self) -> SpectrumTable:
        """Return the table."""
        self._flush()
        empty = np.zeros((len(SpectrumRow._fields), 0), np.int64)
        faults = {message: np.array(numbers, np.int64) for message, numbers in self.faults.items()}
        return SpectrumTable(
            np.concatenate([empty, *self._blocks], axis=1), faults, np.array(self.rounded, np.int64)
        )

    def _flush(self) -> None:
        if self._rows:
            self._blocks.append(np.array(self._rows, np.int64).reshape(-1, len(SpectrumRow._fields)).T)
            self._rows = array("q")


class RowReader:
    """Turns ``spectrum`` elements into rows; what is said besides goes into a header.

    A value is looked at only through :func:`~msicube.readers.imzml.params.integer`; everything else that decides a row
    is an accession, a name, a reference or the shape of the tree. The fast path rests on this.
    """

    def __init__(self, groups: Groups, header: Header) -> None:
        self.groups = groups
        self.header = header

    def read(self, element: _Element, table: TableBuilder) -> None:
        """Append the row of an element, or its fault."""
        row, rounded = SpectrumRow(), False
        try:
            row = self._position(element, row)
            row, rounded = self._arrays(element, row)
        except CorruptSource as error:
            table.fault(str(error))
        if rounded:
            table.rounded.append(len(table))
        table.add(row)

    def _position(self, element: _Element, row: SpectrumRow) -> SpectrumRow:
        own = Params.of(element, self.groups)
        self.header.check_names(own.own)
        self.header.representation |= own.choose((cv.CENTROID, cv.PROFILE))
        self.header.polarity |= own.choose(cv.POLARITY)
        scan = next((e for e in element.iter() if local_name(e) == "scan"), None)
        if scan is None:
            raise CorruptSource("it has no scan element, which holds the position")
        position = Params.of(scan, self.groups)
        self.header.positions |= {cv.FURTHER_POSITIONS[a] for a in position.choose(cv.FURTHER_POSITIONS)}
        level = own.value(cv.MS_LEVEL)
        z = position.value(cv.POSITION_Z)
        return row._replace(
            x=integer(position.value(cv.POSITION_X), "position x (IMS:1000050)", signed=True).value,
            y=integer(position.value(cv.POSITION_Y), "position y (IMS:1000051)", signed=True).value,
            z=MISSING if z is None else integer(z, "position z (IMS:1000052)", signed=True).value,
            level=integer(level, "the MS level (MS:1000511)").value if level else 2 * _is_msn(own),
        )

    def _arrays(self, element: _Element, row: SpectrumRow) -> tuple[SpectrumRow, bool]:
        arrays = [Params.of(e, self.groups) for e in element.iter() if local_name(e) == "binaryDataArray"]
        mz, mz_rounded = _array(arrays, cv.MZ_ARRAY, "the m/z array")
        intensity, rounded = _array(arrays, cv.INTENSITY_ARRAY, "the intensity array")
        for params in arrays:
            self.header.check_names(params.own)
            if not params.choose((cv.MZ_ARRAY, cv.INTENSITY_ARRAY)):
                self.header.arrays.add(_array_name(params))
        values = (*row[:4], len(arrays) - 2, *mz, *intensity)
        return SpectrumRow(*values), mz_rounded or rounded


def _is_msn(params: Params) -> bool:
    return params.get(cv.MSN_SPECTRUM) is not None


def _array(arrays: list[Params], accession: str, what: str) -> tuple[tuple[int, int, int, int], bool]:
    """Return offset, length, encoded length and kind of one array of a spectrum, and whether the offset is rounded."""
    found = [params for params in arrays if params.get(accession)]
    if len(found) != 1:
        raise CorruptSource(f"it must have one array with the term {accession} ({what}), found {len(found)}")
    params = found[0]
    dtype, packed = data_type(params, what), compression(params, what)
    encoded = params.value(cv.EXTERNAL_ENCODED_LENGTH)
    if encoded is None and packed != "none":
        raise CorruptSource(f"{what} is compressed and has no external encoded length (IMS:1000104)")
    offset = integer(params.value(cv.EXTERNAL_OFFSET), f"the external offset of {what}", signed=True)
    length = integer(params.value(cv.EXTERNAL_LENGTH), f"the external array length of {what}")
    # An uncompressed array says its size twice, and only the number of values is needed.
    size = MISSING
    if encoded is not None:
        size = integer(encoded, f"the encoded length of {what}", signed=packed == "none").value
    if length.rounded:
        raise CorruptSource(f"the external array length of {what} is rounded to {length.value}")
    return (offset.value, length.value, size, _KIND[dtype, packed]), offset.rounded


def _array_name(params: Params) -> str:
    """Return how a further array is called: its first term that is neither a type, a size nor a compression."""
    known = {
        *cv.DATA_TYPES, *cv.COMPRESSIONS, cv.NO_COMPRESSION, "IMS:1000101",
        cv.EXTERNAL_OFFSET, cv.EXTERNAL_LENGTH, cv.EXTERNAL_ENCODED_LENGTH,
    }  # fmt: skip
    term = next((p for p in params if p.accession not in known), None)
    return f"{term.accession} {term.name}" if term else "an array without a name"
