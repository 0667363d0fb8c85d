"""Infrared images into a study: what is stored, what is refused before anything is written, and going on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import agilent_format
import numpy as np
import pytest
import xarray as xr
from agilent_files import axis_of, random_cube, write_mosaic, write_single
from processed_helpers import write_processed

import msicube as mc
from msicube.conversion import plan
from msicube.conversion.xarray_engine import AgilentBackend, EnviBackend, ImzMLBackend, MatlabBackend
from msicube.errors import AxisMismatch, CorruptSource, SlideExists, UnknownFormat, UsageError
from msicube.readers import open_source
from msicube.readers.agilent.spectra import AgilentSpectra
from msicube.simulate import SimulationReport
from msicube.stream import PatchStream, SpectrumStream
from msicube.tiling import Window


def slides(
    folder: Path, n: int = 2, shape: tuple[int, int, int] = (8, 12, 60), **master: object
) -> list[Path]:
    return [
        write_mosaic(folder / f"s{i}", random_cube(shape, i), edge=4, stem=f"S{i}", **master)
        for i in range(n)
    ]


def test_a_real_mosaic_becomes_a_slide(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ftir/agilent"
    report = mc.convert(source, tmp_path / "s.zarr", samples={"5_mosaic_agg1024": {"label": "beads"}})
    assert [(row.slide, row.status, row.channels) for row in report.slides] == [
        ("4_noimage_agg256", "converted", 9),
        ("5_mosaic_agg1024", "converted", 9),
    ]
    assert report.slides[1].source_bytes == 2 * 1596 + 17920
    study = mc.open_study(tmp_path / "s.zarr")
    assert study.modality == "ftir"
    slide = study["5_mosaic_agg1024"]
    oracle = agilent_format.agilentMosaic(str(source / "5_mosaic_agg1024.dmt"), MAT=True)
    np.testing.assert_array_equal(slide.intensity, oracle.data)
    np.testing.assert_array_equal(slide.wavenumber, oracle.wavenumbers)
    np.testing.assert_array_equal(slide.y, 176 * (np.arange(8) + 0.5))
    assert slide.attrs["sample"] == {"label": "beads"}
    assert slide.attrs["source"]["geometry"]["flips"]
    for independent in (False, True):
        assert mc.validate(study, sources=[source], independent=independent) == []


@pytest.mark.parametrize("engine", [AgilentBackend, "agilent"])
def test_a_lazy_mosaic_is_the_slide_it_would_become(tmp_path: Path, engine: object) -> None:
    (path,) = slides(tmp_path, 1)
    (path.parent / "S0_0002_0001.dmd").unlink()
    mc.convert(path, tmp_path / "s.zarr", crop=(905, 960), shard_size="16 KiB")
    slide = mc.open_study(tmp_path / "s.zarr")["s0"]
    with xr.open_dataset(path, engine=engine, crop="905:960") as lazy:
        assert set(lazy.variables) == set(slide.variables)
        for name in slide.variables:
            np.testing.assert_allclose(lazy[name], slide[name], rtol=1e-12)
            assert (lazy[name].attrs, lazy[name].dtype) == (slide[name].attrs, slide[name].dtype)
        assert lazy.attrs["axis"] == slide.attrs["axis"]
        chunked = pickle.loads(pickle.dumps(lazy.chunk({"y": 3, "x": 5})))
        np.testing.assert_array_equal(chunked.intensity, slide.intensity)
        assert np.isnan(lazy.intensity[4:, 8:]).all()


def test_a_lazy_band_reads_only_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = slides(tmp_path, 1)
    read: list[slice] = []
    original = AgilentSpectra.read
    monkeypatch.setattr(
        AgilentSpectra, "read", lambda self, window, part: read.append(part) or original(self, window, part)
    )
    lazy = xr.open_dataset(path.parent, engine=AgilentBackend)
    image = lazy.intensity.sel(wavenumber=axis_of(60)[17] + 0.1, method="nearest")
    assert read == []
    np.testing.assert_array_equal(image, random_cube((8, 12, 60))[:, :, 17])
    assert read == [slice(17, 18)]
    picked = lazy.intensity.isel(channel=[40, 31, 35], x=3)
    np.testing.assert_array_equal(picked, random_cube((8, 12, 60))[:, 3, [40, 31, 35]])
    assert read[1:] == [slice(31, 41)]


def test_engines_take_their_own_format_only(tmp_path: Path, simulation: SimulationReport) -> None:
    (path,) = slides(tmp_path, 1)
    with pytest.raises(UnknownFormat, match="no file of the format ENVI"):
        xr.open_dataset(path, engine=EnviBackend)
    with pytest.raises(UnknownFormat, match="no file of the format imzML"):
        xr.open_dataset(path, engine=ImzMLBackend)
    assert AgilentBackend().guess_can_open(path)
    assert AgilentBackend().guess_can_open("X_0000_0000.DMD")
    assert not AgilentBackend().guess_can_open("x.dat")
    assert not EnviBackend().guess_can_open("x.hdr")
    imzml = simulation.slides[0].path
    axis = open_source(imzml).info.axis
    assert axis is not None
    lazy = xr.open_dataset(imzml, engine=ImzMLBackend, crop=(axis[20], axis[29]))
    np.testing.assert_array_equal(lazy.mz, axis[20:30])


def test_one_of_several_cubes_is_named(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ftir/matlab/cytospec.mat"
    mc.convert(source, tmp_path / "s.zarr")
    study = mc.open_study(tmp_path / "s.zarr")
    assert list(study) == ["cytospec_b1", "cytospec_b2"]
    for name in study:
        with xr.open_dataset(source, engine=MatlabBackend, cube=name) as lazy:
            np.testing.assert_array_equal(lazy.intensity, study[name].intensity)
            assert lazy.attrs["source"]["block"] == study[name].attrs["source"]["block"]
    for wrong in (None, "cytospec"):
        with pytest.raises(UsageError, match="cytospec_b1, cytospec_b2"):
            xr.open_dataset(source, engine=MatlabBackend, cube=wrong)


def test_missing_tiles_are_nan_masked_reported_and_never_streamed(tmp_path: Path) -> None:
    (path,) = slides(tmp_path, 1)
    (path.parent / "S0_0001_0000.dmd").unlink()
    os.truncate(path.parent / "S0_0000_0001.dmd", 2000)
    cube = random_cube((8, 12, 60))
    cube[:4, 4:8] = cube[4:, :4] = np.nan
    report = mc.convert(path, tmp_path / "s.zarr", shard_size="8 KiB")
    (row,) = report.slides
    assert (row.spectra, row.masked, row.nonfinite) == (64, 32, 0)
    assert any("s0_0001_0000.dmd" in remark for remark in row.remarks)
    assert any("S0_0000_0001.dmd has 2000 of" in remark for remark in row.remarks)
    study = mc.open_study(tmp_path / "s.zarr")
    np.testing.assert_array_equal(study.cube("s0")[...], cube)
    plain = xr.open_zarr(tmp_path / "s.zarr", group="s0", consolidated=False)
    np.testing.assert_array_equal(plain.intensity, cube)
    np.testing.assert_array_equal(study["s0"].total_ion_current, np.nansum(cube.astype(float), axis=2))
    np.testing.assert_allclose(study["s0"].mean_spectrum, np.nanmean(cube.astype(float), axis=(0, 1)))
    np.testing.assert_array_equal(study["s0"].max_spectrum, np.nanmax(cube, axis=(0, 1)))
    assert mc.validate(study, sources=[path]) == []
    features = mc.Standardize().fit(study).transform(study)["s0"].features.to_numpy()
    acquired = study.acquired("s0")
    assert np.isfinite(features).all()
    assert not features[~acquired].any()
    batches = list(SpectrumStream(study, batch_size=16, labels=None))
    spectra = np.concatenate([np.asarray(batch["spectra"]) for batch in batches])
    np.testing.assert_array_equal(np.unique(spectra, axis=0), np.unique(cube[acquired], axis=0))
    patches = np.concatenate(
        [np.asarray(b["patches"]) for b in PatchStream(study, size=4, batch_size=4, labels=None)]
    )
    assert np.isfinite(patches).all()


def test_nan_that_was_measured_stays_and_is_counted(tmp_path: Path) -> None:
    cube = random_cube((4, 4, 20))
    cube[1, 2, 3] = cube[3, 3] = np.nan
    report = mc.convert(write_single(tmp_path / "in", cube), tmp_path / "s.zarr")
    study = mc.open_study(tmp_path / "s.zarr")
    assert (report.slides[0].spectra, report.slides[0].nonfinite) == (16, 2)
    assert study.acquired("tile").all()
    np.testing.assert_array_equal(study.cube("tile")[...], cube)
    assert mc.validate(study, sources=[tmp_path / "in"]) == []


def test_validation_finds_what_was_changed(tmp_path: Path) -> None:
    (path,) = slides(tmp_path, 1)
    mc.convert(path, tmp_path / "s.zarr", crop="910:950")
    data = bytearray((path.parent / "S0_0001_0001.dmd").read_bytes())
    data[1020 + 4 * 16 * 15] ^= 1
    (path.parent / "S0_0001_0001.dmd").write_bytes(data)
    (finding,) = mc.validate(mc.open_study(tmp_path / "s.zarr"), sources=[path])
    assert "1 spectra of" in str(finding)
    assert "y=7, x=4" in str(finding)
    metadata = tmp_path / "s.zarr/s0/intensity/zarr.json"
    metadata.write_text(metadata.read_text().replace('"fill_value": "NaN"', '"fill_value": 0.0'))
    assert "fill value 0, expected nan" in str(mc.validate(mc.open_study(tmp_path / "s.zarr"))[0])


def test_one_study_holds_one_modality(tmp_path: Path, simulation: SimulationReport) -> None:
    (path,) = slides(tmp_path, 1)
    with pytest.raises(UsageError, match=r"one modality, found ftir .* and msi"):
        mc.convert([path, simulation.slides[0].path], tmp_path / "s.zarr", on_error="continue")
    assert not (tmp_path / "s.zarr").exists()
    mc.convert(path, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match=r"found ftir \(the study .* and msi"):
        mc.convert(simulation.slides[0].path, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match="--mz-axis"):
        mc.convert(path, tmp_path / "t.zarr", mz_axis="ppm:20")
    with pytest.raises(UsageError, match="--wavenumber-axis"):
        mc.convert(simulation.slides[0].path, tmp_path / "t.zarr", wavenumber_axis="first")


def test_different_axes_are_one_error_before_anything_is_written(tmp_path: Path) -> None:
    (a,) = slides(tmp_path / "a", 1)
    b = write_mosaic(
        tmp_path / "b", random_cube((4, 4, 30), 5), edge=4, stem="B", step=15798.0039 / 4096, start=236
    )
    with pytest.raises(AxisMismatch) as error:
        mc.convert([a, b], tmp_path / "s.zarr", on_error="continue")
    text = str(error.value)
    assert "s0 goes from 900.5942165 to 1014.373786 cm^-1 in 60 channels, 1.92847 apart" in text
    assert "b goes from 910.2365528 to 1022.087655 cm^-1 in 30 channels, 3.85693 apart" in text
    assert "--wavenumber-axis" in text
    assert not (tmp_path / "s.zarr").exists()
    mc.convert(a, tmp_path / "s.zarr")
    with pytest.raises(AxisMismatch, match="the study's s0 goes"):
        mc.convert(b, tmp_path / "s.zarr")
    # A crop that the study does not have.
    with pytest.raises(AxisMismatch, match=r"60 channels.*; s0 goes from .* in 11 channels"):
        mc.convert(a, tmp_path / "s.zarr", crop="910:930")
    assert mc.convert(a, tmp_path / "s.zarr").slides[0].status == "present"


def test_a_crop_makes_axes_one(tmp_path: Path) -> None:
    (a,) = slides(tmp_path / "a", 1)
    b = write_mosaic(tmp_path / "b", random_cube((4, 4, 30), 5), edge=4, stem="B", start=477)
    mc.convert([a, b], tmp_path / "s.zarr", crop=(925, 960))
    study = mc.open_study(tmp_path / "s.zarr")
    axis = axis_of(60)
    inside = (axis >= 925) & (axis <= 960)
    np.testing.assert_array_equal(study.axis("b"), axis[inside])
    np.testing.assert_array_equal(study.cube("s0")[...], random_cube((8, 12, 60))[..., inside])
    np.testing.assert_array_equal(study.cube("b")[...], random_cube((4, 4, 30), 5)[..., inside[10:40]])
    assert study.slide_attrs["b"]["axis"]["crop"] == [axis[inside][0], axis[inside][-1]]
    assert mc.validate(study, sources=[a, b]) == []


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_a_stated_axis_is_interpolated_and_recorded(tmp_path: Path, method: str) -> None:
    (a,) = slides(tmp_path / "a", 1)
    (a.parent / "S0_0000_0000.dmd").unlink()
    b = write_mosaic(
        tmp_path / "b", random_cube((4, 4, 30), 5), edge=4, stem="B", step=15798.0039 / 4096, start=236
    )
    report = mc.convert(
        [a, b], tmp_path / "s.zarr", wavenumber_axis="912:1000:1.5", interpolation=method, shard_size="8 KiB"
    )  # type: ignore[arg-type]
    assert [row.channels for row in report.slides] == [59, 59]
    study = mc.open_study(tmp_path / "s.zarr")
    target = 912 + 1.5 * np.arange(59)
    np.testing.assert_array_equal(study.axis("b"), target)
    for name, cube, axis in (
        ("s0", random_cube((8, 12, 60)), axis_of(60)),
        ("b", random_cube((4, 4, 30), 5), axis_of(30, step=15798.0039 / 4096, start=236)),
    ):
        stored, acquired = study.cube(name)[...], study.acquired(name)
        assert stored.dtype == np.float32
        assert np.isnan(stored[~acquired]).all()
        for y, x in np.argwhere(acquired)[::7]:
            if method == "linear":
                expected = np.interp(target, axis, cube[y, x])
            else:
                from scipy.interpolate import make_interp_spline

                expected = make_interp_spline(axis, cube[y, x].astype(float), k=3)(target)
            np.testing.assert_allclose(stored[y, x], expected, rtol=1e-5, atol=1e-6)
        attrs = study.slide_attrs[name]["axis"]
        assert attrs["law"] == f"resampled:{method}"
        assert attrs["interpolation"] == method
        assert attrs["source_axis"] == {"first": axis[0], "last": axis[-1], "channels": len(axis)}
    assert mc.validate(study, sources=[a, b]) == []


def test_the_axis_of_the_first_or_of_a_slide_or_of_a_file(tmp_path: Path) -> None:
    (a,) = slides(tmp_path / "a", 1)
    b = write_mosaic(
        tmp_path / "b", random_cube((4, 4, 100), 5), edge=4, stem="B", step=15798.0039 / 16384, start=930
    )
    for asked in ("first", "slide:s0"):
        study = tmp_path / f"{asked[:2]}.zarr"
        mc.convert([a, b], study, wavenumber_axis=asked, crop="902:980")
        opened = mc.open_study(study)
        axis = axis_of(60)
        kept = (axis >= 902) & (axis <= 980)
        np.testing.assert_array_equal(opened.axis("b"), axis[kept])
        # On its own axis a slide is kept bit for bit, and that is what is recorded.
        np.testing.assert_array_equal(opened.cube("s0")[...], random_cube((8, 12, 60))[..., kept])
        assert opened.slide_attrs["s0"]["axis"]["law"] == "observed"
        assert mc.validate(opened, sources=[a, b]) == []
    listed = tmp_path / "axis.txt"
    listed.write_text("960\n950\n930.5\n")
    mc.convert([a, b], tmp_path / "f.zarr", wavenumber_axis=listed)
    np.testing.assert_array_equal(mc.open_study(tmp_path / "f.zarr").axis("b"), [930.5, 950, 960])
    # What comes later joins the axis of the study.
    c = write_mosaic(tmp_path / "c", random_cube((4, 4, 100), 6), edge=4, stem="C", step=1.1, start=820)
    mc.convert(c, tmp_path / "f.zarr", wavenumber_axis="first")
    np.testing.assert_array_equal(mc.open_study(tmp_path / "f.zarr").axis("c"), [930.5, 950, 960])
    with pytest.raises(AxisMismatch, match=r"the axis 910:950:2 goes from 910 to 950"):
        mc.convert(c, tmp_path / "f.zarr", wavenumber_axis="910:950:2")


def test_nothing_is_extrapolated(tmp_path: Path) -> None:
    a, b = slides(tmp_path, 2)
    with pytest.raises(
        UsageError, match=r"from 890 to 950 goes beyond s0, .* from 900\.5942165 to 1014\.373786"
    ):
        mc.convert([a, b], tmp_path / "s.zarr", wavenumber_axis="890:950:2")
    report = mc.convert([a, b], tmp_path / "s.zarr", wavenumber_axis="902:1020:2", on_error="continue")
    assert len(report.failed) == 2
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("crop", "900-1800", "no range"),
        ("crop", (5, 3), "no range"),
        ("crop", "1:2", "no channel"),
        ("wavenumber_axis", "900:800:1", "no wavenumber axis"),
        ("wavenumber_axis", "900:1800:0", "no wavenumber axis"),
        ("wavenumber_axis", "0:1e9:1e-3", "wider step"),
        ("wavenumber_axis", "slide:none", "no source and no slide"),
        ("wavenumber_axis", "no-such-file", "no wavenumber axis"),
        ("interpolation", "nearest", "choose one of linear, cubic"),
    ],
)
def test_wrong_wishes_are_refused(tmp_path: Path, option: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mc.convert(slides(tmp_path, 1), tmp_path / "s.zarr", **{option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "s.zarr").exists()


def test_crops_of_mass_spectra(tmp_path: Path, simulation: SimulationReport) -> None:
    path = simulation.slides[0].path
    axis = open_source(path).info.axis
    assert axis is not None
    mc.convert(path, tmp_path / "c.zarr", crop=(axis[30], axis[80]))
    study = mc.open_study(tmp_path / "c.zarr")
    reader = open_source(path)
    whole = reader.read_tile(Window(0, reader.info.shape[0], 0, reader.info.shape[1])).values
    np.testing.assert_array_equal(study.cube(path.stem)[...], whole[..., 30:81])
    for independent in (False, True):
        assert mc.validate(study, sources=[path], independent=independent) == []
    write_processed(tmp_path / "in/one.imzML")
    write_processed(tmp_path / "in/two.imzML")
    mc.convert(tmp_path / "in/one.imzML", tmp_path / "w.zarr", mz_axis="da:1")
    report = mc.convert(tmp_path / "in/one.imzML", tmp_path / "p.zarr", mz_axis="da:1", crop="150:350")
    wide, narrow = mc.open_study(tmp_path / "w.zarr"), mc.open_study(tmp_path / "p.zarr")
    kept = (wide.axis("one") >= 150) & (wide.axis("one") <= 350)
    np.testing.assert_array_equal(narrow.axis("one"), wide.axis("one")[kept])
    np.testing.assert_array_equal(narrow.cube("one")[...], wide.cube("one")[...][..., kept])
    assert report.slides[0].out_of_range > 0
    assert narrow.peaks("one").lengths.sum() == wide.peaks("one").lengths.sum()  # type: ignore[union-attr]
    for independent in (False, True):
        assert mc.validate(narrow, sources=[tmp_path / "in/one.imzML"], independent=independent) == []
    mc.convert(tmp_path / "in", tmp_path / "p.zarr")  # joins the channels of the study
    np.testing.assert_array_equal(mc.open_study(tmp_path / "p.zarr").axis("two"), narrow.axis("one"))
    write_processed(tmp_path / "in/three.imzML")
    with pytest.raises(AxisMismatch, match="would cut"):
        mc.convert(tmp_path / "in", tmp_path / "p.zarr", crop="200:300")


def test_another_mosaic_of_the_name_is_refused(tmp_path: Path) -> None:
    (path,) = slides(tmp_path, 1)
    mc.convert(path, tmp_path / "s.zarr")
    (path.parent / "S0_0001_0001.dmd").unlink()
    with pytest.raises(SlideExists, match="differ in spectra, tiles"):
        mc.convert(path, tmp_path / "s.zarr")


def test_a_killed_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path / "in", random_cube((48, 48, 200)), edge=16, stem="Big")
    code = (
        "import sys, msicube as mc\n"
        f"mc.convert({str(path)!r}, {str(tmp_path / 's.zarr')!r}, shard_size='32 KiB', scheduler='synchronous',\n"
        "           crop=(910, 1200), progress=lambda slide, done, total: print(done, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    for line in process.stdout:
        assert time.monotonic() < deadline
        if int(line) >= 6:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done: list[int] = []
    mc.convert(
        path,
        tmp_path / "s.zarr",
        shard_size="32 KiB",
        crop=(910, 1200),
        progress=lambda _, n, __: done.append(n),
    )
    assert done[0] >= 5
    assert mc.validate(mc.open_study(tmp_path / "s.zarr"), sources=[path]) == []


def test_wrong_tiles_stop_or_are_reported(tmp_path: Path) -> None:
    good, bad = slides(tmp_path, 2)
    (bad.parent / "S1_0000_0000.dmd").write_bytes(b"something else" * 200)
    with pytest.raises(CorruptSource, match="expected 00724700"):
        mc.convert([good, bad], tmp_path / "a.zarr")
    assert mc.convert([good, bad], tmp_path / "b.zarr", on_error="continue").failed[0].slide == "s1"
    report = mc.convert([good, bad], tmp_path / "c.zarr", on_error="report")
    assert report.slides[1].masked == 16
    assert mc.validate(mc.open_study(tmp_path / "c.zarr"), sources=[tmp_path / "s0", tmp_path / "s1"]) == []


def msicube(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "msicube.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line(tmp_path: Path) -> None:
    slides(tmp_path / "in", 2)
    samples = tmp_path / "samples.csv"
    samples.write_text("slide,label\ns0,a\ns1,b\n")
    common = (tmp_path / "in", tmp_path / "s.zarr", "--crop", "905:1000", "--samples", samples)
    dry = msicube("convert", *common, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert [row["shape"] for row in json.loads(dry.stdout)["slides"]] == [[8, 12, 49]] * 2
    assert not (tmp_path / "s.zarr").exists()
    assert plan(tmp_path / "in", tmp_path / "s.zarr", crop=(905, 1000)).slides[0].shape == (8, 12, 49)
    assert msicube("convert", *common).returncode == 0
    assert mc.open_study(tmp_path / "s.zarr").samples["label"].tolist() == ["a", "b"]
    checked = msicube("validate", tmp_path / "s.zarr", "--source", tmp_path / "in")
    assert checked.returncode == 0, checked.stderr
    told = msicube("info", tmp_path / "in/s0", "--json")
    assert json.loads(told.stdout)["shape"] == {"y": 8, "x": 12}
    wrong = msicube("convert", *common[:2], "--crop", "9")
    assert wrong.returncode == 2
    assert "LOWER:UPPER" in wrong.stderr


def test_an_independent_check_covers_gaps_crops_and_interpolation(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "ftir/agilent").glob("5_*"):
        if path.suffix != ".drd":
            shutil.copyfile(path, tmp_path / path.name)
    os.truncate(tmp_path / "5_Mosaic_agg1024_0000_0001.dmd", 1500)
    for name, options in {
        "a": {"crop": (2000, 2100)},
        "b": {"wavenumber_axis": "2000:2100:7.5"},
        "c": {"wavenumber_axis": "2000:2100:7.5", "interpolation": "cubic"},
    }.items():
        mc.convert(tmp_path / "5_mosaic_agg1024.dmt", tmp_path / f"{name}.zarr", **options)  # type: ignore[arg-type]
        study = mc.open_study(tmp_path / f"{name}.zarr")
        assert study.acquired("5_mosaic_agg1024").sum() == 16
        assert mc.validate(study, sources=[tmp_path / "5_mosaic_agg1024.dmt"], independent=True) == []
