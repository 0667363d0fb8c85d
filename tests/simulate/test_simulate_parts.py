from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msicube.errors import UsageError
from msicube.simulate.analytes import COMPARTMENTS, draw_chemistry, isotopes, lipid_ions
from msicube.simulate.design import LABELS, design_study, random_stream
from msicube.simulate.exact import exact_product
from msicube.simulate.spectra import (
    MERGE_WIDTH,
    BatchEffect,
    Lines,
    TofAxis,
    centroid_response,
    profile_response,
    resolve,
)
from msicube.simulate.tissue import SmoothFields, Tissue

NO_EFFECT = BatchEffect(gain=0, tilt=0, mass_shift=0, noise=1, baseline=1)
MZ_RANGE = (700.0, 900.0)


@pytest.mark.parametrize(
    ("name", "mz"),
    # LIPID MAPS, m/z of the ions.
    [
        ("PC 34:1 [M+H]+", 760.5851),
        ("PC 34:1 [M+K]+", 798.5410),
        ("PC 36:4 [M+Na]+", 804.5514),
        ("PE 36:2 [M+H]+", 744.5538),
        ("SM 34:1 [M+H]+", 703.5749),
    ],
)
def test_lipids_have_their_real_masses(name: str, mz: float) -> None:
    assert {ion.name: ion.mz for ion in lipid_ions()}[name] == pytest.approx(mz, abs=2e-4)


def test_isotopes_of_small_and_large_ions() -> None:
    positions, shares = isotopes(np.array([760.585, 3600.0]))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(np.diff(positions), 1.0033548)
    assert shares[0, 1] / shares[0, 0] == pytest.approx(0.42, abs=0.01)
    assert shares[1].argmax() in (1, 2)


@pytest.mark.parametrize("mz_range", [(700.0, 900.0), (800.0, 2400.0), (900.0, 1300.0)])
def test_ions_lie_in_the_range_and_markers_among_the_abundant(mz_range: tuple[float, float]) -> None:
    rng = random_stream(1, "chemistry")
    chemistry = draw_chemistry(rng, mz_range=mz_range, n_ions=100, n_markers=15)
    assert len(chemistry.names) == len(set(chemistry.names)) == 100
    assert (np.diff(chemistry.mz) > 0).all()
    assert mz_range[0] < chemistry.mz[0] < isotopes(chemistry.mz)[0].max() < mz_range[1]
    assert (chemistry.effect != 0).sum() == 15
    assert {-1.0, 1.0} <= set(np.sign(chemistry.effect))


@pytest.mark.parametrize("options", [{"n_ions": 0}, {"n_ions": 5000}, {"n_markers": 101}, {"n_markers": -1}])
def test_impossible_numbers_of_ions_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="holds up to"):
        draw_chemistry(
            random_stream(1, "chemistry"), **{"mz_range": MZ_RANGE, "n_ions": 100, "n_markers": 10, **options}
        )


def test_a_tumour_differs_in_the_markers_by_compartment() -> None:
    chemistry = draw_chemistry(random_stream(0, "chemistry"), mz_range=MZ_RANGE, n_ions=60, n_markers=6)
    normal = chemistry.abundance(tumour=False, class_difference=2)
    change = chemistry.abundance(tumour=True, class_difference=2) - normal
    np.testing.assert_allclose(
        change, 2 * np.outer(list(COMPARTMENTS.values()), chemistry.effect), atol=1e-12
    )


@given(n_slides=st.integers(4, 60), share=st.none() | st.floats(0.0, 1.0), seed=st.integers(0, 5))
def test_patients_are_whole_in_one_split_and_each_split_has_both_classes(
    n_slides: int, share: float | None, seed: int
) -> None:
    patients = None if share is None else 4 + round(share * (n_slides - 4))
    designs = design_study(n_slides, patients=patients, seed=seed)
    splits, labels = defaultdict(set), defaultdict(set)
    for design in designs:
        splits[design.patient].add(design.split)
        labels[design.split].add(design.label)
    assert all(len(split) == 1 for split in splits.values())
    assert labels == {"train": set(LABELS), "test": set(LABELS)}
    assert len(splits) == patients or patients is None
    counts = [sum(d.label == label for d in designs) for label in LABELS]
    # At most one slide from each of the two ways in which a row of patients can end before its turn is over.
    assert abs(counts[0] - counts[1]) <= 2


def test_slides_do_not_depend_on_how_many_follow() -> None:
    few, many = (design_study(n, patients=None, seed=3) for n in (9, 33))
    assert [(d.name, d.patient_name, d.label) for d in few] == [
        (d.name, d.patient_name, d.label) for d in many[:9]
    ]
    pairs = {d.patient for d in many if d.label == "tumour"} & {
        d.patient for d in many if d.label == "normal"
    }
    assert 0 < len(pairs) < len({d.patient for d in many})


def test_very_few_slides_are_all_for_training() -> None:
    assert {d.split for d in design_study(3, patients=None, seed=0)} == {"train"}


@pytest.mark.parametrize(("n_slides", "patients"), [(0, None), (5, 6), (5, 0), (8, 1), (4, 1)])
def test_impossible_designs_are_refused(n_slides: int, patients: int | None) -> None:
    with pytest.raises(UsageError, match="patients"):
        design_study(n_slides, patients=patients, seed=0)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), inner=st.integers(1, 150), cut=st.integers(0, 40))
def test_the_exact_product_is_the_product_and_does_not_depend_on_the_cut(
    seed: int, n: int, inner: int, cut: int
) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, inner)) * np.exp(5 * rng.standard_normal((n, 1)))
    b = rng.standard_normal((inner, 33)) * np.exp(5 * rng.standard_normal(33))
    product = exact_product(a, b)
    scale = np.abs(a).max(axis=1, keepdims=True) * np.abs(b).max(axis=0) * inner
    assert (np.abs(product - a @ b) <= 1e-6 * scale).all()
    parts = np.concatenate([exact_product(a[:cut], b), exact_product(a[cut:], b)])
    np.testing.assert_array_equal(parts, product)
    order = rng.permutation(inner)
    np.testing.assert_array_equal(exact_product(a[:, order], b[order]), product)


def test_channels_are_even_in_time_and_peaks_widen_with_the_root_of_the_mass() -> None:
    axis = TofAxis((500.0, 2500.0), 3000, 1500)
    np.testing.assert_allclose(np.diff(np.sqrt(axis.mz)), np.diff(np.sqrt(axis.mz))[0])
    assert axis.fwhm(np.array([1500.0]))[0] == pytest.approx(1.0)
    assert axis.fwhm(np.array([2400.0]))[0] == pytest.approx(2 * axis.fwhm(np.array([600.0]))[0])


def measured_width(mz: np.ndarray, profile: np.ndarray) -> float:
    above = np.flatnonzero(profile > profile.max() / 2)
    return float(mz[above[-1]] - mz[above[0]])


def test_a_line_becomes_a_peak_of_the_right_place_width_and_area() -> None:
    axis = TofAxis((500.0, 2500.0), 60_000, 1500)
    lines = Lines(np.array([600.0, 2400.0, 1500.0]), np.array([300.0, 500.0, 1.0]), np.array([0, 1, 2]), 3)
    matrix = profile_response(axis, lines, NO_EFFECT).matrix
    np.testing.assert_allclose(matrix.sum(axis=1), lines.counts, rtol=1e-6)
    for row, position in ((0, 600.0), (1, 2400.0)):
        fwhm = float(axis.fwhm(np.array([position]))[0])
        assert axis.mz[matrix[row].argmax()] == pytest.approx(position, abs=0.1 * fwhm)
        assert measured_width(axis.mz, matrix[row]) == pytest.approx(fwhm, rel=0.2)
    shifted = profile_response(axis, lines, BatchEffect(0, 0, 100, 1, 1)).matrix
    moved = axis.mz @ shifted[0] / shifted[0].sum() - axis.mz @ matrix[0] / matrix[0].sum()
    assert moved == pytest.approx(0.06, rel=1e-3)


def test_batch_effects_change_gain_tilt_noise_and_baseline() -> None:
    axis = TofAxis(MZ_RANGE, 800, 2000)
    lines = Lines(np.array([710.0, 890.0, 800.0]), np.ones(3), np.arange(3), 3)
    plain = profile_response(axis, lines, NO_EFFECT)
    other = profile_response(axis, lines, BatchEffect(np.log(2), np.log(3), 0, 1.5, 4))
    ratio = other.matrix.sum(axis=1) / plain.matrix.sum(axis=1)
    assert ratio[1] / ratio[0] == pytest.approx(3 ** (180 / 200))
    assert ratio[2] == pytest.approx(2)
    assert other.noise == pytest.approx(1.5 * plain.noise)
    np.testing.assert_allclose(other.baseline, 4 * plain.baseline, rtol=1e-6)
    assert (np.diff(plain.baseline) < 0).all()
    assert BatchEffect.draw(np.random.default_rng(0), 0.0) == NO_EFFECT


def test_noise_has_the_mean_and_the_variance_of_shots_and_electronics() -> None:
    axis = TofAxis(MZ_RANGE, 200, 500)
    lines = Lines(np.array([800.0, 750.0]), np.array([5000.0, 100.0]), np.arange(2), 2)
    response = profile_response(axis, lines, NO_EFFECT)
    amounts, background = np.tile([1.5, 2.0], (20_000, 1)), np.full(20_000, 0.5, dtype=np.float32)
    counts = response.measure(np.random.default_rng(0), amounts, background)
    mean = [1.5, 2.0] @ response.matrix + 0.5 * response.baseline
    np.testing.assert_allclose(counts.mean(axis=0), mean, rtol=0.02, atol=0.3)
    np.testing.assert_allclose(counts.var(axis=0), 2 * mean + 16, rtol=0.06)


def test_centroids_are_what_can_be_told_apart() -> None:
    axis = TofAxis(MZ_RANGE, 800, 2000)
    rng = random_stream(0, "chemistry")
    lines = Lines.draw(rng, draw_chemistry(rng, mz_range=MZ_RANGE, n_ions=100, n_markers=5), MZ_RANGE)
    peaks = resolve(axis, lines)
    assert (np.diff(peaks.mz) >= MERGE_WIDTH * axis.fwhm(peaks.mz[:-1])).all()
    assert (np.abs(peaks.mz[peaks.of_line] - lines.mz) < 2 * axis.fwhm(lines.mz)).all()
    sums = np.bincount(peaks.of_line, weights=lines.counts)
    means = np.bincount(peaks.of_line, weights=lines.counts * lines.mz) / sums
    np.testing.assert_allclose(peaks.mz, means)
    response = centroid_response(axis, lines, peaks, NO_EFFECT)
    np.testing.assert_allclose(response.matrix.sum(axis=0), sums)
    np.testing.assert_array_equal(response.baseline, 0)


def test_every_nominal_mass_has_chemical_noise() -> None:
    axis = TofAxis(MZ_RANGE, 800, 2000)
    rng = random_stream(0, "chemistry")
    lines = Lines.draw(rng, draw_chemistry(rng, mz_range=MZ_RANGE, n_ions=10, n_markers=0), MZ_RANGE)
    noise = profile_response(axis, lines, NO_EFFECT).matrix[-1]
    nominal = np.round(axis.mz / 1.000495).astype(int)
    assert all(noise[nominal == mass].max() > 1 for mass in range(705, 895))


def test_smooth_fields_are_standard_and_smooth() -> None:
    fields = SmoothFields.draw(np.random.default_rng(0), 40, scale=6.0)
    values = fields.at(np.arange(60.0), np.arange(80.0))
    assert values.shape == (40, 60, 80)
    assert abs(values.mean()) < 0.05
    assert values.var() == pytest.approx(1, abs=0.1)
    near = (values[:, 1:] * values[:, :-1]).mean() / values.var()
    far = (values[:, 30:] * values[:, :-30]).mean() / values.var()
    assert near == pytest.approx(np.exp(-1 / 72), abs=0.01)
    assert abs(far) < 0.15
    direct = [np.cos(fields.wave[3] @ [y, x] + fields.phase[3]).sum() for y, x in ((0, 0), (17, 45))]
    np.testing.assert_allclose(
        [values[3, 0, 0], values[3, 17, 45]], np.sqrt(2 / 48) * np.array(direct), atol=1e-5
    )


def measured(tissue: Tissue, shape: tuple[int, int]) -> np.ndarray:
    sample, mask = tissue.sample(range(shape[0]), range(shape[1])), np.zeros(shape, dtype=bool)
    mask[sample.y, sample.x] = True
    return mask


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(60, 90), (8, 8)])
def test_tissue_has_an_outline_and_is_a_function_of_the_position(seed: int, shape: tuple[int, int]) -> None:
    tissue = Tissue.draw(np.random.default_rng(seed), shape, holes=1, n_factors=2)
    whole = tissue.sample(range(shape[0]), range(shape[1]))
    assert 0.4 < measured(tissue, shape).mean() < 0.9
    np.testing.assert_allclose(whole.compartments.sum(axis=1), 1)
    part = tissue.sample(range(3, 7), range(2, 6))
    inside = (whole.y >= 3) & (whole.y < 7) & (whole.x >= 2) & (whole.x < 6)
    for name, values in part._asdict().items() if hasattr(part, "_asdict") else vars(part).items():
        np.testing.assert_array_equal(values, vars(whole)[name][inside])


def test_holes_are_cut_out_of_the_tissue() -> None:
    with_holes, without = (
        measured(Tissue.draw(np.random.default_rng(4), (96, 96), holes=n, n_factors=1), (96, 96))
        for n in (4, 0)
    )
    assert not (with_holes & ~without).any()
    hole = without & ~with_holes
    assert 20 < hole.sum() < 0.3 * without.sum()


def test_compartments_are_pure_in_places_and_mixed_in_others() -> None:
    tissue = Tissue.draw(np.random.default_rng(0), (96, 96), holes=0, n_factors=1)
    share = tissue.sample(range(96), range(96)).compartments
    assert (share.max(axis=1) > 0.9).mean() > 0.3
    assert (share.max(axis=1) < 0.6).mean() > 0.05
    assert (np.bincount(share.argmax(axis=1), minlength=3) > 0.1 * len(share)).all()
