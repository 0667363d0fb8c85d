from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import msicube as mc
from msicube.errors import UsageError
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Study


@pytest.fixture
def copy(study: Study, tmp_path: Path) -> Study:
    """A study that may be damaged."""
    shutil.copytree(study.path, tmp_path / "copy.zarr")
    return mc.open_study(tmp_path / "copy.zarr")


def test_a_good_study_has_no_findings(study: Study, simulation: SimulationReport) -> None:
    seen = []
    assert mc.validate(study, sources=[simulation.folder], progress=lambda *a: seen.append(a)) == []
    assert {name for name, done, total in seen if done == total} == set(study.slides)


def overwrite(study: Study, variable: str, index: object, value: float) -> None:
    zarr.open_array(f"{study.path}/{study.slides[0]}/{variable}", mode="r+")[index] = value


def test_a_changed_value_is_found(copy: Study, simulation: SimulationReport) -> None:
    y, x = np.argwhere(copy.acquired(copy.slides[0]))[5]
    overwrite(copy, "intensity", (int(y), int(x), 3), 1e6)
    assert any("total_ion_current" in f.message for f in mc.validate(copy))
    findings = mc.validate(copy, sources=[simulation.folder])
    assert any("1 spectra of" in f.message and f"y={y}, x={x}" in f.message for f in findings)
    assert {f.slide for f in findings} == {copy.slides[0]}


def test_values_where_nothing_was_measured_are_found(copy: Study) -> None:
    y, x = np.argwhere(~copy.acquired(copy.slides[0]))[0]
    overwrite(copy, "intensity", (int(y), int(x), 3), 1.0)
    assert any("unmeasured" in f.message for f in mc.validate(copy))


def test_a_damaged_shard_is_found(copy: Study) -> None:
    shard = Path(copy.path, copy.slides[2], "intensity", "c", "0", "0", "0")
    shard.write_bytes(shard.read_bytes()[:-9])
    findings = mc.validate(copy)
    assert [f.slide for f in findings] == [copy.slides[2]]
    assert "CRC-32C" in str(findings[0])


def test_a_missing_variable_and_a_wrong_mask_are_found(copy: Study) -> None:
    shutil.rmtree(Path(copy.path, copy.slides[0], "mean_spectrum"))
    zarr.open_array(f"{copy.path}/{copy.slides[1]}/acquired", mode="r+")[0, :] = True
    messages = {f.slide: f.message for f in mc.validate(copy)}
    assert "mean_spectrum is missing" in messages[copy.slides[0]]
    assert "disagree" in messages[copy.slides[1]]


def test_sources_and_slides_must_pair(study: Study, simulation: SimulationReport) -> None:
    with pytest.raises(UsageError, match="no source is given for"):
        mc.validate(study, sources=[simulation.slides[0].path])
    assert mc.validate(study, sources=[simulation.slides[0].path], slides=[study.slides[0]]) == []


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_an_independent_reader_agrees(study: Study, simulation: SimulationReport, scheduler: str) -> None:
    assert mc.validate(study, sources=[simulation.folder], independent=True, scheduler=scheduler) == []


def test_an_independent_reader_agrees_on_binned_spectra(tmp_path: Path) -> None:
    source = simulate_msi(tmp_path / "in", slides=1, shape=(9, 12), channels=80, mode="processed").folder
    mc.convert(source, tmp_path / "s.zarr", mz_axis="ppm:150")
    assert mc.validate(mc.open_study(tmp_path / "s.zarr"), sources=[source], independent=True) == []


def test_an_independent_reader_finds_a_changed_value(copy: Study, simulation: SimulationReport) -> None:
    y, x = np.argwhere(copy.acquired(copy.slides[0]))[5]
    overwrite(copy, "intensity", (int(y), int(x), 3), 1e6)
    findings = mc.validate(copy, sources=[simulation.folder], independent=True)
    assert any("1 spectra of" in f.message and f"y={y}, x={x}" in f.message for f in findings)
