"""Checksums of whole files: hashed once, one file ahead, given up with the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import msicube as mc
from msicube.conversion.verification import Checks
from msicube.errors import AxisRequired, CorruptSource
from msicube.readers import open_source, open_sources
from msicube.readers.imzml import checksums
from msicube.readers.imzml.rows import Header
from msicube.readers.imzml.scan import read_header, scan
from msicube.simulate import simulate_msi
from msicube.store.study import find_study


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [slide.path for slide in simulate_msi(tmp_path / "s", slides=3, shape=(8, 9), channels=30).slides]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, list[str]]]:
    """Collect each file that is hashed, and the slides that were there when that began."""
    seen: list[tuple[str, list[str]]] = []
    verify_ibd = checksums.verify_ibd

    def noted(path: Path, ibd: Path, header: Header, between: Callable[[], None]) -> dict[str, str]:
        study = find_study(mc.store.Location.of(tmp_path / "study.zarr"))
        seen.append((path.stem, study.slides if study else []))
        return verify_ibd(path, ibd, header, between)

    monkeypatch.setattr(checksums, "verify_ibd", noted)
    return seen


def damage(path: Path) -> None:
    ibd = path.with_suffix(".ibd")
    ibd.write_bytes(ibd.read_bytes()[:-1] + b"\x01")


def test_files_are_hashed_once_and_no_more_than_one_ahead(
    files: list[Path], hashed: list[tuple[str, list[str]]], tmp_path: Path
) -> None:
    mc.convert(files, tmp_path / "study.zarr")
    first, second, third = (path.stem for path in files)
    assert [name for name, _ in hashed] == [first, second, third]
    assert first in hashed[2][1]
    mc.convert(files, tmp_path / "study.zarr")
    assert len(hashed) == 3  # slides that are there are not hashed again


def test_a_stack_is_hashed_once_for_all_planes(
    hashed: list[tuple[str, list[str]]], stack: Path, tmp_path: Path
) -> None:
    assert len(open_sources(stack)) == 2
    report = mc.convert(stack, tmp_path / "study.zarr")
    assert [name for name, _ in hashed] == [stack.stem]
    for row in report.slides:
        attrs = mc.open_study(tmp_path / "study.zarr").slide_attrs[row.slide]
        assert list(attrs["source"]["verified"]) == ["sha1"]


@pytest.fixture
def stack(files: list[Path]) -> Path:
    """Return a file of two planes: the lower half of the rows lies on the second."""
    text = files[0].read_text(encoding="ISO-8859-1")
    term = '<cvParam cvRef="IMS" accession="IMS:1000052" name="position z" value="{}"/></scan>'
    half = text.count("</scan>") // 2
    text = text.replace("</scan>", term.format(1), half).replace("\n</scan>", "\n" + term.format(2))
    files[0].write_text(text, encoding="ISO-8859-1")
    return files[0]


def test_what_is_not_met_is_an_error_or_a_remark(files: list[Path]) -> None:
    damage(files[0])
    reader = open_source(files[0])
    with (
        pytest.raises(CorruptSource, match="sha1"),
        Checks("stop") as checks,
        checks.beside(files[0], reader) as verified,
    ):
        verified()
    with Checks("report") as checks, checks.beside(files[0], reader) as verified:
        assert "converted all the same" in verified().remarks[0]


def test_a_wrong_checksum_explains_what_failed(files: list[Path]) -> None:
    damage(files[0])
    with (
        pytest.raises(CorruptSource, match="sha1"),
        Checks("stop") as checks,
        checks.beside(files[0], open_source(files[0])),
    ):
        raise AxisRequired("a symptom")


def test_nothing_is_read_where_nothing_is_to_be_checked(
    files: list[Path], hashed: list[tuple[str, list[str]]]
) -> None:
    with Checks("stop", enabled=False) as checks:
        checks.begin(files[0])
        with checks.beside(files[0], open_source(files[0])) as verified:
            assert verified().checksums == {}
    assert hashed == []


def test_a_command_without_a_source_has_nothing_to_check(tmp_path: Path) -> None:
    assert mc.convert([], tmp_path / "study.zarr").slides == ()


def test_a_check_is_given_up_with_its_command(files: list[Path]) -> None:
    with Checks("stop") as checks:
        pass
    with checks.beside(files[0], open_source(files[0])) as verified, pytest.raises(InterruptedError):
        verified()


def test_the_header_alone_says_what_the_whole_file_says(files: list[Path], shared_data: Path) -> None:
    paths = [*files, *sorted(shared_data.glob("imzml/*/*.imzML"))]
    assert len(paths) > 10
    compared = 0
    for path in paths:
        try:
            header, _ = scan(path)
        except CorruptSource:
            continue
        assert read_header(path).sections["fileContent"] == header.sections["fileContent"]
        compared += 1
    assert compared > 10
