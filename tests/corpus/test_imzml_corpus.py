"""Each case of the imzML checklist through the API and the command line, against the truth and against pyimzML."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imzml_cases import Case, cases, stack, table
from numpy.typing import NDArray

import msicube as mc
from msicube.cli.main import main
from msicube.conversion import ConversionReport
from msicube.errors import CorruptSource
from msicube.readers import open_sources
from msicube.store import Study

CASES = {case.name: case for case in cases()}
LAW = "da:1"
TABLE = Path(__file__).resolve().parents[2] / "docs" / "imzml.md"


@dataclass(frozen=True)
class Plane:
    """What a slide must hold."""

    name: str
    index: NDArray[np.int64]
    cube: NDArray[Any]
    axis: NDArray[np.float64]


def truth(case: Case, left_out: frozenset[int]) -> Iterator[Plane]:
    """Work out every slide of a case from what the generator put into it."""
    specs = [(i, s) for i, s in enumerate(case.pair.specs) if i not in left_out]
    planes = sorted({1 if s.z is None else s.z for _, s in specs})
    if case.name == "some_z":
        planes = [7]
    y0, x0 = min(s.y for _, s in specs), min(s.x for _, s in specs)
    shape = max(s.y for _, s in specs) - y0 + 1, max(s.x for _, s in specs) - x0 + 1
    axis = truth_axis(case, left_out)
    for plane in planes:
        index = np.full(shape, -1)
        cube = np.zeros((*shape, len(axis)))
        for i, spec in specs:
            if len(planes) > 1 and (1 if spec.z is None else spec.z) != plane:
                continue
            index[spec.y - y0, spec.x - x0] = i
            if i not in case.empty:
                cube[spec.y - y0, spec.x - x0] = spectrum(case, i, axis)
        yield Plane(case.name if len(planes) == 1 else f"{case.name}_z{plane}", index, cube, axis)


def truth_axis(case: Case, left_out: frozenset[int]) -> NDArray[np.float64]:
    pair = case.pair
    if pair.continuous:
        return pair.specs[0].mz.astype(pair.mz_type).astype(np.float64)
    mz = np.concatenate([s.mz for i, s in enumerate(pair.specs) if i not in left_out])
    mz = mz[mz < 1e6]
    return np.arange(np.floor(mz.min()), np.floor(mz.max()) + 1) + 0.5


def spectrum(case: Case, number: int, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    spec = case.pair.specs[number]
    stored = spec.intensity.astype(spec.intensity_type or case.pair.intensity_type).astype(np.float64)
    if case.pair.continuous:
        return stored
    channels = np.zeros(len(axis))
    for mz, value in zip(spec.mz, stored, strict=True):
        if mz < 1e6:
            channels[np.flatnonzero(axis - 0.5 <= mz)[-1]] += value
    return channels


def check(case: Case, study: Study, report: ConversionReport, left_out: frozenset[int]) -> None:
    rows = {row.slide: row for row in report.slides}
    planes = list(truth(case, left_out))
    assert sorted(rows) == sorted(plane.name for plane in planes)
    for plane in planes:
        row = rows[plane.name]
        assert row.status == "converted", row.error
        np.testing.assert_array_equal(study.small(plane.name, "spectrum_index"), plane.index)
        np.testing.assert_array_equal(study.acquired(plane.name), plane.index >= 0)
        np.testing.assert_allclose(
            study.axis(plane.name), plane.axis, rtol=0 if case.pair.continuous else 1e-12
        )
        np.testing.assert_array_equal(study.cube(plane.name)[...], plane.cube)
        assert row.spectra == (plane.index >= 0).sum()
        assert row.masked == len(left_out - case.aside)
        for remark in case.remarks:
            assert any(re.search(remark, said) for said in row.remarks), (remark, row.remarks)
        for number in left_out:
            assert any(re.search(rf"\b{number}\b", said) for said in row.remarks), row.remarks
        size = study.slide_attrs[plane.name]["pixel_size"]
        assert (size and (size["y"], size["x"])) == case.pixel_size


def convert(path: Path, folder: Path, **options: Any) -> tuple[Study, ConversionReport]:
    report = mc.convert(path, folder, mz_axis=LAW, scheduler="synchronous", **options)
    return mc.open_study(folder), report


@pytest.mark.parametrize("name", CASES)
def test_the_api(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = case.write(tmp_path)
    if case.error is None:
        check(case, *convert(path, tmp_path / "s.zarr"), case.aside)
        return
    with pytest.raises(CorruptSource, match=case.error) as found:
        convert(path, tmp_path / "s.zarr")
    assert "\n" not in str(found.value)
    # What is only met in the middle of the .ibd leaves a study, and nothing of the slide in it.
    assert not (tmp_path / "s.zarr").exists() or not mc.open_study(tmp_path / "s.zarr").slides
    if case.masked is None:
        with pytest.raises(CorruptSource, match=case.error):
            open_sources(path, on_error="report")
    else:
        check(case, *convert(path, tmp_path / "s.zarr", on_error="report"), case.masked | case.aside)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    with pytest.raises(SystemExit) as end:
        main(["convert", *arguments, "--mz-axis", LAW, "--scheduler", "synchronous", "--json"])
    return int(end.value.code or 0), json.loads(capsys.readouterr().out)["slides"]


@pytest.mark.parametrize("on_error", ["continue", "report"])
def test_the_command_line(on_error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All files in one command: one that is broken stops no other."""
    folder = tmp_path / "in"
    folder.mkdir()
    for case in CASES.values():
        case.write(folder)
    code, rows = run(capsys, str(folder), str(tmp_path / "s.zarr"), "--on-error", on_error)
    assert code == 1
    study = mc.open_study(tmp_path / "s.zarr")
    status = {row["slide"]: row for row in rows}
    for case in CASES.values():
        fails = case.error is not None and (on_error == "continue" or case.masked is None)
        if fails:
            assert re.search(case.error or "", status[case.name]["error"])
            assert case.name not in study
            continue
        for plane in truth(case, (case.masked or frozenset()) | case.aside):
            assert status[plane.name]["status"] == "converted"
            np.testing.assert_array_equal(study.small(plane.name, "spectrum_index"), plane.index)


@pytest.mark.parametrize(
    "name", [case.name for case in CASES.values() if case.pyimzml and case.error is None]
)
def test_pyimzml_agrees_spectrum_by_spectrum(name: str, tmp_path: Path) -> None:
    from pyimzml.ImzMLParser import ImzMLParser

    case = CASES[name]
    path = case.write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ImzMLParser(str(path))
    seen = 0
    for reader in open_sources(path):
        index, info = reader.index, reader.info  # type: ignore[attr-defined]
        y0, x0 = info.source["origin"]["y"], info.source["origin"]["x"]
        for y, x in np.argwhere(info.acquired):
            number = int(info.spectrum_index[y, x])
            assert parser.coordinates[number][:2] == (x + x0, y + y0)
            mz, intensity = parser.getspectrum(number)
            for columns, expected in ((index.mz, mz), (index.intensity, intensity)):
                with reader.open_ibd() as ibd:  # type: ignore[attr-defined]
                    np.testing.assert_array_equal(ibd.array(columns, number), expected)
            seen += 1
    assert seen == len(parser.coordinates) - len(case.aside)
    parser.m.close()


def test_the_documentation_has_every_case() -> None:
    assert table() in TABLE.read_text(encoding="utf-8"), (
        "run python tests/corpus/imzml_cases.py and paste its table"
    )


def test_info_describes_every_plane_of_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stack((1, 4)).write(tmp_path, "stack")
    with pytest.raises(SystemExit) as end:
        main(["info", str(path), "--json"])
    assert end.value.code == 0
    assert [plane["name"] for plane in json.loads(capsys.readouterr().out)] == ["stack_z1", "stack_z4"]
