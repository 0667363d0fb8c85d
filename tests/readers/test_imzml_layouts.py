"""What a layout reads is what its template matches, byte for byte; and how many spectra are tried at once."""

from __future__ import annotations

import numpy as np
import pytest
from imzml_scans import spectrum
from lxml import etree

from msicube.readers.imzml import matcher
from msicube.readers.imzml.layouts import Layout
from msicube.readers.imzml.matcher import Pace
from msicube.readers.imzml.rows import Header, RowReader, SpectrumRow, TableBuilder
from msicube.readers.imzml.template import Template


def parse(text: bytes) -> SpectrumRow | None:
    table = TableBuilder()
    RowReader({}, Header()).read(etree.fromstring(text), table)
    return table.last_sound_row()


@pytest.fixture
def template() -> Template:
    text = reference_text()
    row = parse(text)
    assert row is not None
    found = Template.learn(text, row, parse)
    assert found is not None
    return found


def reference_text(current: str = "-12.5e+3;ab?~!#", offset: int = 12_345_678_901_234_567) -> bytes:
    """Return a spectrum with a number of 17 digits, and plain text of all ranges."""
    intensity = b'<cvParam accession="MS:1000515"/><cvParam accession="MS:1000521"/>'
    text = spectrum(123, x=45, offset=offset, current=current).strip()
    return text.replace(b'<referenceableParamGroupRef ref="intensity"/>', intensity)


def test_a_layout_takes_no_byte_that_its_template_does_not(template: Template) -> None:
    """All values of all bytes: what a layout reads is what the template matches, with the same numbers."""
    text = b" \n" + reference_text()
    layout = Layout.of(template, text)
    spans = template.spans(text)
    taken = 0
    for column in range(len(text)):
        texts = np.repeat(np.frombuffer(text, np.uint8)[None], 256, axis=0)
        texts[:, column] = range(256)
        fits, values = layout.read(texts)
        assert fits[text[column]]
        taken += len(values) - 1
        for row, numbers in zip(texts[fits], values, strict=True):
            found = template.match(row.tobytes(), 0)
            assert found is not None
            assert found.end() == len(text)
            assert template.spans(row.tobytes()) == spans
            assert numbers.tolist() == [int(number) for number in found.groups()]
    holes = sum(stop - start for start, stop in spans)
    assert taken > 9 * holes


def test_a_layout_reads_every_number_of_its_widths(template: Template) -> None:
    rng = np.random.default_rng(0)
    text = reference_text()
    texts = np.repeat(np.frombuffer(text, np.uint8)[None], 500, axis=0)
    layout = Layout.of(template, text)
    texts[:, layout.digits] = rng.integers(48, 58, (500, len(layout.digits)))
    texts[0, layout.digits], texts[1, layout.digits] = ord("9"), ord("0")
    fits, values = layout.read(texts)
    assert fits.all()
    assert values.max() == 10**17 - 1
    groups = [found.groups() for row in texts if (found := template.match(row.tobytes(), 0))]
    np.testing.assert_array_equal(values, [[int(number) for number in numbers] for numbers in groups])
    np.testing.assert_array_equal(values, template.values(groups))


def test_a_template_tells_where_its_holes_are(template: Template) -> None:
    text = b"\r\n\t " + reference_text(current="", offset=7)
    found = template.match(text, 0)
    assert found is not None
    said = [text[start:stop] for start, stop in template.spans(text)]
    assert said == [b"Scan=123", b"123", b"1", b"", b"45", b"3", b"0", b"16", b"512", b"0", b"7", b"512"]
    assert tuple(said[hole] for hole in template.numbers) == found.groups()


def test_the_pace_grows_with_what_matches_and_waits_where_layouts_are_of_no_use() -> None:
    pace = Pace()
    first = pace.together
    pace.tried(first, first, first)
    assert (pace.together, pace.singly) == (2 * first, 0)
    pace.tried(2 * first, 2 * first, 0)
    assert pace.singly >= 2 * first
    waited = pace.singly
    pace.tried(first, first - 1, 0)
    assert pace.singly >= waited
    assert pace.together == first
    pace.tried(first, first - 1, first - 1)
    assert (pace.together, pace.singly) == (first, 1)
    for _ in range(100):
        pace.tried(pace.together, pace.together, 0)
    assert pace.together == matcher.MOST
    assert pace.singly < 100 * matcher.MOST
