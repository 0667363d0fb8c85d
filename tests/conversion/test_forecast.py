"""The plan of a conversion: what convert then does, with nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processed_helpers import hashes, write_processed

import msicube as mc
from msicube.bytesize import parse_bytes
from msicube.conversion.work import BASE_MEMORY
from msicube.errors import AxisRequired, SlideExists
from msicube.simulate import SimulationReport, simulate_msi


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_it_is_what_convert_then_does(tmp_path: Path) -> None:
    write_processed(tmp_path / "in" / "a.imzML", seed=1)
    write_processed(tmp_path / "in" / "b.imzML", seed=2, high=1000.0)
    before = everything(tmp_path)
    options = {"mz_axis": "da:2", "shard_size": "24 KiB"}
    plan = mc.plan(tmp_path / "in", tmp_path / "s.zarr", **options)
    assert everything(tmp_path) == before
    assert [row.status for row in plan.slides] == ["new", "new"]
    report = mc.convert(tmp_path / "in", tmp_path / "s.zarr", **options)
    study = mc.open_study(tmp_path / "s.zarr")
    for row, done in zip(plan.slides, report.slides, strict=True):
        cube, peaks = study.cube(row.slide), study.peaks(row.slide)
        assert peaks is not None
        assert (row.spectra, row.shape, row.dtype) == (done.spectra, cube.shape, cube.dtype.name)
        assert (row.tile, row.tiles) == (cube.tile, len(cube.tiles()))
        assert row.intensity_bytes == done.spectra * cube.shape[2] * 4
        assert row.peaks_bytes == done.peaks * 12 + 8 * (done.spectra + 1)
        assert row.axis.startswith("da:2, ")
        assert row.workers >= 1
        assert row.memory <= parse_bytes("2 GiB")
    assert plan.n_bytes == sum(row.intensity_bytes + row.peaks_bytes for row in plan.slides)
    assert {row.status for row in mc.plan(tmp_path / "in", tmp_path / "s.zarr").slides} == {"present"}


def test_memory_counts_the_larger_of_a_tile_and_a_shard_of_peaks(tmp_path: Path) -> None:
    write_processed(tmp_path / "a.imzML")
    wide, narrow = (
        mc.plan(tmp_path / "a.imzML", tmp_path / "s.zarr", mz_axis=law, workers=2).slides[0]
        for law in ("da:0.1", "da:800")
    )
    assert wide.tiles == 1
    assert wide.memory >= BASE_MEMORY + 2 * 3.5 * wide.intensity_bytes
    assert narrow.intensity_bytes < narrow.peaks_bytes / 20
    assert narrow.memory >= BASE_MEMORY + 2 * 4 * (narrow.peaks_bytes - 8 * (narrow.spectra + 1))


def test_what_cannot_be_converted_is_in_its_row(simulation: SimulationReport, tmp_path: Path) -> None:
    shutil.copy(simulation.slides[0].path, tmp_path / "lonely.imzML")
    write_processed(tmp_path / "ragged.imzML")
    sources = [tmp_path / "lonely.imzML", tmp_path / "ragged.imzML", simulation.slides[1].path]
    plan = mc.plan(sources, tmp_path / "s.zarr")
    assert [row.status for row in plan.slides] == ["failed", "failed", "new"]
    assert "no .ibd" in (plan.failed[0].error or "")
    assert "--mz-axis" in (plan.failed[1].error or "")
    with pytest.raises(AxisRequired):
        mc.plan(sources[1:], tmp_path / "s.zarr", on_error="stop")
    small = mc.plan(sources[2], tmp_path / "s.zarr", memory_limit="100 MiB")
    assert "raise the limit" in (small.slides[0].error or "")
    assert not (tmp_path / "s.zarr").exists()


def test_a_study_that_is_there_stays_as_it_is(simulation: SimulationReport, tmp_path: Path) -> None:
    sources = [slide.path for slide in simulation.slides[:2]]
    mc.convert(sources[0], tmp_path / "s.zarr")
    before = hashes(tmp_path / "s.zarr"), everything(tmp_path)
    plan = mc.plan(sources, tmp_path / "s.zarr", samples={sources[0].stem: {"label": "other"}})
    assert [row.status for row in plan.slides] == ["present", "new"]
    assert sources[1].stem in plan.remarks[0]
    assert (hashes(tmp_path / "s.zarr"), everything(tmp_path)) == before
    other = simulate_msi(tmp_path / "in", slides=1, seed=99, shape=(10, 10), channels=30).slides[0].path
    with pytest.raises(SlideExists):
        mc.plan(other, tmp_path / "s.zarr", on_error="stop")


def test_tiles_that_a_stopped_run_left_are_seen(simulation: SimulationReport, tmp_path: Path) -> None:
    def stop(_: str, done: int, __: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    source = simulation.slides[0].path
    with pytest.raises(KeyboardInterrupt):
        mc.convert(source, tmp_path / "s.zarr", shard_size="64 KiB", progress=stop, scheduler="synchronous")
    assert mc.plan(source, tmp_path / "s.zarr", shard_size="64 KiB").slides[0].status == "unfinished"
    assert mc.plan(source, tmp_path / "s.zarr").slides[0].status == "new"


def test_the_command_line(simulation: SimulationReport, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "msicube.cli", "convert", "--dry-run"]
    arguments = [str(simulation.slides[0].path), str(tmp_path / "s.zarr")]
    done = subprocess.run([*command, *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slides"][0]["status"] == "new"
    assert "Nothing was written" in done.stderr
    (tmp_path / "bad.imzML").write_text("<mzML/>")
    done = subprocess.run(
        [*command, str(tmp_path / "bad.imzML"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Error: bad: " in done.stderr
    assert not (tmp_path / "s.zarr").exists()
