"""Damaged pairs: an error or correct numbers, never silent garbage, a crash or a hang."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from damage import damage, limited
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
