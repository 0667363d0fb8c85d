from __future__ import annotations

import csv
import hashlib
import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyimzml.ImzMLParser import ImzMLParser
from threadpoolctl import threadpool_limits

from msicube.errors import UsageError
from msicube.simulate import SimulationReport, simulate_msi
from msicube.simulate.design import design_study
from msicube.simulate.parameters import Parameters
from msicube.simulate.slide import SlideModel, StudyModel
from msicube.simulate.spectra import TofAxis
from msicube.writers import ImzMLWriter

SMALL: dict[str, Any] = {"slides": 4, "shape": (16, 20), "channels": 300, "ions": 60, "markers": 8}


def parameters(**changes: Any) -> Parameters:
    defaults = {
        "slides": 4,
        "seed": 0,
        "shape": (24, 24),
        "channels": 400,
        "mz_range": (700.0, 900.0),
        "resolution": 2000.0,
        "mode": "continuous",
        "representation": "profile",
        "class_difference": 1.0,
        "patients": None,
        "ions": 80,
        "markers": 10,
        "patient_effect": 1.0,
        "batch_effect": 1.0,
        "holes": 1,
        "pixel_size": 50.0,
        "mz_dtype": "float64",
        "intensity_dtype": "float32",
    }
    return Parameters(**{**defaults, **changes})


def slide_models(wanted: Parameters) -> list[SlideModel]:
    study = StudyModel.draw(wanted)
    return [
        SlideModel.draw(study, design)
        for design in design_study(wanted.slides, patients=wanted.patients, seed=wanted.seed)
    ]


def whole_slide(slide: SlideModel) -> np.ndarray:
    return np.concatenate([slide.block(strip).counts for strip in slide.strips()])


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def read(path: Path) -> tuple[list[tuple[int, int, int]], list[np.ndarray], list[np.ndarray]]:
    with ImzMLParser(str(path)) as parser:
        spectra = [parser.getspectrum(i) for i in range(len(parser.coordinates))]
        return parser.coordinates, [mz for mz, _ in spectra], [intensity for _, intensity in spectra]


@pytest.mark.parametrize("intensity_dtype", ["float32", "int32"])
@pytest.mark.parametrize("representation", ["profile", "centroid"])
@pytest.mark.parametrize("mode", ["continuous", "processed"])
def test_every_kind_of_file_is_read_by_pyimzml(
    tmp_path: Path, mode: str, representation: str, intensity_dtype: str
) -> None:
    report = simulate_msi(
        tmp_path, **SMALL, mode=mode, representation=representation, intensity_dtype=intensity_dtype
    )
    assert [slide.name for slide in report.slides] == ["slide_001", "slide_002", "slide_003", "slide_004"]
    for slide in report.slides:
        with ImzMLParser(str(slide.path)) as parser:
            assert (parser.spectrum_mode, parser.polarity) == (representation, "positive")
            assert mode in parser.metadata.file_description.param_by_name
            assert parser.imzmldict["pixel size x"] == 50
            assert parser.imzmldict["max count of pixels x"] == 20
        pixels, mz, intensity = read(slide.path)
        assert len(pixels) == len(set(pixels)) == slide.n_spectra < 16 * 20
        assert all(1 <= x <= 20 and 1 <= y <= 16 for x, y, _ in pixels)
        assert [p[1::-1] for p in pixels] == sorted(p[1::-1] for p in pixels)
        assert all((np.diff(axis) > 0).all() and 699.9 < axis[0] < axis[-1] < 900.1 for axis in mz)
        assert all(
            i.dtype == intensity_dtype and (i >= 0).all() and (i == np.rint(i)).all() for i in intensity
        )
        lengths = {len(i) for i in intensity}
        if mode == "continuous":
            assert lengths == {report.n_channels}
            assert all(np.array_equal(axis, mz[0]) for axis in mz)
        else:
            assert len(lengths) > 5
            assert max(lengths) <= report.n_channels
            assert all((i > 0).all() for i in intensity)
    assert report.n_bytes == sum(p.stat().st_size for p in tmp_path.glob("slide_*"))


def test_a_processed_profile_keeps_its_channels_and_centroids_scatter_around_theirs(tmp_path: Path) -> None:
    axis = TofAxis((700.0, 900.0), 300, 2000)
    profile = simulate_msi(tmp_path / "profile", **SMALL, mode="processed")
    _, mz, _ = read(profile.slides[0].path)
    assert np.isin(np.concatenate(mz), axis.mz).all()
    centroid = simulate_msi(tmp_path / "centroid", **SMALL, mode="processed", representation="centroid")
    listed = StudyModel.draw(parameters(**SMALL)).peaks.mz
    _, mz, _ = read(centroid.slides[0].path)
    shift = json.loads(centroid.truth.read_text())["slides"]["slide_001"]["batch_effect"]["mass_shift"]
    observed = np.concatenate(mz) / (1 + 1e-6 * shift)
    nearest = listed[np.abs(observed[:, None] - listed).argmin(axis=1)]
    error = (observed - nearest) / axis.fwhm(nearest)
    assert np.abs(error).max() < 0.13
    assert error.std() == pytest.approx(0.03, rel=0.1)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for mode, representation in (("continuous", "profile"), ("processed", "centroid")):
        options = {**SMALL, "mode": mode, "representation": representation}
        for name, seed in (("one", 5), ("two", 5), ("other", 6)):
            simulate_msi(tmp_path / mode / name, seed=seed, **options)
        one, two, other = (hashes(tmp_path / mode / name) for name in ("one", "two", "other"))
        assert one == two
        assert not set(one.values()) & set(other.values())


def test_a_slide_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    few, many = (simulate_msi(tmp_path / str(n), **{**SMALL, "slides": n}).slides for n in (4, 9))
    for a, b in zip(few, many, strict=False):
        assert (a.label, a.patient, a.n_spectra) == (b.label, b.patient, b.n_spectra)
        for suffix in (".imzML", ".ibd"):
            assert a.path.with_suffix(suffix).read_bytes() == b.path.with_suffix(suffix).read_bytes()


def test_spectra_depend_neither_on_the_order_of_strips_nor_on_blas_threads() -> None:
    slide = slide_models(parameters(shape=(64, 40)))[1]
    strips = list(slide.strips())
    assert len(strips) > 4
    with threadpool_limits(1):
        forward = {strip.number: slide.block(strip) for strip in strips}
    backward = {strip.number: slide.block(strip) for strip in reversed(strips)}
    for strip in strips:
        for a, b in zip(forward[strip.number], backward[strip.number], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(11, 96), (8, 700), (40, 8)])
def test_strips_cover_the_slide_once_in_raster_order(shape: tuple[int, int]) -> None:
    slide, seen = slide_models(parameters(shape=shape))[0], np.zeros(shape, dtype=int)
    for strip in slide.strips():
        seen[strip.rows.start : strip.rows.stop, strip.columns.start : strip.columns.stop] += 1
        assert len(strip.rows) * len(strip.columns) <= 512
    assert (seen == 1).all()
    starts = [(strip.rows.start, strip.columns.start) for strip in slide.strips()]
    assert all(a < b for a, b in pairwise(starts))


def test_without_a_class_difference_the_label_changes_nothing() -> None:
    for difference, alike in ((0.0, True), (1.0, False)):
        tumour = slide_models(parameters(class_difference=difference))[0]
        assert tumour.design.label == "tumour"
        relabelled = SlideModel.draw(tumour.study, replace(tumour.design, label="normal"))
        assert np.array_equal(whole_slide(tumour), whole_slide(relabelled)) is alike


def test_the_truth_is_in_the_spectra() -> None:
    plain = parameters(
        patient_effect=0.0, batch_effect=0.0, class_difference=2.0, resolution=8000, channels=4000
    )
    tumour = slide_models(plain)[0]
    normal = SlideModel.draw(tumour.study, replace(tumour.design, label="normal"))
    chemistry, axis = tumour.study.chemistry, tumour.study.axis
    change = np.log(whole_slide(tumour).mean(axis=0) + 1) - np.log(whole_slide(normal).mean(axis=0) + 1)
    at_ions = change[np.abs(axis.mz[:, None] - chemistry.mz).argmin(axis=0)]
    marker = chemistry.effect != 0
    assert np.corrcoef(at_ions[marker], chemistry.effect[marker])[0, 1] > 0.8
    assert (np.sign(at_ions[marker]) == np.sign(chemistry.effect[marker])).mean() > 0.8
    assert np.median(np.abs(at_ions[~marker])) < 0.1 * np.median(np.abs(at_ions[marker]))


def test_patients_and_batches_make_slides_of_one_class_differ() -> None:
    def distance(a: SlideModel, b: SlideModel) -> float:
        return float(np.abs(np.log(a.abundance / b.abundance)).mean())

    first, paired, other = (
        SlideModel.draw(model.study, replace(model.design, label="normal"))
        for model in slide_models(parameters())[:3]
    )
    assert first.design.patient == paired.design.patient != other.design.patient
    assert distance(first, other) > 2 * distance(first, paired) > 0
    assert first.effect != other.effect
    alike = slide_models(parameters(patient_effect=0.0, batch_effect=0.0, class_difference=0.0))
    assert distance(alike[0], alike[2]) == 0
    assert alike[0].effect == alike[2].effect


def test_samples_and_truth_say_what_was_done(tmp_path: Path) -> None:
    done: list[str] = []
    report = simulate_msi(tmp_path, **SMALL, class_difference=0.5, seed=3, progress=done.append)
    with report.samples.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["slide", "label", "patient", "split"]] * 4
    assert [tuple(r.values()) for r in rows] == [(s.name, s.label, s.patient, s.split) for s in report.slides]
    assert done == [row["slide"] for row in rows]
    truth = json.loads(report.truth.read_text())
    assert truth["parameters"]["seed"] == 3
    assert truth["parameters"]["shape"] == [16, 20]
    assert (len(truth["ions"]), len(truth["markers"])) == (60, 8)
    chemistry = StudyModel.draw(parameters(**SMALL, seed=3)).chemistry
    expected = dict(zip(chemistry.names, 0.5 * chemistry.effect, strict=True))
    assert all(marker["log_fold_change"] == expected[marker["name"]] for marker in truth["markers"])
    assert list(truth["slides"]) == done
    with ImzMLParser(str(report.slides[0].path)) as parser:
        identity = parser.metadata.file_description["IMS:1000080"]
    assert identity == f"{{{truth['slides']['slide_001']['uuid']}}}".upper()


def test_existing_files_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    simulate_msi(tmp_path, **SMALL)
    for path in tmp_path.glob("slide*"):
        path.unlink()
    before = hashes(tmp_path)
    with pytest.raises(UsageError, match=r"2 of the 10 files already, such as samples\.csv"):
        simulate_msi(tmp_path, **SMALL, seed=1)
    assert hashes(tmp_path) == before
    simulate_msi(tmp_path, **SMALL, seed=1, overwrite=True)
    assert len(hashes(tmp_path)) == 10
    assert json.loads((tmp_path / "truth.json").read_text())["parameters"]["seed"] == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make the folder"):
        simulate_msi(tmp_path / "file" / "study", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slides": 0}, "slides"),
        ({"seed": -1}, "seed=-1"),
        ({"shape": (4, 50)}, "at least 8"),
        ({"channels": 0}, "channels=0"),
        ({"mz_range": (900, 700)}, "the lower one first"),
        ({"resolution": 0}, "FWHM"),
        ({"mode": "both"}, "continuous or processed"),
        ({"representation": "raw"}, "profile or centroid"),
        ({"class_difference": float("nan")}, "finite"),
        ({"patient_effect": -1}, "patient_effect"),
        ({"batch_effect": float("inf")}, "batch_effect"),
        ({"holes": -1}, "holes"),
        ({"pixel_size": 0}, "pixel_size"),
        ({"mz_dtype": "int32"}, "float32 or float64"),
        ({"intensity_dtype": "sixteen"}, "intensity_dtype='sixteen'"),
        ({"markers": 61}, "61 markers"),
        ({"mz_range": (700, 703)}, "holds up to 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate_msi(tmp_path / "study", **{**SMALL, **options})
    assert not (tmp_path / "study").exists()


def test_memory_depends_neither_on_the_size_nor_on_the_number_of_slides(tmp_path: Path) -> None:
    def peak(**options: Any) -> int:
        name = "-".join(map(str, options.values()))
        tracemalloc.start()
        simulate_msi(tmp_path / name, channels=800, ions=60, markers=5, **options)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    one = peak(slides=1, shape=(32, 64))
    # The taller slide holds ten times as much, more than 40 MB; a strip takes a few.
    assert peak(slides=1, shape=(320, 64)) < one + 2**20
    assert peak(slides=5, shape=(32, 64)) < one + 2**20
    assert one < 24 * 2**20


def test_an_interrupted_slide_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ImzMLWriter.write_block

    def interrupted(writer: ImzMLWriter, y: Any, x: Any, intensity: Any) -> None:
        if writer.path.stem == "slide_002":
            raise KeyboardInterrupt
        whole(writer, y, x, intensity)

    monkeypatch.setattr(ImzMLWriter, "write_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_msi(tmp_path, **SMALL)
    assert sorted(hashes(tmp_path)) == ["slide_001.ibd", "slide_001.imzML"]


def spectra_of(report: SimulationReport, split: str) -> tuple[np.ndarray, np.ndarray]:
    slides = [slide for slide in report.slides if slide.split == split]
    blocks = [np.array(read(slide.path)[2]) for slide in slides]
    shares = np.concatenate([np.log1p(1e4 * b / b.sum(axis=1, keepdims=True)) for b in blocks])
    return shares, np.repeat([s.label == "tumour" for s in slides], [len(b) for b in blocks])


def test_the_classes_of_held_out_patients_can_be_learned(tmp_path: Path) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.preprocessing import StandardScaler

    report = simulate_msi(tmp_path, slides=20, shape=(24, 24), channels=800)
    train, labels = spectra_of(report, "train")
    test, truth = spectra_of(report, "test")
    scaler = StandardScaler().fit(train)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(scaler.transform(train), labels)
    assert 0.7 < model.score(scaler.transform(test), truth) < 0.99
