from __future__ import annotations

import csv
import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agilent_format import agilentMosaic
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from msicube.errors import UsageError
from msicube.simulate import SimulationReport, ftir_masks, simulate_ftir
from msicube.simulate.design import random_stream
from msicube.simulate.ftir_bands import AMOUNT_EFFECTS, BANDS, CLASSES, MOLECULES, SHIFT_EFFECTS, SUBTYPES
from msicube.simulate.ftir_design import design_cores
from msicube.simulate.ftir_optics import extinction, noise_level
from msicube.simulate.ftir_parameters import FTIRParameters, default_tile_size
from msicube.simulate.ftir_slide import FTIRSlideModel, FTIRStudyModel
from msicube.simulate.ftir_tissue import EMPTY, PARAFFIN, TISSUE, runs, unrolled
from msicube.writers import AgilentMosaicWriter

SMALL: dict[str, Any] = {"slides": 4, "shape": (32, 48), "wavenumbers": (1000.0, 1200.0)}


def parameters(**changes: Any) -> FTIRParameters:
    defaults = {
        "slides": 4,
        "seed": 0,
        "shape": (64, 64),
        "wavenumbers": (900.0, 1800.0),
        "class_difference": 1.0,
        "cores": 2,
        "patient_effect": 1.0,
        "scatter": 1.0,
        "noise": 1.0,
        "dead_pixels": 0.002,
        "holes": 2,
        "pixel_size": 5.5,
        "tile_size": 64,
    }
    return FTIRParameters(**{**defaults, **changes})


def slide_models(wanted: FTIRParameters) -> list[FTIRSlideModel]:
    study = FTIRStudyModel.draw(wanted)
    designs = design_cores(wanted.slides, cores=wanted.cores, seed=wanted.seed)
    return [FTIRSlideModel.draw(study, design) for design in designs]


def of_class(slide: FTIRSlideModel, label: str) -> FTIRSlideModel:
    """The same core, patient and places, of another class."""
    changed = {"adjacent": True} if label == "adjacent" else {"adjacent": False, "subtype": label}
    return FTIRSlideModel.draw(slide.study, replace(slide.design, **changed))


def whole_slide(slide: FTIRSlideModel) -> np.ndarray:
    tiles = [slide.measure(tile) for tile in slide.tiles()]
    n_columns = slide.study.parameters.tiles[1]
    rows = [np.concatenate(tiles[i : i + n_columns], axis=1) for i in range(0, len(tiles), n_columns)]
    return np.concatenate(rows)


def regions_of(slide: FTIRSlideModel) -> np.ndarray:
    ny, nx = slide.study.parameters.shape
    return slide.core.regions(range(ny), range(nx))


def read(path: Path) -> np.ndarray:
    return agilentMosaic(str(path), MAT=True).data


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    return simulate_ftir(tmp_path_factory.mktemp("ftir") / "study", **SMALL, dead_pixels=0.02)


def test_every_mosaic_is_read_by_agilent_format(small: SimulationReport) -> None:
    assert [slide.name for slide in small.slides] == ["slide_001", "slide_002", "slide_003", "slide_004"]
    study = slide_models(parameters(**SMALL, tile_size=16, dead_pixels=0.02))
    for slide, model in zip(small.slides, study, strict=True):
        mosaic = agilentMosaic(str(slide.path), MAT=True)
        np.testing.assert_array_equal(mosaic.data, whole_slide(model))
        np.testing.assert_array_equal(mosaic.wavenumbers, model.study.wavenumber)
        assert mosaic.tiles.shape == (3, 2)
        assert mosaic.info["FPA Pixel Size"] * mosaic.info["PixelAggregationSize"] == 5.5
        assert np.isfinite(mosaic.data).all()
    assert small.n_spectra == 4 * 32 * 48
    assert small.n_channels == len(mosaic.wavenumbers)
    sizes = [path.stat().st_size for path in small.folder.glob("slide_*/*")]
    assert small.n_bytes == sum(sizes)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        simulate_ftir(tmp_path / name, seed=seed, **SMALL)
    one, two, other = (hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    tiles = [name for name in one if name.endswith(".dmd")]
    assert len(tiles) == 4 * 6
    assert len({one[name] for name in tiles} | {other[name] for name in tiles}) == 2 * len(tiles)


def test_a_slide_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    few, many = (simulate_ftir(tmp_path / str(n), **{**SMALL, "slides": n}).slides for n in (2, 5))
    for a, b in zip(few, many, strict=False):
        assert (a.label, a.patient) == (b.label, b.patient)
        assert hashes(a.path.parent) == hashes(b.path.parent)


def test_spectra_depend_neither_on_the_order_of_tiles_nor_on_blas_threads() -> None:
    slide = slide_models(parameters(shape=(32, 64), tile_size=32))[1]
    with threadpool_limits(1):
        forward = {tile.number: slide.measure(tile) for tile in slide.tiles()}
    for tile in reversed(list(slide.tiles())):
        np.testing.assert_array_equal(forward[tile.number], slide.measure(tile))


def test_a_spectrum_is_the_mixture_of_its_sources_and_noise_of_the_stated_level() -> None:
    slide = slide_models(parameters(noise=0.0, dead_pixels=0.0))[0]
    (tile,) = slide.tiles()
    surface = slide.core.surface(tile.rows, tile.columns)
    mixture = slide.mixture(random_stream(0, "slide", slide.design.index, tile.number), surface)
    clean = slide.measure(tile)
    np.testing.assert_allclose(clean.reshape(-1, 467), mixture.T @ slide.sources, atol=3e-6)
    noisy = slide_models(parameters(dead_pixels=0.0))[0].measure(tile)
    found = (noisy - clean).reshape(-1, 467).std(axis=0)
    expected = noise_level(slide.study.wavenumber) * np.exp(0.2**2)
    np.testing.assert_allclose(found, expected, rtol=0.08)


@pytest.mark.parametrize("label", SUBTYPES)
def test_classes_differ_in_the_bands_that_the_truth_names_and_not_elsewhere(
    tmp_path: Path, label: str
) -> None:
    quiet = {"noise": 0.0, "scatter": 0.0, "patient_effect": 0.0, "dead_pixels": 0.0}
    plain = parameters(wavenumbers=(900.0, 3900.0), shape=(32, 32), tile_size=32, **quiet)
    slide = slide_models(plain)[0]
    tissue = regions_of(slide) == TISSUE
    adjacent, cancer = (
        whole_slide(of_class(slide, name))[tissue].mean(axis=0) for name in ("adjacent", label)
    )
    change, wavenumber = np.abs(cancer - adjacent), slide.study.wavenumber
    report = simulate_ftir(tmp_path, slides=1, shape=(8, 8))
    bands = json.loads(report.truth.read_text())["bands"]
    inside, beside = np.zeros((2, len(wavenumber)), dtype=bool)
    for band in bands:
        low, high = band["interval"]
        here = (wavenumber >= low) & (wavenumber <= high)
        if band["discriminates"]:
            inside |= here
            beside |= np.abs(wavenumber - band["wavenumber"]) <= 1.5 * band["fwhm"]
        if band["log_fold_change"][label] or band["shift"][label]:
            assert change[here].max() > 0.002 * band["strength"]
    assert change[~beside].max() < 0.06 * change.max()
    assert (change[inside] ** 2).sum() > 0.99 * (change**2).sum()


def test_the_table_of_bands_says_how_each_class_changes_each_band(tmp_path: Path) -> None:
    report = simulate_ftir(tmp_path, slides=1, shape=(8, 8), class_difference=0.5)
    truth = json.loads(report.truth.read_text())
    table = {band["name"]: band for band in truth["bands"]}
    assert truth["classes"] == list(CLASSES)
    assert [
        name for name, band in table.items() if band["molecule"] == "protein" and band["discriminates"]
    ] == ["amide I"]
    phosphate = table["PO2- symmetric"]
    assert phosphate["wavenumber"] == 1080
    assert phosphate["log_fold_change"]["triple-negative"] == pytest.approx(0.11)
    assert phosphate["log_fold_change"]["adjacent"] == 0
    assert table["amide I"]["shift"] == {
        "adjacent": 0.0, "luminal A": -0.175, "luminal B": -0.3, "HER2": -0.3, "triple-negative": -0.5
    }  # fmt: skip
    assert not table["amide II"]["discriminates"]
    none = simulate_ftir(tmp_path / "none", slides=1, shape=(8, 8), class_difference=0.0)
    assert not any(band["discriminates"] for band in json.loads(none.truth.read_text())["bands"])


def test_without_a_class_difference_the_label_changes_nothing() -> None:
    for difference, alike in ((0.0, True), (1.0, False)):
        slide = slide_models(parameters(class_difference=difference, shape=(16, 16), tile_size=16))[0]
        assert slide.design.label == "luminal A"
        other = of_class(slide, "adjacent")
        assert np.array_equal(whole_slide(slide), whole_slide(other)) is alike


def test_tissue_and_paraffin_can_be_found_in_the_spectra() -> None:
    """As in the paper: two clusters on the amide bands, then, with tissue set to zero, two on paraffin's band."""
    slide = slide_models(parameters(shape=(96, 96), tile_size=32, dead_pixels=0.0))[0]
    spectra, truth, wavenumber = whole_slide(slide), regions_of(slide), slide.study.wavenumber

    def clusters(low: float, high: float, values: np.ndarray) -> np.ndarray:
        band = (wavenumber >= low) & (wavenumber <= high)
        block = values[..., band].reshape(-1, band.sum())
        # A line through the ends takes the baseline away.
        line = block[:, :1] + (block[:, -1:] - block[:, :1]) * np.linspace(0, 1, band.sum())
        labels = KMeans(2, n_init=3, random_state=0).fit_predict(block - line)
        heights = [np.abs(block - line)[labels == k].mean() for k in (0, 1)]
        return (labels == int(np.argmax(heights))).reshape(truth.shape)

    tissue = clusters(1500, 1700, spectra)
    assert (tissue == (truth == TISSUE)).mean() > 0.99
    paraffin = clusters(1450, 1480, np.where(tissue[..., None], 0, spectra))
    assert (paraffin == (truth == PARAFFIN)).mean() > 0.98
    shares = np.bincount(truth.ravel(), minlength=3) / truth.size
    assert shares[TISSUE] == pytest.approx(0.4, abs=0.1)
    assert min(shares[PARAFFIN], shares[EMPTY]) > 0.15


def test_the_wide_range_shows_paraffin_where_it_is_strongest() -> None:
    slide = slide_models(parameters(wavenumbers=(850.0, 3900.0), shape=(32, 32), tile_size=32, noise=0.0))[0]
    wavenumber = slide.study.wavenumber
    assert len(wavenumber) == 1582
    alone = whole_slide(slide)[regions_of(slide) == PARAFFIN]
    spectrum = np.median(alone, axis=0)
    for position in (2918, 2850, 1462, 1378):
        near = np.abs(wavenumber - position) < 12
        assert abs(wavenumber[near][np.argmax(spectrum[near])] - position) < 2
    assert wavenumber[np.argmax(spectrum)] == pytest.approx(2918, abs=2)


def test_masks_say_where_everything_is(small: SimulationReport) -> None:
    model = slide_models(parameters(**SMALL, tile_size=16, dead_pixels=0.02))[2]
    masks = ftir_masks(small.truth, "slide_003")
    regions = regions_of(model)
    np.testing.assert_array_equal(masks["tissue"], regions == TISSUE)
    np.testing.assert_array_equal(masks["paraffin"], regions == PARAFFIN)
    assert not (masks["tissue"] & masks["paraffin"]).any()
    spectra = read(small.slides[2].path)
    scatter = np.abs(np.diff(spectra, axis=-1)).mean(axis=-1)
    np.testing.assert_array_equal(scatter > 0.2, masks["dead"])
    # The detector is the same for every tile and slide.
    assert masks["dead"].sum() == 6 * round(0.02 * 256)
    np.testing.assert_array_equal(masks["dead"][:16, :16], masks["dead"][16:, 32:])
    np.testing.assert_array_equal(masks["dead"], ftir_masks(small.truth, "slide_001")["dead"])


def test_masks_of_what_is_not_there_are_refused(small: SimulationReport, tmp_path: Path) -> None:
    for path, slide in (
        (small.truth, "slide_009"),
        (tmp_path / "absent.json", "slide_001"),
        (small.samples, "a"),
    ):
        with pytest.raises(UsageError, match="does not tell the masks"):
            ftir_masks(path, slide)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)), st.integers(0, 5))
def test_runs_write_any_mask_down(mask: np.ndarray, first: int) -> None:
    listed = runs(mask, first=first * mask.shape[1])
    padded = np.concatenate([np.zeros((first, mask.shape[1]), bool), mask])
    np.testing.assert_array_equal(unrolled(listed, padded.shape), padded)
    assert all(length > 0 for length in listed[1::2])


def test_cores_of_a_patient_share_its_subtype_and_its_split() -> None:
    designs = design_cores(24, cores=3, seed=0)
    by_patient: dict[str, list[Any]] = {}
    for design in designs:
        by_patient.setdefault(design.patient_name, []).append(design)
    assert len(by_patient) == 8
    for cores in by_patient.values():
        assert [core.adjacent for core in cores] == [False, False, True]
        assert len({core.subtype for core in cores}) == len({core.split for core in cores}) == 1
    for split in ("train", "test"):
        assert {core.label for core in designs if core.split == split} == set(CLASSES)
    assert {d.label for d in design_cores(5, cores=1, seed=0)} == set(CLASSES)
    assert {d.split for d in design_cores(3, cores=3, seed=0)} == {"train"}
    assert [d.split for d in design_cores(4, cores=2, seed=1)].count("test") == 2


@pytest.mark.parametrize("n", [1, 7, 40])
def test_about_a_third_of_the_patients_of_each_subtype_is_for_testing(n: int) -> None:
    designs = design_cores(2 * n, cores=2, seed=3)
    tested = {d.patient for d in designs if d.split == "test"}
    assert {1: 0, 7: 3, 40: 12}[n] == len(tested)


def test_patients_and_slides_of_one_class_differ() -> None:
    def distance(a: FTIRSlideModel, b: FTIRSlideModel) -> float:
        return float(np.abs(np.log(a.amounts / b.amounts)).mean())

    slides = [of_class(slide, "adjacent") for slide in slide_models(parameters(slides=12, cores=2))]
    within = np.mean([distance(a, b) for a, b in zip(slides[::2], slides[1::2], strict=True)])
    between = np.mean([distance(a, b) for a, b in zip(slides[::2], slides[2::2], strict=False)])
    assert between > 1.5 * within > 0
    alike = [of_class(slide, "adjacent") for slide in slide_models(parameters(patient_effect=0.0, slides=3))]
    assert distance(alike[0], alike[2]) == 0


def test_samples_and_truth_say_what_was_done(tmp_path: Path) -> None:
    done: list[str] = []
    report = simulate_ftir(tmp_path, **{**SMALL, "slides": 5}, seed=3, progress=done.append)
    with report.samples.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["slide", "label", "diagnosis", "subtype", "patient", "split"]
    assert [(r["slide"], r["label"], r["patient"], r["split"]) for r in rows] == [
        (s.name, s.label, s.patient, s.split) for s in report.slides
    ]
    assert [(r["diagnosis"], r["subtype"]) for r in rows[:3]] == [
        ("cancer", "luminal A"),
        ("adjacent", ""),
        ("cancer", "luminal B"),
    ]
    assert done == [row["slide"] for row in rows]
    truth = json.loads(report.truth.read_text())
    assert (truth["modality"], truth["parameters"]["seed"]) == ("ftir", 3)
    assert truth["parameters"]["tile_size"] == 16
    assert list(truth["slides"]) == done
    model = slide_models(parameters(**{**SMALL, "slides": 5}, tile_size=16, seed=3))[4]
    slide = truth["slides"]["slide_005"]
    for number, molecule in enumerate(MOLECULES):
        assert list(slide["amounts"][molecule].values()) == pytest.approx(model.amounts[:, number], abs=1e-6)
    assert slide["shifts"] == pytest.approx(model.shifts, abs=1e-6)
    assert set(slide["shifts"]) == {band.name for band in BANDS}
    pure = truth["pure_spectra"]
    assert set(pure) == {*MOLECULES, "paraffin", "water vapour"}
    axis = truth["wavenumber"]
    wavenumber = axis["step"] * (axis["start"] + np.arange(axis["n_channels"]))
    np.testing.assert_array_equal(wavenumber, model.study.wavenumber)
    nucleic = np.array(pure["nucleic acid"])
    assert wavenumber[np.argmax(nucleic)] == pytest.approx(1080, abs=2)


def test_existing_slides_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    simulate_ftir(tmp_path, **SMALL)
    before = hashes(tmp_path)
    with pytest.raises(UsageError, match=r"6 of the 6 files already, such as slide_001"):
        simulate_ftir(tmp_path, **SMALL, seed=1)
    assert hashes(tmp_path) == before
    simulate_ftir(tmp_path, **SMALL, seed=1, overwrite=True)
    assert set(hashes(tmp_path)) == set(before)
    assert json.loads((tmp_path / "truth.json").read_text())["parameters"]["seed"] == 1


def test_an_interrupted_slide_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AgilentMosaicWriter.write_tile

    def interrupted(writer: AgilentMosaicWriter, row: int, column: int, values: Any) -> None:
        if (writer.name, row) == ("slide_002", 1):
            raise KeyboardInterrupt
        whole(writer, row, column, values)

    monkeypatch.setattr(AgilentMosaicWriter, "write_tile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_ftir(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["slide_001"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slides": 0}, "slides"),
        ({"cores": 0}, "cores"),
        ({"seed": -1}, "seed=-1"),
        ({"shape": (4, 48)}, "at least 8"),
        ({"shape": (33, 48)}, "even numbers"),
        ({"shape": (32, 48), "tile_size": 32}, "no whole number of tiles"),
        ({"tile_size": 3}, "tile_size=3"),
        ({"wavenumbers": (1800, 900)}, "the lower one first"),
        ({"wavenumbers": (900.7, 901)}, "no channel"),
        ({"class_difference": float("nan")}, "finite"),
        ({"patient_effect": -1}, "patient_effect"),
        ({"scatter": float("inf")}, "scatter"),
        ({"noise": -1}, "noise"),
        ({"dead_pixels": 1.5}, "dead_pixels"),
        ({"holes": -1}, "holes"),
        ({"pixel_size": 0}, "pixel_size"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate_ftir(tmp_path / "study", **{**SMALL, **options})
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("shape", "expected"), [((320, 320), 64), ((64, 64), 64), ((128, 96), 32), ((10, 6), 2)]
)
def test_tiles_are_as_large_as_they_fit(shape: tuple[int, int], expected: int) -> None:
    assert default_tile_size(shape) == expected


def test_memory_depends_neither_on_the_size_nor_on_the_number_of_slides(tmp_path: Path) -> None:
    def peak(slides: int, shape: tuple[int, int]) -> int:
        tracemalloc.start()
        simulate_ftir(tmp_path / f"{slides}-{shape}", slides=slides, shape=shape, tile_size=32)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    one = peak(1, (32, 32))
    # Ten times the pixels, 19 MB of spectra; a tile has 1.9 MB.
    assert peak(1, (320, 32)) < one + 2**19
    assert peak(5, (32, 32)) < one + 2**19
    assert one < 3.5 * 32 * 32 * 467 * 4 + 2**21


def test_a_sphere_scatters_nothing_at_long_waves_and_twice_its_shadow_at_short_ones() -> None:
    assert extinction(2.0, np.array([1.0]))[0] < 1e-4
    many = extinction(8.0, np.linspace(3e4, 6e4, 4000))
    assert many.mean() == pytest.approx(2, abs=0.05)
    ordinary = extinction(5.0, np.linspace(900, 3900, 500))
    assert ordinary.max() == pytest.approx(3.17, abs=0.05)


def corrected(report: SimulationReport, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return spectra of tissue, corrected by least squares as EMSC does, and which of them are cancer."""
    truth = json.loads(report.truth.read_text())
    pure = {name: np.array(spectrum) for name, spectrum in truth["pure_spectra"].items()}
    amounts = truth["amounts"]
    reference = np.sum([amounts[name]["epithelium"] * pure[name] for name in amounts], axis=0)
    powers = np.linspace(-1, 1, len(reference)) ** np.arange(5)[:, None]
    model = np.stack([reference, *powers, pure["paraffin"], pure["water vapour"]], axis=1)
    blocks, cancer = [], []
    for slide in report.slides:
        if slide.split == split:
            masks = ftir_masks(report.truth, slide.name)
            block = read(slide.path)[masks["tissue"] & ~masks["dead"]][::8]
            fit = np.linalg.lstsq(model, block.T, rcond=None)[0]
            blocks.append((block - (model[:, 1:] @ fit[1:]).T) / fit[0][:, None])
            cancer.append(np.full(len(block), slide.label != "adjacent"))
    return np.concatenate(blocks), np.concatenate(cancer)


def test_cancer_can_be_told_from_adjacent_tissue_of_held_out_patients_but_not_easily(tmp_path: Path) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import roc_auc_score

    report = simulate_ftir(tmp_path, slides=32, shape=(48, 48))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(*corrected(report, "train"))
    spectra, cancer = corrected(report, "test")
    assert 0.65 < roc_auc_score(cancer, model.decision_function(spectra)) < 0.95


def test_the_documentation_has_the_tables_of_the_code() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "simulate-ftir.md").read_text(encoding="utf-8")
    rows = {cells[0]: cells for line in page.splitlines() if len(cells := line.strip("| ").split(" | ")) > 5}
    for band in BANDS:
        how = ["strength"] * any(band.molecule in effects for effects in AMOUNT_EFFECTS.values())
        how += ["position"] * any(band.name in shifts for shifts in SHIFT_EFFECTS.values())
        expected = [
            band.name,
            f"{band.wavenumber:g}",
            f"{band.fwhm:g}",
            f"{band.strength:.2f}",
            band.molecule,
        ]
        expected += [band.assignment, *([", ".join(how)] if how else [])]
        assert rows[band.name] == expected
    for label in SUBTYPES:
        changes = [AMOUNT_EFFECTS[label][name] for name in ("nucleic acid", "lipid", "glycogen", "collagen")]
        changes += [SHIFT_EFFECTS[label].get(name, 0) for name in ("amide I", "PO2- asymmetric")]
        assert [float(cell) for cell in rows[label][1:]] == changes
