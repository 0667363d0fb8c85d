"""Exported imzML against pyimzML, and back again through conversion."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processed_helpers import write_processed
from pyimzml.ImzMLParser import ImzMLParser

import msicube as mc
from msicube.conversion import exporting
from msicube.errors import CorruptStore, UnknownSlide, UsageError
from msicube.readers import open_source
from msicube.simulate import SimulationReport, simulate_msi
from msicube.store import Study
from msicube.writers import ImzMLWriter

REAL = [
    "galaxy/Combat_40pixel",
    "galaxy/spatial_DGMM_input",
    "pyimzml/Example_Continuous",
    "pyimzml/Example_Processed",
]


def content(path: Path) -> tuple[list[tuple[Any, bytes, str, bytes, str]], dict[str, Any]]:
    """Return positions and the bits of every spectrum, and what the file says of itself, through pyimzML."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ImzMLParser(str(path))
    spectra = []
    for number, position in enumerate(parser.coordinates):
        mz, intensity = (np.asarray(array) for array in parser.getspectrum(number))
        spectra.append((position, mz.tobytes(), mz.dtype.name, intensity.tobytes(), intensity.dtype.name))
    parser.m.close()
    said = {key: parser.imzmldict.get(key) for key in ("pixel size x", "pixel size y")}
    return spectra, {**said, "polarity": parser.polarity, "representation": parser.spectrum_mode}


@pytest.mark.parametrize(
    ("mz_dtype", "intensity_dtype", "order"),
    [("float64", "float32", "rows"), ("float32", "float64", "random"), ("float64", "int32", "random")],
)
def test_processed_there_and_back(tmp_path: Path, mz_dtype: str, intensity_dtype: str, order: str) -> None:
    path = tmp_path / "in" / "one.imzML"
    write_processed(
        path, mz_dtype=mz_dtype, intensity_dtype=intensity_dtype, order=order, polarity="negative"
    )
    mc.convert(path, tmp_path / "s.zarr", mz_axis="da:2", shard_size="16 KiB")
    (tmp_path / "out").mkdir()
    back = tmp_path / "out" / "one.imzML"
    report = mc.export(tmp_path / "s.zarr", "one", back)
    assert (report.origin, report.remarks) == ("peaks", ())
    assert content(back) == content(path)
    mc.convert(back, tmp_path / "t.zarr", mz_axis="da:2")
    first, second = mc.open_study(tmp_path / "s.zarr"), mc.open_study(tmp_path / "t.zarr")
    np.testing.assert_array_equal(first.cube("one")[...], second.cube("one")[...])
    assert mc.validate(first, sources=[path]) == []
    assert mc.validate(second, sources=[path]) == [], "the exported file is the source, peak for peak"


def test_continuous_there_and_back(
    study: Study, simulation: SimulationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 30_000)
    for slide in simulation.slides[:2]:
        back = tmp_path / f"{slide.name}.imzML"
        report = mc.export(study, slide.name, back)
        assert (report.origin, report.spectra, report.remarks) == ("intensity", slide.n_spectra, ())
        assert content(back) == content(slide.path)
        assert mc.validate(study, slides=[slide.name], sources=[back]) == []


def test_the_real_files_come_back(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "imzml"
    for name in REAL:
        path = folder / f"{name}.imzML"
        mc.convert(path, tmp_path / "s.zarr")
        mc.export(tmp_path / "s.zarr", path.stem, tmp_path / path.name)
        before, after = content(path), content(tmp_path / path.name)
        offset = np.subtract(after[0][0][0], before[0][0][0])
        assert [s[1:] for s in after[0]] == [s[1:] for s in before[0]]
        assert [tuple(np.add(s[0], offset)) for s in before[0]] == [s[0] for s in after[0]]
        info, again = open_source(path).info, open_source(tmp_path / path.name).info
        assert again.source["origin"] == {key: max(1, value) for key, value in info.source["origin"].items()}
        assert again.source["representation"] == info.source["representation"]
        assert (again.pixel_size is None) == (info.pixel_size is None)


def test_positions_that_do_not_begin_at_one(tmp_path: Path) -> None:
    path = tmp_path / "in.imzML"
    with ImzMLWriter(path, shape=(20, 80), mz=[100.0, 200.0], representation=None) as writer:
        writer.write_block([12, 12, 13], [61, 60, 65], np.arange(6.0).reshape(3, 2))
    mc.convert(path, tmp_path / "s.zarr")
    assert mc.open_study(tmp_path / "s.zarr").cube("in").shape == (2, 6, 2)
    mc.export(tmp_path / "s.zarr", "in", tmp_path / "out.imzML")
    assert content(tmp_path / "out.imzML") == content(path)
    assert [place[:2] for place, *_ in content(path)[0]] == [(62, 13), (61, 13), (66, 14)]


def test_without_peaks_the_binned_spectra_are_written_and_it_is_said(tmp_path: Path) -> None:
    write_processed(tmp_path / "one.imzML")
    mc.convert(tmp_path / "one.imzML", tmp_path / "s.zarr", mz_axis="da:2", keep_peaks=False)
    report = mc.export(tmp_path / "s.zarr", "one", tmp_path / "out.imzML")
    assert report.origin == "intensity"
    assert "binned spectra" in report.remarks[0]
    mc.convert(tmp_path / "out.imzML", tmp_path / "t.zarr")
    study, again = mc.open_study(tmp_path / "s.zarr"), mc.open_study(tmp_path / "t.zarr")
    np.testing.assert_array_equal(again.cube("out")[...], study.cube("one")[...])
    np.testing.assert_array_equal(again.axis("out"), study.axis("one"))


def test_whole_or_nothing(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "s.zarr")
    broken = mc.open_study(tmp_path / "s.zarr")
    for shard in (tmp_path / "s.zarr" / study.slides[0] / "intensity" / "c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:-1])
    (tmp_path / "out").mkdir()
    with pytest.raises(CorruptStore):
        mc.export(broken, study.slides[0], tmp_path / "out" / "x.imzML")
    assert list((tmp_path / "out").iterdir()) == []
    mc.export(study, study.slides[0], tmp_path / "out" / "x.imzML")
    with pytest.raises(UsageError, match="already"):
        mc.export(study, study.slides[0], tmp_path / "out" / "x.imzML")
    mc.export(study, study.slides[1], tmp_path / "out" / "x.imzML", overwrite=True)
    with pytest.raises(UnknownSlide):
        mc.export(study, "nine", tmp_path / "out" / "y.imzML")


def test_memory_does_not_grow_with_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = simulate_msi(tmp_path / "in", slides=1, shape=(70, 70), channels=500).slides[0]
    mc.convert(slide.path, tmp_path / "s.zarr", shard_size="256 KiB")
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 2**18)
    study = mc.open_study(tmp_path / "s.zarr")
    assert slide.n_bytes > 20 * 2**18
    mc.export(study, slide.name, tmp_path / "out.imzML")  # imports what it needs
    tracemalloc.start()
    mc.export(study, slide.name, tmp_path / "out.imzML", overwrite=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**18


def test_the_command_line(study: Study, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "msicube.cli",
        "export",
        study.path,
        study.slides[0],
        str(tmp_path / "x.imzML"),
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["origin"] == "intensity"
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
