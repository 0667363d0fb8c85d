"""Damaged pairs: an error or correct numbers, never silent garbage, a crash or a hang."""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from imzml_files import Pair, continuous, processed

from msicube.axis import AxisLaw
from msicube.errors import CorruptSource, MSICubeError
from msicube.readers import CubeReader, open_sources
from msicube.tiling import Window

ROUNDS = 250
PAIRS = {
    "continuous": continuous(),
    "processed": processed(),
    "packed": processed(packed="zlib"),
    "latin1": continuous(encoding="ISO-8859-1", checksums=("sha256",)),
}


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Fail where something takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with some of them flipped, left out, doubled, exchanged or made up."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        a, b = sorted(rng.integers(0, len(out) + 1, 2).tolist())
        b = min(b, a + int(rng.integers(1, 60)))
        match rng.integers(0, 7):
            case 0 if a < len(out):
                out[a] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del out[a:b]
            case 2:
                out[a:a] = out[a:b]
            case 3 if rng.random() < 0.2:
                del out[a:]
            case 4:
                out[a:b] = rng.bytes(b - a)
            case 5:
                swap_digits(out, rng)
            case _:
                c = int(rng.integers(0, len(out) + 1))
                out[a:b], out[c : c + b - a] = out[c : c + b - a], out[a:b]
        if not out:
            out.extend(b"x")
    return bytes(out)


def swap_digits(out: bytearray, rng: np.random.Generator) -> None:
    """Change one number of the XML: this is what still parses."""
    values = list(re.finditer(rb'value="(-?\d+)"', bytes(out)))
    if values:
        start, end = values[rng.integers(0, len(values))].span(1)
        choices = [b"0", b"-1", b"4", b"1e3", b"99999999999999999999", b"4294967312", b"", b"16", b"nan"]
        out[start:end] = choices[rng.integers(0, len(choices))]


def read_all(reader: CubeReader) -> None:
    if reader.info.axis is None:
        survey = reader.survey()
        if survey is None or not survey.highest < 1e4:
            return
        reader = reader.with_axis(AxisLaw.parse("da:1").bins(survey.lowest, survey.highest), "da:1")
    ny, nx = reader.info.shape
    if ny * nx < 10_000:
        reader.read_tile(Window(0, ny, 0, nx))


def oracle(path: Path) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] | None:
    """Return what pyimzML reads of a damaged pair; None where it gives up."""
    from pyimzml.ImzMLParser import ImzMLParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with ImzMLParser(str(path)) as parser:
                return {xy[:2]: parser.getspectrum(i) for i, xy in enumerate(parser.coordinates)}
        except Exception:
            return None


def assert_equal_to_oracle(path: Path, reader: CubeReader) -> bool:
    expected = oracle(path)
    if expected is None or len(expected) < 1:
        return False
    info, index = reader.info, reader.index  # type: ignore[attr-defined]
    y0, x0 = info.source["origin"]["y"], info.source["origin"]["x"]
    with reader.open_ibd() as ibd:  # type: ignore[attr-defined]
        for y, x in np.argwhere(info.acquired):
            number = int(info.spectrum_index[y, x])
            mz, intensity = expected[x + x0, y + y0]
            for columns, values in ((index.mz, mz), (index.intensity, intensity)):
                assert ibd.array(columns, number).tobytes() == values.tobytes()
    return True


@pytest.mark.parametrize("name", PAIRS)
def test_damaged_xml(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(name))
    path = PAIRS[name].write(tmp_path, "f")
    xml = path.read_bytes()
    opened = compared = 0
    with limited(120):
        for _ in range(ROUNDS):
            path.write_bytes(damage(xml, rng))
            for on_error in ("stop", "report"):
                try:
                    readers = open_sources(path, on_error=on_error)
                    for reader in readers:
                        read_all(reader)
                except MSICubeError:
                    continue
                opened += 1
                if on_error == "stop" and name != "packed" and len(readers) == 1:
                    compared += assert_equal_to_oracle(path, readers[0])
    assert opened > ROUNDS // 20
    assert name == "packed" or compared > ROUNDS // 50


@pytest.mark.parametrize("name", PAIRS)
def test_damaged_ibd(name: str, tmp_path: Path) -> None:
    """A declared checksum finds every change; without one, nothing but clear errors and bounded reads."""
    rng = np.random.default_rng(100 + len(name))
    pair: Pair = PAIRS[name]
    path = pair.write(tmp_path, "f")
    bare = pair.but(checksums=()).write(tmp_path, "bare")
    data = path.with_suffix(".ibd").read_bytes()
    with limited(120):
        for _ in range(ROUNDS):
            changed = damage(data, rng)
            path.with_suffix(".ibd").write_bytes(changed)
            bare.with_suffix(".ibd").write_bytes(changed)
            if changed != data:
                with pytest.raises(CorruptSource):
                    open_sources(path)[0].verify()
            for on_error in ("stop", "report"):
                with suppress(MSICubeError):
                    for reader in open_sources(bare, on_error=on_error):
                        read_all(reader)


def test_expanding_entities_are_never_expanded(tmp_path: Path) -> None:
    """A billion laughs, in an attribute of the root: refused, in no time and no memory."""
    path = continuous().write(tmp_path, "f")
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE mzML [<!ENTITY a0 "ha">{entities}]><mzML x="&a11;" '
    path.write_text(path.read_text().replace("<mzML ", bomb))
    with limited(10), pytest.raises(CorruptSource, match=r"document type definition|not well-formed"):
        open_sources(path)
