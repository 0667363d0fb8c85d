"""Many spectra read at once: each is what its text says, and an odd one in their midst is what the XML path says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imzml_scans import HEAD, TAIL, assert_same, outcome, run_of, spectrum, tuned

from msicube.readers.imzml import layouts, matcher
from msicube.readers.imzml.layouts import Layout
from msicube.readers.imzml.scan import scan
from msicube.readers.imzml.template import Template
from msicube.simulate import simulate_msi

#: What can be wrong, or only other, with one spectrum of a run: a pattern, and what stands in its place.
CHANGES: dict[str, tuple[bytes, bytes]] = {
    "a letter for a digit": (rb'(position x" value="\d)\d', rb"\1x"),
    "a colon, which follows the digits": (rb'(position x" value="\d)\d', rb"\1:"),
    "a slash, which precedes the digits": (rb'(position x" value="\d)\d', rb"\1/"),
    "a quote for a digit": (rb'(position x" value="\d)\d', rb'\1"'),
    "a letter in a number that is not read": (rb'(current" value="\d)\.', rb"\1e"),
    "another digit in a number that is not read": (rb'(current" value=")\d', rb"\g<1>9"),
    "a character of two bytes": (b"Scan", "S\u00e9n".encode()),
    "no character": (b"Scan", b"Sc\xffn"),
    "a zero byte": (b"Scan", b"Sc\0n"),
    "an entity": (b"Scan", b"&lt;"),
    "an unknown entity": (b"Scan", b"&ab;"),
    "an opening bracket": (b"Scan", b"Sc<n"),
    "a closing bracket": (b"Scan", b"Sc>n"),
    "a line end in a value": (b"Scan", b"Sc\nn"),
    "a single quote in a value": (b"Scan", b"Sc'n"),
    "another accession": (b"IMS:1000050", b"IMS:1000059"),
    "another array": (b"MS:1000514", b"MS:1000513"),
    "another type": (b"MS:1000523", b"MS:1000521"),
    "another name": (b"position x", b"position y"),
    "another element": (b"<scan>", b"<scam>"),
    "another attribute": (rb"(position x\") value", rb"\1 valve"),
    "no value": (rb'(position x") value="\d+"', rb"\1"),
    "no index": (rb' index="\d+"', b""),
    "no position": (rb'<cvParam accession="IMS:1000050"[^>]*>', b""),
    "another group": (b'ref="intensity"', b'ref="intensitx"'),
    "a comment inside": (b"<scanList>", b"<!-- x --><scanList>"),
    "a comment before": (rb"\A", b"<!-- </spectrum> -->"),
    "an instruction before": (rb"\A", b"<?x </spectrum>?>"),
    "text before": (rb"\A", b"text"),
    "white space before": (rb"\A", b"\n \t\r\n"),
    "a tab for a space": (b" index", b"\tindex"),
    "two spaces": (b" index", b"  index"),
    "a carriage return": (b"\n<scanList>", b"\r\n<scanList>"),
    "a carriage return for a line end": (b"\n<scanList>", b"\r<scanList>"),
    "single quotes": (rb'index="(\d+)"', rb"index='\1'"),
    "unequal quotes": (rb'index="(\d+)"', rb"""index='\1\""""),
    "a wider number": (rb'(position x" value=")\d+', rb"\g<1>1234"),
    "a narrower number": (rb'(position x" value=")\d+', rb"\g<1>7"),
    "leading zeros": (rb'(position x" value=")\d+', rb"\g<1>00"),
    "17 digits": (rb'(position x" value=")\d+', rb"\g<1>" + b"9" * 17),
    "18 digits": (rb'(position x" value=")\d+', rb"\g<1>" + b"9" * 18),
    "19 digits": (rb'(position x" value=")\d+', rb"\g<1>" + b"9" * 19),
    "a sign": (rb'(position x" value=")\d+', rb"\g<1>-5"),
    "an exponent": (rb'(offset" value="1)\d+', rb"\g<1>e5"),
    "a negative offset": (rb'(offset" value=")\d(\d{5})', rb"\1-\2"),
    "a space in a number": (rb'(position x" value=")\d+', rb"\g<1> 7"),
    "nothing": (rb'(position x" value=")\d+', rb"\1"),
    "a space in the end": (b"</spectrum>", b"</spectrum >"),
    "no end": (b"</spectrum>", b""),
    "another end": (b"</spectrum>", b"</spectrun>"),
    "two ends": (b"</spectrum>", b"</spectrum></spectrum>"),
    "an empty one": (rb"(?s)<spectrum.*</spectrum>", b"<spectrum/>"),
    "a list that ends": (rb"\A", b"</spectrumList><spectrumList>"),
}


def changed(text: bytes, name: str) -> bytes:
    pattern, new = CHANGES[name]
    return re.sub(pattern, new, text, count=1)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the spectra that layouts read."""
    count = [0]
    read = Layout.read

    def counted(self: Layout, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fits, values = read(self, texts)
        count[0] += len(values)
        return fits, values

    monkeypatch.setattr(Layout, "read", counted)
    return count


@pytest.mark.parametrize("name", CHANGES)
def test_an_odd_spectrum_in_a_run_is_what_the_xml_path_says(
    name: str, tmp_path: Path, at_once: list[int]
) -> None:
    path = tmp_path / "odd.imzML"
    spectra = run_of(120)
    plain, spectra[70] = spectra[70], changed(spectra[70], name)
    assert spectra[70] != plain
    path.write_bytes(HEAD + b"".join(spectra) + TAIL)
    reference = outcome(path, fast=False)
    for block in (2**20, 5000):
        with tuned(block=block, few=4, start=32):
            at_once[0] = 0
            assert_same(outcome(path, fast=True), reference)
            assert at_once[0] > 30


#: Second shapes, of which every so many spectra are.
SHAPES: dict[str, tuple[bytes, bytes]] = {
    "one": (b"", b""),
    "another end": (b"</spectrum>", b"</spectrum >"),
    "a longer end": (b"</spectrum>", b"</spectrum\n\n>"),
    "one term more": (b"<scanList>", b'<userParam name="a" value="7"/><scanList>'),
    "a short one": (b'<userParam name="long" value="' + b"x" * 900 + b'"/>', b""),
}


def of_shapes(spectra: list[bytes], name: str, every: int) -> list[bytes]:
    long = b'<userParam name="long" value="' + b"x" * 900 + b'"/><scanList>'
    if name == "a short one":
        spectra = [text.replace(b"<scanList>", long) for text in spectra]
    return [text if n % every else text.replace(*SHAPES[name]) for n, text in enumerate(spectra)]


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_take_turns_are_told_apart(name: str, every: int, tmp_path: Path) -> None:
    path = tmp_path / "shapes.imzML"
    path.write_bytes(HEAD + b"".join(of_shapes(run_of(400), name, every)) + TAIL)
    reference = outcome(path, fast=False)
    for few in (1, 4):
        with tuned(few=few, start=32):
            assert_same(outcome(path, fast=True), reference)


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """A file of long runs in which numbers grow, with an odd spectrum here and there."""
    random = draw(st.randoms(use_true_random=False))
    number = draw(st.sampled_from([0, 90, 985]))
    width = draw(st.sampled_from([5, 20, 300]))
    offset = draw(st.sampled_from([16, 9_000, 10**15 - 10**4, 10**16 - 10**4, 10**17 - 10**4]))
    digits = draw(st.sampled_from([0, 3, 12]))
    step = draw(st.sampled_from([8, 2048]))
    rate = draw(st.sampled_from([0, 0, 0.01, 0.05]))
    between = draw(st.sampled_from([b"", b"", b"\n  ", b"\r\n"]))
    spectra = []
    for place in range(draw(st.integers(20, 160))):
        text = spectrum(
            number + place,
            x=place % width + 1,
            offset=offset,
            current=_current(random, digits),
            length=random.choice([512, 512, 512, 99, 1000]),
        )
        if random.random() < rate:
            text = changed(text, random.choice([*CHANGES]))
        spectra.append(text)
        offset += step
    shape, every = draw(st.sampled_from([*SHAPES])), draw(st.integers(1, 5))
    text = between.join(of_shapes(spectra, shape, every))
    if draw(st.booleans()):
        text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return HEAD + text + TAIL


def _current(random: Random, digits: int) -> str:
    """Return a number as it is written: with as many digits as it needs."""
    return repr(round(random.uniform(0, 2000), digits))


@given(
    data=runs(),
    block=st.sampled_from([700, 5000, 33_333, 2**20]),
    few=st.sampled_from([1, 2, 16]),
    start=st.sampled_from([2, 30, 256]),
    on_trust=st.sampled_from([0, 1, 16]),
    lengths=st.sampled_from([1, 128]),
    damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=2),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_agree_on_runs(
    data: bytes,
    block: int,
    few: int,
    start: int,
    on_trust: int,
    lengths: int,
    damage: list[tuple[int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    damaged = bytearray(data)
    for place, byte in damage:
        damaged[place % len(damaged)] = byte
    path = tmp_path_factory.getbasetemp() / "runs.imzML"
    path.write_bytes(damaged)
    with tuned(block=block, few=few, start=start, on_trust=on_trust, lengths=lengths):
        fast = outcome(path, fast=True)
    assert_same(fast, outcome(path, fast=False))


def test_ordinary_files_are_read_at_once(tmp_path: Path, at_once: list[int], shared_data: Path) -> None:
    path = simulate_msi(tmp_path / "s", slides=1, shape=(60, 60), channels=5).slides[0].path
    spectra = len(scan(path)[1])
    assert at_once[0] > 0.8 * spectra
    at_once[0] = 0
    assert len(scan(shared_data / "imzml/galaxy/spatial_DGMM_input.imzML")[1]) == 400
    assert at_once[0] > 200


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Collects the texts of which layouts are made."""
    texts: list[bytes] = []
    learn = Layout.of

    def noted(template: Template, text: bytes) -> Layout:
        texts.append(text)
        return learn(template, text)

    monkeypatch.setattr(Layout, "of", noted)
    return texts


def ragged(count: int) -> list[bytes]:
    """Return spectra of which hardly two have the same widths."""
    rng = np.random.default_rng(0)
    return [
        spectrum(
            n,
            x=int(10 ** rng.uniform(0, 9)),
            offset=int(10 ** rng.uniform(0, 17)),
            current="1" * int(rng.integers(0, 90)),
        )
        for n in range(count)
    ]


def test_a_layout_serves_all_blocks(tmp_path: Path, at_once: list[int], learned: list[bytes]) -> None:
    path = tmp_path / "run.imzML"
    path.write_bytes(HEAD + b"".join(run_of(400)) + TAIL)
    with tuned(block=50_000):
        assert len(scan(path)[1]) == 400
    assert at_once[0] > 300
    assert len(learned) == 1


def test_widths_that_vary_too_much_are_left_to_the_templates(
    tmp_path: Path, at_once: list[int], learned: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ragged.imzML"
    path.write_bytes(HEAD + b"".join(ragged(3000)) + TAIL)
    tried = []
    together: Callable[..., object] = matcher.Matcher._together

    def counted(self: matcher.Matcher, text: bytes, edges: list[int]) -> object:
        tried.append(len(edges) - 1)
        return together(self, text, edges)

    monkeypatch.setattr(matcher.Matcher, "_together", counted)
    reference = outcome(path, fast=False)
    assert_same(outcome(path, fast=True), reference)
    assert 0 < sum(tried) < 1000
    assert at_once[0] < 300
    at_once[0] = 0
    learned.clear()
    with tuned(few=1):
        assert_same(outcome(path, fast=True), reference)
    assert 0 < len(learned) <= layouts.ON_TRUST + at_once[0] / layouts.PRICE


def test_widths_that_cease_to_vary_are_read_at_once_again(tmp_path: Path, at_once: list[int]) -> None:
    path = tmp_path / "both.imzML"
    path.write_bytes(HEAD + b"".join(ragged(600) + run_of(6000)) + TAIL)
    assert len(scan(path)[1]) == 6600
    assert at_once[0] > 3000
