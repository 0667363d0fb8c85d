"""A new axis from the peaks in a study: what converting the sources on that axis gives, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from processed_helpers import hashes, write_processed

import msicube as mc
from msicube.errors import AxisMismatch, NotAStudy, StudyLocked, UsageError
from msicube.store import Location, Study, draft
from msicube.store.lock import write_lock

SMALL = {"shard_size": "24 KiB"}
SAMPLES = {"a": {"label": "x"}, "b": {"label": "y"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in")
    write_processed(path / "a.imzML", seed=1)
    write_processed(path / "b.imzML", seed=2, low=400.0, high=1000.0, mz_dtype="float32")
    return path


@pytest.fixture(scope="module")
def at_two(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("study") / "s.zarr"
    mc.convert(folder, study, mz_axis="da:2", samples=SAMPLES, **SMALL)
    return study


@pytest.fixture
def study(at_two: Path, tmp_path: Path) -> Study:
    shutil.copytree(at_two, tmp_path / "s.zarr")
    return mc.open_study(tmp_path / "s.zarr")


@pytest.mark.parametrize("law", ["da:5", "ppm:3000", "union:200"])
def test_it_is_what_the_sources_give(study: Study, folder: Path, tmp_path: Path, law: str) -> None:
    hidden = folder.rename(folder.with_name("hidden"))
    try:
        report = mc.rebin(study, mz_axis=law, **SMALL)
    finally:
        hidden.rename(folder)
    assert [row.status for row in report.slides] == ["converted", "converted"]
    assert all(row.peaks and row.out_of_range == 0 and row.relative_tic_error < 1e-6 for row in report.slides)
    mc.convert(folder, tmp_path / "new.zarr", mz_axis=law, samples=SAMPLES, **SMALL)
    assert hashes(Path(study.path)) == hashes(tmp_path / "new.zarr")
    assert not (tmp_path / "s.zarr.partial").exists()
    assert mc.validate(mc.open_study(study.path), sources=[folder]) == []
    before = hashes(Path(study.path))
    assert {row.status for row in mc.rebin(study.path, mz_axis=law, **SMALL).slides} == {"present"}
    assert hashes(Path(study.path)) == before


def test_peaks_outside_the_axis_are_counted(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("300.0\n500.0\n")
    report = mc.rebin(study, mz_axis=f"peaks:{file}@1000")
    again = mc.open_study(study.path)
    for row in report.slides:
        peaks = again.peaks(row.slide)
        assert peaks is not None
        whole = peaks.read(0, len(peaks.lengths))
        inside = (abs(whole.mz - 300.0) <= 0.3) | (abs(whole.mz - 500.0) <= 0.5)
        assert row.out_of_range == int((~inside).sum())
        lost = 1 - whole.intensity[inside].sum(dtype=float) / whole.intensity.sum(dtype=float)
        assert row.relative_tic_error == pytest.approx(lost, rel=1e-5)
    file.unlink()
    assert mc.validate(again) == []


def test_one_slide_alone(study: Study, folder: Path) -> None:
    report = mc.rebin(study, mz_axis="da:5", slides=["b"])
    assert [row.slide for row in report.slides] == ["b"]
    assert "left on the axis that they have: a" in report.remarks[0]
    assert mc.validate(mc.open_study(study.path), sources=[folder]) == []
    write_processed(Path(study.path).parent / "late" / "c.imzML", seed=3)
    with pytest.raises(AxisMismatch, match="which one"):
        mc.convert(Path(study.path).parent / "late", study.path)
    mc.convert(Path(study.path).parent / "late", study.path, mz_axis="da:5")
    np.testing.assert_array_equal(mc.open_study(study.path).axis("c"), mc.open_study(study.path).axis("b"))


def test_the_old_slide_stays_until_the_new_one_is_whole(study: Study, tmp_path: Path) -> None:
    before = hashes(Path(study.path))

    def stop(_: str, done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mc.rebin(study, mz_axis="da:5", progress=stop, scheduler="synchronous", **SMALL)
    assert hashes(Path(study.path)) == before
    assert mc.validate(mc.open_study(study.path)) == []
    seen: list[int] = []
    mc.rebin(study, mz_axis="da:5", progress=lambda _, done, __: seen.append(done), **SMALL)
    assert seen[0] > 5, "finished shards were redone"
    assert not (tmp_path / "s.zarr.partial").exists()


def test_killed_just_after_the_change_of_place(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = draft._sync_folder

    def kill(folder: Path) -> None:
        original(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(draft, "_sync_folder", kill)
        with pytest.raises(KeyboardInterrupt):
            mc.rebin(study, mz_axis="da:5")
    assert mc.validate(mc.open_study(study.path)) == []
    assert (tmp_path / "s.zarr.partial").exists()
    report = mc.rebin(study, mz_axis="da:5")
    assert [row.status for row in report.slides] == ["present", "converted"]
    assert not (tmp_path / "s.zarr.partial").exists()


def test_where_folders_cannot_change_places(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "_exchange", lambda *_: False)
    mc.rebin(study, mz_axis="da:5")
    assert mc.validate(mc.open_study(study.path)) == []
    assert sorted(path.name for path in Path(study.path).parent.iterdir()) == ["s.zarr"]


def test_features_go_with_the_axis_they_were_made_on(study: Study) -> None:
    group = zarr.open_group(f"{study.path}/a", mode="r+")
    group.create_array(
        "paper", shape=(9, 11, 2), dtype="float32", dimension_names=("y", "x", "paper_feature")
    )
    report = mc.rebin(study, mz_axis="da:5")
    assert any("the features paper" in remark for remark in report.slides[0].remarks)
    assert "paper" not in mc.open_study(study.path)["a"]


def test_what_cannot_be_done_is_refused(study: Study, folder: Path, tmp_path: Path) -> None:
    mc.convert(folder, tmp_path / "without.zarr", mz_axis="da:2", keep_peaks=False)
    with pytest.raises(UsageError, match="no slide of"):
        mc.rebin(tmp_path / "without.zarr", mz_axis="da:5")
    with pytest.raises(UsageError, match=r"a of .* has no peaks"):
        mc.rebin(tmp_path / "without.zarr", mz_axis="da:5", slides=["a"])
    with pytest.raises(NotAStudy):
        mc.rebin(tmp_path / "nothing.zarr", mz_axis="da:5")
    assert not (tmp_path / "nothing.zarr.partial").exists()
    with write_lock(Location.of(study.path)), pytest.raises(StudyLocked, match=str(os.getpid())):
        mc.rebin(study, mz_axis="da:5")
    mc.convert(folder / "a.imzML", "memory://rebin/s.zarr", mz_axis="da:2")
    with pytest.raises(UsageError, match="object store"):
        mc.rebin("memory://rebin/s.zarr", mz_axis="da:5")


def test_the_command_line(study: Study) -> None:
    command = [sys.executable, "-m", "msicube.cli", "rebin", study.path, "--mz-axis", "ppm:5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "converted" in done.stdout
    assert mc.open_study(study.path).slide_attrs["a"]["axis"]["law"] == "ppm:5000"
