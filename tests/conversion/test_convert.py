"""Conversion as its users meet it: whole or not at all, resumable, the same whatever happened on the way."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import msicube as mc
from msicube.axis import OBSERVED
from msicube.conversion import sources
from msicube.errors import (
    AxisMismatch,
    AxisRequired,
    CorruptSource,
    MemoryLimitError,
    NotAStudy,
    SlideExists,
    StudyLocked,
    UsageError,
)
from msicube.readers import CubeReader, OnError
from msicube.readers.imzml import SpectrumIndex
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Location
from msicube.store.lock import write_lock


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a study but the root's metadata, which holds the time."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "zarr.json"
    }


def test_the_report_and_the_attributes(simulation: SimulationReport, tmp_path: Path) -> None:
    report = mc.convert(simulation.folder, tmp_path / "s.zarr", samples=simulation.samples)
    assert [row.status for row in report.slides] == ["converted"] * 6
    assert not report.failed
    assert list(report.to_frame().index) == [slide.name for slide in simulation.slides]
    study = mc.open_study(tmp_path / "s.zarr")
    for row, slide in zip(report.slides, simulation.slides, strict=True):
        attrs = study.slide_attrs[row.slide]
        assert row.spectra == attrs["conversion"]["spectra"] == slide.n_spectra
        assert attrs["axis"]["law"] == OBSERVED
        assert attrs["source"]["verified"].keys() == {"sha1"}
        assert attrs["sample"]["label"] == slide.label
        assert row.stored_bytes > 0


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_every_scheduler_writes_the_same_bytes(
    simulation: SimulationReport, tmp_path: Path, scheduler: str
) -> None:
    source = simulation.slides[0].path
    mc.convert(source, tmp_path / "a.zarr", shard_size="256 KiB", scheduler="synchronous")
    mc.convert(source, tmp_path / "b.zarr", shard_size="256 KiB", scheduler=scheduler, workers=3)
    assert hashes(tmp_path / "a.zarr") == hashes(tmp_path / "b.zarr")


def test_running_again_changes_nothing(simulation: SimulationReport, tmp_path: Path) -> None:
    mc.convert(simulation.folder, tmp_path / "s.zarr")
    before = hashes(tmp_path / "s.zarr")
    report = mc.convert(simulation.folder, tmp_path / "s.zarr")
    assert {row.status for row in report.slides} == {"present"}
    assert [row.spectra for row in report.slides] == [slide.n_spectra for slide in simulation.slides]
    assert hashes(tmp_path / "s.zarr") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr"]


def test_a_samples_table_can_come_later(simulation: SimulationReport, tmp_path: Path) -> None:
    mc.convert(simulation.folder, tmp_path / "s.zarr")
    assert "label" not in mc.open_study(tmp_path / "s.zarr").samples
    report = mc.convert(
        simulation.folder, tmp_path / "s.zarr", samples={simulation.slides[0].name: {"label": "x"}}
    )
    assert mc.open_study(tmp_path / "s.zarr").samples["label"].iloc[0] == "x"
    assert "no row in the samples table: " + simulation.slides[1].name in report.remarks[0]
    mc.convert(simulation.folder, tmp_path / "s.zarr", samples={simulation.slides[1].name: {"label": "y"}})
    assert mc.open_study(tmp_path / "s.zarr").samples["label"].tolist()[:2] == ["x", "y"], "a row was lost"


def test_a_killed_run_is_finished_by_the_same_command(tmp_path: Path) -> None:
    source = simulate_msi(tmp_path / "in", slides=1, shape=(96, 96), channels=400, seed=3).slides[0].path
    mc.convert(source, tmp_path / "whole.zarr", shard_size="64 KiB")
    study = tmp_path / "killed.zarr"
    command = [
        sys.executable,
        "-m",
        "msicube.cli",
        "convert",
        str(source),
        str(study),
        "--shard-size",
        "64 KiB",
    ]
    records = tmp_path / "killed.zarr.partial" / f"{source.stem}.tiles"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(records.glob("*.tile"))) < 20:
        assert process.poll() is None, "the conversion ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = sorted(records.glob("*.tile"))
    assert not (study / source.stem).exists(), "a half-written slide is visible"
    # A shard that was damaged after it was recorded is written again; the others are not.
    shards = tmp_path / "killed.zarr.partial" / source.stem / "intensity" / "c"
    damaged, kept = sorted(p for p in shards.rglob("*") if p.is_file() and p.suffix != ".tmp")[:2]
    damaged.write_bytes(b"")
    kept.with_name(f"{kept.name}.123.tmp").touch()  # what a put leaves when it is killed
    # What SIGKILL in the middle of a write leaves is not carried into the study.
    (shards / f"0.{process.pid}.tmp").write_bytes(b"half a shard")
    stamp = kept.stat().st_mtime_ns, kept.stat().st_ino
    again: list[int] = []
    mc.convert(source, study, shard_size="64 KiB", progress=lambda _, done, __: again.append(done))
    assert again[0] >= len(finished) - 1, "finished tiles were redone"
    new = study / source.stem / kept.relative_to(shards.parent.parent)
    assert (new.stat().st_mtime_ns, new.stat().st_ino) == stamp
    assert hashes(study) == hashes(tmp_path / "whole.zarr")
    assert not (tmp_path / "killed.zarr.partial").exists()


def test_what_another_plan_left_is_not_mixed_in(simulation: SimulationReport, tmp_path: Path) -> None:
    source = simulation.slides[0].path
    partial = tmp_path / "s.zarr.partial"
    mc.convert(source, tmp_path / "other.zarr", codec="lz4")
    shutil.copytree(tmp_path / "other.zarr" / source.stem, partial / source.stem)
    (partial / f"{source.stem}.tiles").mkdir()
    (partial / f"{source.stem}.tiles" / "plan").write_text("something else")
    mc.convert(source, tmp_path / "s.zarr")
    mc.convert(source, tmp_path / "clean.zarr")
    assert hashes(tmp_path / "s.zarr") == hashes(tmp_path / "clean.zarr")


def test_one_broken_source_does_not_stop_the_others(simulation: SimulationReport, tmp_path: Path) -> None:
    shutil.copytree(simulation.folder, tmp_path / "in")
    broken = tmp_path / "in" / f"{simulation.slides[2].name}.ibd"
    data = bytearray(broken.read_bytes())
    data[2000] ^= 255
    broken.write_bytes(data)
    with pytest.raises(CorruptSource, match="sha1"):
        mc.convert(tmp_path / "in", tmp_path / "stop.zarr")
    report = mc.convert(tmp_path / "in", tmp_path / "s.zarr", on_error="continue")
    assert [row.slide for row in report.failed] == [simulation.slides[2].name]
    assert "sha1" in (report.failed[0].error or "")
    assert len(mc.open_study(tmp_path / "s.zarr")) == 5
    assert not (tmp_path / "s.zarr.partial").exists()


def test_tiles_of_a_file_that_was_replaced_are_not_kept(simulation: SimulationReport, tmp_path: Path) -> None:
    """A run that is stopped over a damaged file leaves tiles that look finished; the good copy makes its own."""
    good = simulation.slides[0]
    damaged = Path(shutil.copy(good.path, tmp_path / good.path.name)).with_suffix(".ibd")
    data = bytearray(good.path.with_suffix(".ibd").read_bytes())
    data[20] ^= 255
    damaged.write_bytes(data)

    class Stopped(BaseException):
        pass

    def stop(_: str, done: int, total: int) -> None:
        if done == total:
            raise Stopped

    with pytest.raises(Stopped):
        mc.convert(damaged.with_suffix(".imzML"), tmp_path / "s.zarr", progress=stop)
    assert any((tmp_path / "s.zarr.partial").rglob("*.tile"))
    shutil.copy(good.path.with_suffix(".ibd"), damaged)
    mc.convert(damaged.with_suffix(".imzML"), tmp_path / "s.zarr")
    mc.convert(good.path, tmp_path / "clean.zarr")
    assert hashes(tmp_path / "s.zarr") == hashes(tmp_path / "clean.zarr")


def test_nothing_is_left_of_a_command_that_could_convert_nothing(
    simulation: SimulationReport, tmp_path: Path
) -> None:
    shutil.copy(simulation.slides[0].path, tmp_path / "lonely.imzML")
    with pytest.raises(CorruptSource, match=r"no \.ibd"):
        mc.convert(tmp_path / "lonely.imzML", tmp_path / "s.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lonely.imzML"]
    damaged = tmp_path / "lonely.ibd"
    damaged.write_bytes(simulation.slides[0].path.with_suffix(".ibd").read_bytes() + b"more")
    with pytest.raises(CorruptSource, match="sha1"):
        mc.convert(tmp_path / "lonely.imzML", tmp_path / "s.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lonely.ibd", "lonely.imzML"]


def test_processed_slides_share_one_planned_axis(tmp_path: Path) -> None:
    source = simulate_msi(
        tmp_path / "in", slides=3, shape=(12, 12), channels=200, mode="processed", representation="centroid"
    ).folder  # fmt: skip
    with pytest.raises(AxisRequired, match=r"--mz-axis.*suggests ppm:"):
        mc.convert(source, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    report = mc.convert(source, tmp_path / "s.zarr", mz_axis="ppm:100")
    study = mc.open_study(tmp_path / "s.zarr")
    axes = [study.axis(name) for name in study]
    np.testing.assert_array_equal(axes[0], axes[1])
    np.testing.assert_array_equal(axes[0], axes[2])
    assert all(row.out_of_range == 0 and row.peaks > 0 for row in report.slides)
    assert all(row.relative_tic_error < 1e-6 for row in report.slides)
    assert mc.validate(study, sources=[source]) == []
    # A slide that comes later takes the axis that is there; another law is refused.
    late = (
        simulate_msi(tmp_path / "late", slides=5, shape=(12, 12), channels=200, mode="processed")
        .slides[4]
        .path
    )
    mc.convert(late, tmp_path / "s.zarr")
    np.testing.assert_array_equal(mc.open_study(tmp_path / "s.zarr").axis(late.stem), axes[0])
    another = late.with_name("another.imzML")
    late.rename(another)
    late.with_suffix(".ibd").rename(another.with_suffix(".ibd"))
    with pytest.raises(AxisMismatch, match="ppm:100"):
        mc.convert(another, tmp_path / "s.zarr", mz_axis="da:1")


def test_processed_spectra_that_share_their_axis_are_kept_bit_for_bit(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "imzml" / "pyimzml"
    mc.convert(sorted(folder.glob("*.imzML")), tmp_path / "s.zarr")
    study = mc.open_study(tmp_path / "s.zarr")
    np.testing.assert_array_equal(study.cube("Example_Continuous")[...], study.cube("Example_Processed")[...])
    assert mc.validate(study, sources=[folder]) == []


def test_one_writer_at_a_time(simulation: SimulationReport, tmp_path: Path) -> None:
    with write_lock(Location.of(tmp_path / "s.zarr")), pytest.raises(StudyLocked, match=str(os.getpid())):
        mc.convert(simulation.folder, tmp_path / "s.zarr")
    mc.convert(simulation.slides[0].path, tmp_path / "s.zarr")


def test_a_name_that_is_taken_by_another_source_is_refused(
    simulation: SimulationReport, tmp_path: Path
) -> None:
    mc.convert(simulation.slides[0].path, tmp_path / "s.zarr")
    other = simulate_msi(tmp_path / "in", slides=1, seed=99, shape=(10, 10), channels=30).slides[0].path
    assert other.name == simulation.slides[0].path.name
    with pytest.raises(SlideExists, match=r"differ in .*uuid"):
        mc.convert(other, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match="would both be the slide"):
        mc.convert([simulation.slides[0].path, other], tmp_path / "t.zarr")


def test_what_cannot_be_done_is_refused_before_it_begins(
    simulation: SimulationReport, tmp_path: Path
) -> None:
    source = simulation.slides[0].path
    with pytest.raises(MemoryLimitError, match="raise the limit"):
        mc.convert(source, tmp_path / "s.zarr", memory_limit="100 MiB")
    with pytest.raises(UsageError, match="unknown codec"):
        mc.convert(source, tmp_path / "s.zarr", codec="rar")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(NotAStudy, match="not empty"):
        mc.convert(source, tmp_path / "full")
    assert not (tmp_path / "s.zarr").exists()
    hidden = tmp_path / "_x.imzML"
    shutil.copy(source, hidden)
    with pytest.raises(UsageError, match="rename"):
        mc.convert(hidden, tmp_path / "s.zarr")


def test_spectra_that_are_empty_or_not_finite_are_counted(tmp_path: Path) -> None:
    slide = simulate_msi(tmp_path / "in", slides=1, shape=(10, 10), channels=30).slides[0]
    ibd = slide.path.with_suffix(".ibd")
    data = np.fromfile(ibd, np.uint8)
    spectra = data[16 + 30 * 8 :].view(np.float32).reshape(-1, 30)
    assert len(spectra) == slide.n_spectra
    spectra[3] = 0
    spectra[5, 7] = np.nan
    spectra[6, 2] = -np.inf
    data.tofile(ibd)
    row = mc.convert(slide.path, tmp_path / "s.zarr", verify=False).slides[0]
    assert (row.empty, row.nonfinite) == (1, 2)
    dataset = mc.open_study(tmp_path / "s.zarr")[slide.name]
    spectra = np.where(np.isfinite(spectra), spectra, 0).astype(np.float64)
    np.testing.assert_allclose(dataset.mean_spectrum, spectra.mean(axis=0))
    assert np.isfinite(dataset.max_spectrum).all()
    assert mc.validate(mc.open_study(tmp_path / "s.zarr"), sources=[slide.path]) == []


def test_only_one_index_is_held_at_a_time(
    simulation: SimulationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[SpectrumIndex]] = []
    most = 0
    original = sources.open_sources

    def watched(path: Path, *, on_error: OnError = "stop") -> list[CubeReader]:
        nonlocal most
        readers = original(path, on_error=on_error)
        alive.extend(weakref.ref(reader.index) for reader in readers)  # type: ignore[attr-defined]
        gc.collect()
        most = max(most, sum(index() is not None for index in alive))
        return readers

    monkeypatch.setattr(sources, "open_sources", watched)
    mc.convert(simulation.folder, tmp_path / "s.zarr", scheduler="synchronous")
    assert most <= 2  # the one that is being opened, and the tasks of the slide before
