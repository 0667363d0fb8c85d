"""From the rows of the XML to an index that can be trusted: every contradiction between them is found here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml import vocabulary as cv
from msicube.readers.imzml.faults import FaultLog
from msicube.readers.imzml.index import ArrayColumns, SpectrumIndex
from msicube.readers.imzml.rows import MISSING, Header, SpectrumTable

#: Offsets that a writer kept in 32 bits come back modulo this.
WRAP = 2**32
UUID_BYTES = 16


@dataclass(frozen=True)
class _Arrays:
    """Both arrays of every spectrum."""

    mz: ArrayColumns
    intensity: ArrayColumns

    def both(self) -> tuple[tuple[str, ArrayColumns], ...]:
        return ("m/z", self.mz), ("intensity", self.intensity)


def resolve(table: SpectrumTable, header: Header, ibd_bytes: int, faults: FaultLog) -> SpectrumIndex:
    """Return the index; spectra that are wrong or set aside go into ``faults``.

    Parameters
    ----------
    table, header
        What the XML says.
    ibd_bytes
        Size of the .ibd.
    faults
        Takes what is found.
    """
    for message, numbers in table.faults.items():
        faults.fault(message, numbers)
    _set_levels_aside(table, faults)
    arrays = _Arrays(
        *(
            ArrayColumns.of(*(table[f"{name}_{part}"] for part in ("offset", "length", "encoded", "kind")))
            for name in ("mz", "intensity")
        )
    )
    arrays = _unwrap(arrays, ibd_bytes, faults)
    _check_lengths(arrays, faults)
    has_uuid = header.value("fileContent", cv.UUID) is not None
    _check_extents(arrays, UUID_BYTES if has_uuid else 0, ibd_bytes, faults)
    _check_rounded(arrays, table, faults)
    _check_types(arrays, faults)
    _remark_sizes(table, arrays, faults)
    if header.arrays:
        count = int((table["others"][faults.valid] > 0).sum())
        faults.remarks.append(
            f"{count} spectra have further arrays ({', '.join(sorted(header.arrays))}): they are not stored, peaks of "
            f"one m/z are summed over them"
        )
    return SpectrumIndex(
        table["x"], table["y"], _planes(table, faults), arrays.mz, arrays.intensity, faults.valid
    )


def _set_levels_aside(table: SpectrumTable, faults: FaultLog) -> None:
    """Keep the lowest MS level that occurs; 0, 1 and nothing are MS1."""
    level = np.maximum(table["level"], 1)
    if faults.valid.any():
        lowest = int(level[faults.valid].min())
        faults.set_aside(f"an MS level above {lowest}, the level of the image", level > lowest)


def _unwrap(arrays: _Arrays, ibd_bytes: int, faults: FaultLog) -> _Arrays:
    """Undo the wraparound of offsets that were written as signed 32-bit numbers."""
    negative = (arrays.mz.offset < 0) | (arrays.intensity.offset < 0)
    negative &= faults.valid
    if not negative.any():
        return arrays
    count = int(negative.sum())
    order = np.flatnonzero(faults.valid)
    offsets = np.stack([arrays.mz.offset, arrays.intensity.offset], axis=1)
    lengths = np.stack([arrays.mz.encoded, arrays.intensity.encoded], axis=1)
    plausible = ((offsets >= -(WRAP // 2)) & (offsets < WRAP // 2)).all(axis=1) | ~negative
    faults.fault("a negative offset beyond 32 bits", ~plausible & faults.valid)
    unwrapped = offsets.copy()
    if ibd_bytes <= WRAP:
        unwrapped[order] = offsets[order] % WRAP
    else:
        unwrapped[order] = _unwrap_in_order(offsets[order])
    outside = (unwrapped + lengths > ibd_bytes).any(axis=1) & negative
    faults.fault("a negative offset that no multiple of 2**32 brings into the .ibd", outside & faults.valid)
    faults.remarks.append(
        f"{count} spectra have negative offsets, 32-bit numbers that ran over: read at the offset plus a multiple of "
        f"2**32"
    )
    mz, intensity = arrays.mz, arrays.intensity
    return _Arrays(
        ArrayColumns(unwrapped[:, 0], mz.length, mz.encoded, mz.kind),
        ArrayColumns(unwrapped[:, 1], intensity.length, intensity.encoded, intensity.kind),
    )


def _unwrap_in_order(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unwrap ``(spectrum, array)`` offsets of arrays that were written one after another.

    An m/z axis that all spectra share stays where it is. A wrong guess makes arrays overlap, which is found later.
    """
    low = offsets % WRAP
    columns = [0, 1] if len(np.unique(offsets[:, 0])) > 1 else [1]
    sequence = low[:, columns].ravel()
    turns = np.cumsum(np.diff(sequence, prepend=sequence[:1]) < 0)
    low[:, columns] += (turns * WRAP).reshape(-1, len(columns))
    return low


def _check_lengths(arrays: _Arrays, faults: FaultLog) -> None:
    """Find peaks without a partner; an empty intensity array is an empty spectrum."""
    differ = (arrays.mz.length != arrays.intensity.length) & (arrays.intensity.length > 0) & faults.valid
    if differ.any():
        first = np.flatnonzero(differ)[0]
        faults.fault(
            f"its arrays differ in length (number {first}: {arrays.mz.length[first]} m/z values, "
            f"{arrays.intensity.length[first]} intensities)",
            differ,
        )
    empty = (arrays.intensity.length == 0) & (arrays.mz.length > 0) & faults.valid
    if empty.any():
        faults.remarks.append(f"{int(empty.sum())} spectra have m/z values and no intensities: empty spectra")


def _check_extents(arrays: _Arrays, first_byte: int, ibd_bytes: int, faults: FaultLog) -> None:
    """Every array lies inside the .ibd, behind its UUID, and shares no byte with another one."""
    for name, columns in arrays.both():
        filled = columns.length > 0
        faults.fault(
            f"its {name} array ends past the {ibd_bytes} bytes of the .ibd, which is truncated or of another file",
            filled & (columns.end > ibd_bytes) & faults.valid,
        )
        faults.fault(
            f"its {name} array begins before byte {first_byte} of the .ibd, inside the UUID",
            filled & (columns.offset < first_byte) & faults.valid,
        )
    faults.fault(
        "its arrays overlap those of another spectrum or each other", _overlapping(arrays, faults.valid)
    )


def _overlapping(arrays: _Arrays, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which spectra have an array that shares bytes with another array.

    m/z arrays that are the very same for several spectra are shared on purpose; what overlaps such an axis is wrong,
    not the axis.
    """
    found = np.zeros(len(valid), bool)
    rows = np.flatnonzero(valid)
    mz, intensity = arrays.mz.take(rows), arrays.intensity.take(rows)
    axes, owner, uses = _distinct(mz.offset, mz.end)
    starts = np.concatenate([axes[0], intensity.offset])
    ends = np.concatenate([axes[1], intensity.end])
    clash = _clashing(starts, ends)
    # Between axes, the one that most spectra share is right; between an axis and intensities, a shared axis is.
    rare = (uses < uses.max(initial=0)) | (uses == uses.min(initial=np.iinfo(np.int64).max))
    wrong = (clash[: len(uses)] & (uses == 1)) | (_clashing(*axes) & rare)
    found[rows] = wrong[owner] | clash[len(uses) :]
    return found


def _distinct(
    starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.intp], NDArray[np.int64]]:
    """Return the distinct ranges, which of them each range is, and how often each occurs."""
    order = np.lexsort((ends, starts))
    first, last = starts[order], ends[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(last) != 0)
    number = np.cumsum(new) - 1
    owner = np.empty(len(order), np.intp)
    owner[order] = number
    return (first[new], last[new]), owner, np.bincount(number).astype(np.int64)


def _clashing(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which half-open ranges share a byte with another one; an empty range shares none."""
    filled = np.flatnonzero(ends > starts)
    order = filled[np.argsort(starts[filled], kind="stable")]
    first, last = starts[order], ends[order]
    clash = np.zeros(len(starts), bool)
    if len(order) > 1:
        clash[order[1:]] |= first[1:] < np.maximum.accumulate(last)[:-1]
        clash[order[:-1]] |= first[1:] < last[:-1]
    return clash


def _check_rounded(arrays: _Arrays, table: SpectrumTable, faults: FaultLog) -> None:
    """Believe a rounded offset where one array ends exactly there, or the first one begins."""
    numbers = table.rounded[faults.valid[table.rounded]]
    if not len(numbers):
        return
    rows = np.flatnonzero(faults.valid)
    ends = np.concatenate([[UUID_BYTES], arrays.mz.end[rows], arrays.intensity.end[rows]])
    known = np.isin(arrays.mz.offset[numbers], ends) & np.isin(arrays.intensity.offset[numbers], ends)
    faults.fault(
        "an offset in scientific notation with too few digits to tell where the array begins", numbers[~known]
    )
    if known.any():
        faults.remarks.append(
            f"{int(known.sum())} spectra have offsets in scientific notation: exact, another array ends there"
        )


def _check_types(arrays: _Arrays, faults: FaultLog) -> None:
    """Types may change between spectra where one type holds all values: 64-bit integers and floats have none."""
    for name, columns in arrays.both():
        valid = columns.take(faults.valid)
        if not len(valid.kind):
            continue
        types = {dtype for dtype, _ in valid.kinds}
        if len(types) < 2:
            continue
        if np.dtype(np.int64) in types and any(dtype.kind == "f" for dtype in types):
            wide = np.array([columns.form(n)[0] == np.int64 for n in range(len(columns.kind))])
            faults.fault(f"its {name} array is of 64-bit integers among floats: no type holds both", wide)
        else:
            names = ", ".join(sorted(dtype.name for dtype in types))
            faults.remarks.append(
                f"the {name} arrays are of several types ({names}): read as {valid.dtype.name}"
            )


def _remark_sizes(table: SpectrumTable, arrays: _Arrays, faults: FaultLog) -> None:
    for name, columns in (("mz", arrays.mz), ("intensity", arrays.intensity)):
        declared = table[f"{name}_encoded"]
        differ = faults.valid & (declared != MISSING) & (declared != columns.encoded)
        if differ.any():
            faults.remarks.append(
                f"{int(differ.sum())} {name} arrays have an encoded length that is not their number of values times "
                f"the size of one: the number of values decides"
            )


def _planes(table: SpectrumTable, faults: FaultLog) -> NDArray[np.int64]:
    """Return z of every spectrum; where it is missing, the plane of all others, else 1."""
    z = table["z"]
    missing = (z == MISSING) & faults.valid
    if not missing.any():
        return z
    given = np.unique(z[faults.valid & ~missing])
    plane = int(given[0]) if len(given) == 1 else 1
    if len(given):
        faults.remarks.append(f"{int(missing.sum())} spectra have no position z: taken for z = {plane}")
    return np.where(missing, plane, z)
