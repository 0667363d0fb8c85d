"""The index cache: used where it is current, rebuilt where it is not, and never a reason to fail."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from msicube.readers import open_source
from msicube.readers.imzml import cache as module
from msicube.readers.imzml.cache import cache_files, cached_scan
from msicube.readers.imzml.rows import Header, SpectrumTable
from msicube.readers.imzml.scan import scan
from msicube.simulate import simulate_msi


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "MIN_BYTES", 0)
    return simulate_msi(tmp_path / "s", slides=1, shape=(8, 9), channels=30).slides[0].path


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Lists the files of which the XML is read."""
    seen: list[Path] = []

    def counted(path: Path) -> tuple[Header, SpectrumTable]:
        seen.append(path)
        return scan(path)

    monkeypatch.setattr(module, "scan", counted)
    return seen


def read(pair: Path, folder: Path | str) -> tuple[Header, SpectrumTable]:
    return cached_scan(pair, pair.with_suffix(".ibd"), cache=str(folder))


def assert_same(a: tuple[Header, SpectrumTable], b: tuple[Header, SpectrumTable]) -> None:
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1].columns, b[1].columns)
    np.testing.assert_array_equal(a[1].rounded, b[1].rounded)
    assert a[1].faults.keys() == b[1].faults.keys()
    for message, numbers in a[1].faults.items():
        np.testing.assert_array_equal(b[1].faults[message], numbers)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_second_opening_reads_no_xml(pair: Path, tmp_path: Path, scans: list[Path]) -> None:
    first = read(pair, tmp_path / "cache")
    second = read(pair, tmp_path / "cache")
    assert len(scans) == 1
    assert_same(first, second)
    assert_same(first, scan(pair))


def test_faults_and_rounded_offsets_are_kept(pair: Path, tmp_path: Path, scans: list[Path]) -> None:
    change(pair, 'name="position x" value="', 'name="position x" value="?')
    change(pair, 'accession="IMS:1000102" name="external offset" value="16"',
           'accession="IMS:1000102" name="external offset" value="1e3"')  # fmt: skip
    first = read(pair, tmp_path / "cache")
    assert first[1].faults
    assert_same(first, read(pair, tmp_path / "cache"))
    assert len(scans) == 1


def test_every_change_of_the_pair_is_noticed(pair: Path, tmp_path: Path, scans: list[Path]) -> None:
    ibd = pair.with_suffix(".ibd")
    read(pair, tmp_path)
    later = pair.stat().st_mtime_ns + 10**9
    os.utime(pair, ns=(later, later))
    read(pair, tmp_path)
    assert len(scans) == 2
    os.utime(ibd, ns=(later, later))
    read(pair, tmp_path)
    assert len(scans) == 3
    ibd.write_bytes(ibd.read_bytes() + b"x")
    os.utime(ibd, ns=(later, later))
    read(pair, tmp_path)
    assert len(scans) == 4
    # Same size and same times, another UUID in either file.
    ibd.write_bytes(bytes(16) + ibd.read_bytes()[16:])
    os.utime(ibd, ns=(later, later))
    read(pair, tmp_path)
    assert len(scans) == 5
    text = pair.read_text()
    start = text.index('value="', text.index("IMS:1000080")) + 10
    pair.write_text(text[:start] + ("0" if text[start] != "0" else "1") + text[start + 1 :])
    os.utime(pair, ns=(later, later))
    read(pair, tmp_path)
    assert len(scans) == 6
    read(pair, tmp_path)
    assert len(scans) == 6


def test_a_damaged_cache_is_rebuilt(pair: Path, tmp_path: Path, scans: list[Path]) -> None:
    expected = read(pair, tmp_path)
    place = cache_files(pair, str(tmp_path))[0]
    good = place.read_bytes()
    rng = np.random.default_rng(0)
    spoiled = [b"", b"x", good[:-1], good[: len(good) // 2], good + b"x", bytes(len(good))]
    for _ in range(40):
        data = bytearray(good)
        data[rng.integers(0, len(data))] ^= 1 << int(rng.integers(0, 8))
        spoiled.append(bytes(data))
    for number, data in enumerate(spoiled):
        place.write_bytes(data)
        assert_same(expected, read(pair, tmp_path))
        assert len(scans) == number + 2
        assert place.read_bytes() == good


def test_another_version_counts_as_none(
    pair: Path, tmp_path: Path, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(pair, tmp_path)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    read(pair, tmp_path)
    assert len(scans) == 2


def test_it_can_be_switched_off(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    open_source(pair, index_cache="off")
    open_source(pair)  # the tests set MSICUBE_INDEX_CACHE=off
    assert not (tmp_path / "home").exists()
    monkeypatch.delenv("MSICUBE_INDEX_CACHE")
    open_source(pair)
    assert len(list((tmp_path / "home" / "msicube").iterdir())) == 1
    monkeypatch.setattr(module, "MIN_BYTES", pair.stat().st_size + 1)
    open_source(pair, index_cache=str(tmp_path / "small"))
    assert not (tmp_path / "small").exists()


def test_beside_the_source_and_where_that_cannot_be_written(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scans: list[Path]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    read(pair, "beside")
    beside = cache_files(pair, "beside")[0]
    assert beside.parent == pair.parent
    assert beside.is_file()
    beside.unlink()
    write = module._write

    def refuse(place: Path, data: bytes) -> None:
        if place == beside:
            raise PermissionError(13, "read-only", str(place))
        write(place, data)

    monkeypatch.setattr(module, "_write", refuse)
    read(pair, "beside")
    read(pair, "beside")
    assert len(scans) == 2
    assert not beside.exists()
    assert len(list((tmp_path / "home" / "msicube").iterdir())) == 1


def test_a_cache_that_cannot_be_written_at_all_is_no_error(
    pair: Path, tmp_path: Path, scans: list[Path]
) -> None:
    (tmp_path / "file").touch()
    read(pair, tmp_path / "file" / "cache")
    read(pair, tmp_path / "file" / "cache")
    assert len(scans) == 2
