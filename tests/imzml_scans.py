"""Small imzML texts, and scans of them by the fast path and by the XML path, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from msicube.errors import CorruptSource
from msicube.readers.imzml import layouts, matcher, quick
from msicube.readers.imzml.rows import Header, SpectrumTable
from msicube.readers.imzml.scan import scan

Result = tuple[Header, SpectrumTable] | str


def outcome(path: Path, *, fast: bool) -> Result:
    try:
        return scan(path, quick=fast)
    except CorruptSource as error:
        return str(error)


def assert_same(fast: Result, reference: Result) -> None:
    if isinstance(reference, str) or isinstance(fast, str):
        assert fast == reference
        return
    assert fast[0] == reference[0]
    np.testing.assert_array_equal(fast[1].columns, reference[1].columns)
    assert fast[1].faults.keys() == reference[1].faults.keys()
    for message, numbers in reference[1].faults.items():
        np.testing.assert_array_equal(fast[1].faults[message], numbers)
    np.testing.assert_array_equal(fast[1].rounded, reference[1].rounded)


@contextmanager
def tuned(
    *,
    block: int = quick.BLOCK,
    few: int = layouts.FEW,
    start: int = matcher.START,
    on_trust: int = layouts.ON_TRUST,
    lengths: int = layouts.MAX_LENGTHS,
) -> Iterator[None]:
    """Set how much is read at once, and what is worth a layout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "BLOCK", block)
        patch.setattr(layouts, "FEW", few)
        patch.setattr(matcher, "FEW", few)
        patch.setattr(matcher, "START", start)
        patch.setattr(layouts, "ON_TRUST", on_trust)
        patch.setattr(layouts, "MAX_LENGTHS", lengths)
        yield


HEAD = b"""<?xml version="1.0" encoding="UTF-8"?>
<mzML><fileDescription/><referenceableParamGroup id="intensity"><cvParam accession="MS:1000515"/>
<cvParam accession="MS:1000521"/></referenceableParamGroup><run><spectrumList count="9">
"""
TAIL = b"\n</spectrumList></run></mzML>\n"


def spectrum(number: int, *, x: int, offset: int, current: str = "1.25", length: int = 512) -> bytes:
    """Return a spectrum with numbers of all kinds: that fields look at, and that they do not."""
    return f"""<spectrum id="Scan={number}" index="{number}">
<cvParam accession="MS:1000511" name="ms level" value="1"/>
<cvParam accession="MS:1000285" name="total ion current" value="{current}"/>
<scanList><scan><cvParam accession="IMS:1000050" name="position x" value="{x}"/>
<cvParam accession="IMS:1000051" name="position y" value="{number // 60 + 1}"/></scan></scanList>
<binaryDataArray encodedLength="0"><cvParam accession="MS:1000514" name="m/z array"/>
<cvParam accession="MS:1000523" name="64-bit float"/>
<cvParam accession="IMS:1000102" name="external offset" value="16"/>
<cvParam accession="IMS:1000103" name="external array length" value="{length}"/></binaryDataArray>
<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="intensity"/>
<cvParam accession="IMS:1000102" name="external offset" value="{offset}"/>
<cvParam accession="IMS:1000103" name="external array length" value="{length}"/></binaryDataArray></spectrum>
""".encode()


def run_of(count: int) -> list[bytes]:
    """Return spectra of the same widths."""
    return [spectrum(1000 + n, x=10 + n % 60, offset=100_000 + 2048 * n) for n in range(count)]
