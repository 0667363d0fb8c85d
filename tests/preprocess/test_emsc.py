"""EMSC against biospectools and NumPy's least squares, and what it makes of odd spectra and odd models."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from biospectools import preprocessing as biospectools
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone

import msicube as mc
from msicube.errors import AxisMismatch, MemoryLimitError, UnsupportedTermWarning, UsageError
from msicube.preprocess import EMSC, PCA, NotFittedError, Pipeline, Standardize
from msicube.preprocess.emsc_model import Terms, solve
from msicube.preprocess.emsc_statistics import RESIDUAL_EDGES
from msicube.store import Study

WN = np.linspace(900.0, 1800.0, 120)


def band(centre: float, width: float) -> NDArray[np.float64]:
    return np.exp(-(((WN - centre) / width) ** 2))


REFERENCE = band(1650, 40) + 0.7 * band(1545, 35) + 0.4 * band(1240, 40) + 0.3 * band(1080, 50)
PARAFFIN = np.stack([band(1462, 15), band(1378, 12)])
ANALYTE = band(1740, 20)[None]


def make_spectra(n: int = 200, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    chemistry = 0.05 * rng.normal(size=(n, 2)) @ np.stack([band(1150, 30), band(1590, 30)])
    spectra = rng.uniform(0.3, 1.5, (n, 1)) * (REFERENCE + chemistry)
    spectra += 0.2 * rng.random((n, 2)) @ PARAFFIN + 0.1 * rng.random((n, 1)) * ANALYTE
    spectra += 0.1 * rng.normal(size=(n, 3)) @ np.vander(np.linspace(-1, 1, 120), 3).T
    return spectra + 1e-3 * rng.normal(size=(n, 120))


@pytest.fixture(name="X")
def _spectra() -> NDArray[np.float64]:
    return make_spectra()


OPTIONS = {
    "plain": {},
    "no polynomial": {"degree": None},
    "constant": {"degree": 0},
    "degree 5": {"degree": 5},
    "interferents": {"interferents": PARAFFIN},
    "constituents": {"constituents": ANALYTE},
    "both": {"interferents": PARAFFIN, "constituents": ANALYTE},
    "weights": {"interferents": PARAFFIN, "weights": 0.1 + band(1500, 200)},
    "excluded": {"constituents": ANALYTE, "excluded": [(1350, 1500), (900, 950)]},
    "given reference": {"reference": REFERENCE, "interferents": PARAFFIN},
}


def oracle(X: NDArray[Any], options: dict[str, Any]) -> Any:
    """Return what biospectools makes of it: corrected spectra and details."""
    weights = options.get("weights")
    if "excluded" in options:
        weights = np.ones(120)
        for low, high in options["excluded"]:
            weights[(low <= WN) & (high >= WN)] = 0
    theirs = biospectools.EMSC(
        options.get("reference", X.mean(axis=0)),
        WN,
        options.get("degree", 2),
        interferents=options.get("interferents"),
        analytes=options.get("constituents"),
        weights=weights,
    )
    return theirs.transform(X, details=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_biospectools(X: NDArray[Any], name: str) -> None:
    options = OPTIONS[name]
    ours = EMSC(wavenumbers=WN, **options).fit(X)
    corrected, details = oracle(X, options)
    np.testing.assert_allclose(ours.transform(X), corrected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.residuals(X), details.residuals, rtol=0, atol=1e-10)
    found = ours.details(X)
    np.testing.assert_allclose(found["reference"], details.scaling_coefs, rtol=0, atol=1e-10)
    assert len(found.terms) == ours.rank_ == details.coefs.shape[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_float32_is_as_good_as_float32_can_be(X: NDArray[Any], name: str) -> None:
    single = X.astype(np.float32)
    corrected, _ = oracle(single.astype(np.float64), OPTIONS[name])
    for dtype, tolerance in (("float32", 2e-6), ("float64", 2e-7)):
        ours = EMSC(wavenumbers=WN, **OPTIONS[name], dtype=dtype).fit(single).transform(single)
        assert ours.dtype == np.float32
        scale = max(
            1, np.abs(corrected).max()
        )  # without a polynomial some spectra are all baseline, and b is small
        np.testing.assert_allclose(ours, corrected, rtol=0, atol=tolerance * scale)


@settings(deadline=None, max_examples=30)
@given(
    degree=st.integers(0, 6),
    n_interferents=st.integers(0, 3),
    n_channels=st.integers(20, 90),
    seed=st.integers(0, 2**20),
)
def test_coefficients_are_numpys_least_squares(
    degree: int, n_interferents: int, n_channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    axis = np.sort(rng.uniform(800, 4000, n_channels))[:: rng.choice([-1, 1])]
    X = rng.normal(size=(9, n_channels)) + 5 * rng.random(n_channels)
    weights = rng.uniform(0.1, 2, n_channels)
    interferents = rng.normal(size=(n_interferents, n_channels))
    emsc = EMSC(wavenumbers=axis, degree=degree, interferents=interferents, weights=weights).fit(X)
    v = (axis - (axis.max() + axis.min()) / 2) / ((axis.max() - axis.min()) / 2)
    model = np.column_stack([X.mean(axis=0), *(v**power for power in range(degree + 1)), *interferents])
    expected = np.linalg.lstsq(model * weights[:, None], (X * weights).T, rcond=None)[0].T
    np.testing.assert_allclose(emsc.model_, model, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(emsc.details(X).coefficients, expected, rtol=1e-7, atol=1e-7)
    residual = X - expected @ model.T
    rms = np.sqrt(((residual * weights) ** 2).sum(axis=1) / (weights**2).sum())
    np.testing.assert_allclose(emsc.details(X).residual_rms, rms, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.5, 1.0, 3.0])
def test_uniform_weights_change_nothing(X: NDArray[Any], value: float) -> None:
    plain = EMSC(wavenumbers=WN, interferents=PARAFFIN).fit(X).transform(X)
    weighted = EMSC(wavenumbers=WN, interferents=PARAFFIN, weights=np.full(120, value)).fit(X).transform(X)
    assert weighted.tobytes() == plain.tobytes()


def test_the_polynomial_is_on_the_wavenumber_and_not_on_the_index() -> None:
    axis = 900 * 1.008 ** np.arange(120)
    v = 2 * (axis - axis[0]) / (axis[-1] - axis[0]) - 1
    X = REFERENCE + np.array([[0.3], [-0.2]]) * v + np.array([[0.1], [0.4]]) * v**2
    corrected = EMSC(wavenumbers=axis, reference=REFERENCE).fit(X).transform(X)
    np.testing.assert_allclose(corrected, [REFERENCE, REFERENCE], atol=1e-12)
    turned = EMSC(wavenumbers=axis[::-1], reference=REFERENCE[::-1]).fit(X[:, ::-1]).transform(X[:, ::-1])
    np.testing.assert_allclose(turned[:, ::-1], corrected, atol=1e-12)


def test_an_interferent_without_support_is_named_and_harmless(X: NDArray[Any]) -> None:
    emsc = EMSC(wavenumbers=WN, interferents=PARAFFIN, excluded=[(1300, 1550)])
    with pytest.warns(
        UnsupportedTermWarning, match="interferent 1, interferent 2: nearly all of it lies"
    ) as record:
        emsc.fit(X)
    assert len(record) == 1
    assert emsc.unsupported_ == ["interferent 1", "interferent 2"]
    assert (emsc.rank_, len(emsc.term_names_)) == (4, 6)
    assert not emsc.details(X)["interferent 1"].any()
    plain = EMSC(wavenumbers=WN, excluded=[(1300, 1550)]).fit(X)
    np.testing.assert_allclose(emsc.transform(X), plain.transform(X), atol=1e-12)
    assert np.abs(emsc.transform(X)).max() < 10


def test_columns_that_are_combinations_of_others_are_named(X: NDArray[Any]) -> None:
    model = np.stack([PARAFFIN[0], np.zeros(120), PARAFFIN[0] + 2.0, PARAFFIN[1]])
    with pytest.warns(UnsupportedTermWarning, match="interferent 2, interferent 3: zero, or a combination"):
        emsc = EMSC(wavenumbers=WN, interferents=model).fit(X)
    same = EMSC(wavenumbers=WN, interferents=PARAFFIN).fit(X)
    np.testing.assert_allclose(emsc.transform(X), same.transform(X), atol=1e-11)


def test_a_polynomial_that_a_narrow_region_cannot_hold(X: NDArray[Any]) -> None:
    with pytest.warns(UnsupportedTermWarning, match=r"v\^4"):
        emsc = EMSC(wavenumbers=WN, degree=4, excluded=[(900, 1600), (1700, 1800)]).fit(X)
    assert np.abs(emsc.transform(X)).max() < 50


def test_a_reference_without_support_is_refused(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="the reference is zero where the weights are not"):
        EMSC(wavenumbers=WN, reference=band(1000, 10), excluded=[(900, 1200)]).fit(X)
    with pytest.raises(UsageError, match="the reference is zero"):
        EMSC(wavenumbers=WN).fit(np.zeros((3, 120)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**20), st.integers(1, 12), st.integers(3, 14))
def test_the_solve_is_the_pseudo_inverse_wherever_there_is_one(
    seed: int, n_terms: int, n_channels: int
) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(min(n_terms, n_channels), n_channels)) * 10.0 ** rng.integers(-6, 6, (1,))
    weights = rng.uniform(0.2, 1, n_channels)
    solved = solve(Terms.numbered("term", columns), weights)
    assert solved.rank == len(columns)
    expected = np.linalg.pinv((columns * weights).T) * weights
    np.testing.assert_allclose(solved.inverse @ columns.T, np.eye(len(columns)), atol=1e-6)
    np.testing.assert_allclose(solved.inverse, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_spectra(dtype: Any) -> None:
    X = make_spectra(20).astype(dtype)
    emsc = EMSC(wavenumbers=WN, reference=REFERENCE, excluded=[(1350, 1500)]).fit(X)
    good = emsc.transform(X)
    hidden, heard = int(np.argmin(abs(WN - 1400))), int(np.argmin(abs(WN - 1600)))
    X[0] = 0
    X[1, hidden], X[2, hidden] = np.nan, np.inf
    X[3, heard], X[4, heard] = np.nan, np.inf
    X[5] = 0.3 + 0.1 * WN / 1000  # nothing but a baseline
    X[6] = -X[6]
    corrected = emsc.transform(X)
    np.testing.assert_array_equal(corrected[0], 0)
    others = np.arange(120) != hidden
    np.testing.assert_allclose(corrected[1:3, others], good[1:3, others], rtol=1e-6, atol=1e-6)
    assert np.isnan(corrected[1, hidden])
    assert np.isposinf(corrected[2, hidden])
    assert np.isnan(corrected[3:6]).all()
    np.testing.assert_allclose(
        corrected[6], good[6], rtol=1e-6, atol=1e-6
    )  # b and the spectrum both change sign
    assert corrected[7:].tobytes() == good[7:].tobytes()
    found = emsc.details(X)
    assert not found.coefficients[0].any()
    assert np.isfinite(found.residual_rms[1:3]).all()
    assert np.isnan(found.coefficients[3:5]).all()


def test_irregular_spectra_are_counted_where_a_pass_sees_them() -> None:
    X = make_spectra(50)
    X[3], X[4], X[5, 7] = 0, -X[4], np.nan
    pipeline = Pipeline([EMSC(wavenumbers=WN, reference=REFERENCE), Standardize()]).fit(X)
    assert pipeline.steps_[0].n_irregular_ == 2
    assert pipeline.steps_[1].n_nonfinite_ == 1  # type: ignore[attr-defined]
    assert EMSC(wavenumbers=WN).fit(X).n_nonfinite_ == 1


def test_one_spectrum_and_constant_channels() -> None:
    X = make_spectra(1)
    np.testing.assert_allclose(EMSC(wavenumbers=WN).fit(X).transform(X), X, atol=1e-12)
    many = make_spectra(30)
    many[:, 10] = 0.25
    np.testing.assert_allclose(
        EMSC(wavenumbers=WN).fit(many).transform(many), oracle(many, {})[0], rtol=0, atol=1e-10
    )
    assert EMSC(wavenumbers=WN).fit(X).transform_block(X[:0]).shape == (0, 120)


def test_good_spectra_are_those_with_the_least_residual(X: NDArray[Any]) -> None:
    X = X.copy()
    X[:40] += 0.5 * np.random.default_rng(3).normal(size=(40, 120))
    X[40:50] *= -1
    emsc = EMSC(wavenumbers=WN, reference="good", good_share=0.6).fit(X)
    _, details = oracle(X, {})
    rms = np.sqrt((details.residuals**2).mean(axis=1))
    relative = rms / details.scaling_coefs / np.sqrt((X.mean(axis=0) ** 2).mean())
    bins = np.digitize(relative, RESIDUAL_EDGES)
    positive = np.flatnonzero(details.scaling_coefs > 0)
    ordered = np.sort(bins[positive])
    chosen = positive[bins[positive] <= ordered[119]]
    assert emsc.n_good_ == len(chosen) >= 120
    assert chosen.min() >= 40
    np.testing.assert_allclose(emsc.reference_, X[chosen].mean(axis=0), rtol=1e-10)


def test_replicates_become_interferents() -> None:
    """The recipe of Kohler et al. (2009), written out in NumPy."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(8), 25)
    variation = np.stack([band(1030, 25), band(1700, 15)])
    X = make_spectra(200, seed=6) + 0.1 * rng.normal(size=(200, 2)) @ variation
    X += 0.1 * rng.normal(size=(8, 1))[groups] * band(1300, 20)
    emsc = EMSC(wavenumbers=WN, replicates="patient", n_replicate_components=2).fit(X, groups)
    corrected, _ = oracle(X, {})
    within = corrected - np.stack([corrected[groups == g].mean(axis=0) for g in range(8)])[groups]
    components = np.linalg.svd(within, full_matrices=False)[2][:2]
    learned = emsc.model_[:, -2:].T
    np.testing.assert_allclose(np.abs(learned @ components.T), np.eye(2), atol=1e-8)
    expected, _ = oracle(X, {"interferents": components})
    np.testing.assert_allclose(emsc.transform(X), expected, atol=1e-8)
    assert emsc.term_names_[-2:] == ["replicate 1", "replicate 2"]
    given = EMSC(wavenumbers=WN, reference=emsc.reference_, replicates="p", n_replicate_components=2).fit(
        X, groups
    )
    np.testing.assert_allclose(given.transform(X), expected, atol=1e-8)
    assert given.n_spectra_ == 200


def test_replicates_need_differences_within_groups(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="20 groups differ in 0 ways"):
        EMSC(wavenumbers=WN, replicates="patient").fit(X[:20], np.arange(20))
    with pytest.raises(UsageError, match="classes of the spectra"):
        EMSC(wavenumbers=WN, replicates="patient").fit(X)
    with pytest.raises(MemoryLimitError, match="9000 channels"):
        EMSC(degree=0, replicates="patient").fit(np.ones((4, 9000)), [0, 0, 1, 1])


WRONG = {
    "needs the axis of the spectra": {"wavenumbers": None},
    "has shape": {"wavenumbers": WN[:5]},
    "holds a value twice": {"wavenumbers": np.ones(120)},
    "a degree of 0 or more": {"degree": -1},
    "'mean', 'good' or a spectrum": {"reference": "median"},
    "above 0 and at most 1": {"good_share": 0.0},
    "'float32' or 'float64'": {"dtype": "float16"},
    r"EMSC\(interferents\) has shape \(7,\)": {"interferents": np.ones(7)},
    "holds a NaN or an infinity": {"constituents": np.full(120, np.nan)},
    "no array of numbers": {"constituents": [["a", "b"]]},
    "a weight is 0 or more": {"weights": -np.ones(120)},
    "no channel has a weight": {"weights": np.zeros(120)},
    "no channel lies between 2000 and 2100": {"excluded": [(2000, 2100)]},
    "a list of regions": {"excluded": [1, 2]},
    "between 1 and 120": {"replicates": "p", "n_replicate_components": 0},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_fitted_is_refused_before_anything_is_read(message: str) -> None:
    seen: list[Any] = []
    with pytest.raises(UsageError, match=message):
        EMSC(**{"wavenumbers": WN, **WRONG[message]}).fit(
            np.ones((4, 120)), [0, 0, 1, 1], progress=lambda *event: seen.append(event)
        )
    assert not seen


def test_it_is_a_step_like_any_other(X: NDArray[Any]) -> None:
    emsc = EMSC(wavenumbers=WN, interferents=PARAFFIN, degree=1)
    again = clone(emsc)
    assert again.get_params()["degree"] == 1
    np.testing.assert_array_equal(again.interferents, PARAFFIN)
    with pytest.raises(NotFittedError):
        emsc.details(X)
    with pytest.raises(NotFittedError):
        emsc.residuals(X)
    before = X.tobytes()
    corrected = emsc.fit(X).transform(X)
    assert X.tobytes() == before
    assert list(emsc.get_feature_names_out()[:2]) == ["x0", "x1"]
    loaded = pickle.loads(pickle.dumps(emsc))
    assert loaded.transform(X).tobytes() == corrected.tobytes()
    chained = Pipeline([EMSC(wavenumbers=WN, interferents=PARAFFIN, degree=1), PCA(3)]).fit(X)
    np.testing.assert_allclose(chained.transform(X), PCA(3).fit(corrected).transform(corrected), atol=1e-9)
    assert [one.gathered for one in chained.passes_] == ["moments", "covariance"]


def test_a_given_reference_takes_no_pass(X: NDArray[Any]) -> None:
    pipeline = Pipeline([EMSC(wavenumbers=WN, reference=REFERENCE)]).fit(X)
    assert pipeline.n_passes_ == 0


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_blocks_of_any_length_agree(rows: int) -> None:
    X = make_spectra(1500).astype(np.float32)
    emsc = EMSC(wavenumbers=WN, interferents=PARAFFIN).fit(X)
    whole = emsc.transform(X)
    parts = np.concatenate([emsc.transform_block(X[start : start + rows]) for start in range(0, 1500, rows)])
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)
    assert emsc.transform(X).tobytes() == whole.tobytes()


def test_a_block_may_be_overwritten(X: NDArray[Any]) -> None:
    emsc = EMSC(wavenumbers=WN, interferents=PARAFFIN).fit(X)
    expected = emsc.transform(X)
    for dtype in ("float32", "float64"):
        block = X.astype(np.float32)
        mapped = emsc.set_params(dtype=dtype).fit(X).kernel(block, block)
        assert mapped is block
        np.testing.assert_allclose(block, expected, atol=2e-6)


def as_dataset(slide: Any) -> xr.Dataset:
    return slide.dataset((7, 8, 40)).rename(mz="wavenumber").assign_coords(wavenumber=("channel", WN[:40]))


def test_datasets_bring_their_axis_and_stay_lazy(slide: Any) -> None:
    dataset = as_dataset(slide)
    emsc = EMSC().fit(dataset)
    array = EMSC(wavenumbers=WN[:40]).fit(slide.X)
    np.testing.assert_allclose(emsc.reference_, array.reference_, rtol=1e-12)
    features = emsc.transform(dataset)["features"]
    assert features.chunks is not None
    np.testing.assert_allclose(features.values[slide.acquired], array.transform(slide.X), atol=1e-10)
    found, expected = emsc.details(dataset), array.details(slide.X)
    assert found["coefficients"].chunks is not None
    assert list(found["term"].values) == ["reference", "constant", "v", "v^2"]
    np.testing.assert_allclose(
        found["coefficients"].values[slide.acquired], expected.coefficients, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(found["residual_rms"].values[slide.acquired], expected.residual_rms, rtol=1e-9)
    assert not found["residual_rms"].values[~slide.acquired].any()
    assert set(found.data_vars) == {"coefficients", "residual_rms", "acquired"}
    residuals = emsc.residuals(dataset)["features"]
    np.testing.assert_allclose(residuals.values[slide.acquired], array.residuals(slide.X), atol=1e-10)
    with pytest.raises(AxisMismatch, match="they bring their axis along"):
        EMSC(wavenumbers=WN[40:80]).fit(dataset)


def test_studies_and_saved_pipelines(own_study: Study, load: Any) -> None:
    inside = load(own_study, own_study.slides)
    axis = own_study["slide_001"]["mz"].values
    interferents = np.random.default_rng(0).random((2, len(axis)))
    step = EMSC(interferents=interferents, excluded=[(axis[3], axis[9])], replicates="label")
    pipeline = Pipeline([step, PCA(2)]).fit(own_study, slides=own_study.slides, allow_test=True)
    array = EMSC(
        wavenumbers=axis, interferents=interferents, excluded=[(axis[3], axis[9])], replicates="label"
    ).fit(inside.X, inside.y)
    fitted = pipeline.steps_[0]
    assert isinstance(fitted, EMSC)
    np.testing.assert_allclose(fitted.reference_, array.reference_, rtol=1e-7)
    lazy = fitted.details(own_study)
    assert list(lazy) == lazy.slides == own_study.slides
    assert len(lazy) == 6
    spectra = load(own_study, ["slide_001"]).X
    b = lazy["slide_001"]["coefficients"].sel(term="reference").values[own_study.acquired("slide_001")]
    np.testing.assert_allclose(b, fitted.details(spectra)["reference"], rtol=1e-4)
    pipeline.save(own_study, name="emsc")
    loaded = Pipeline.load(own_study, name="emsc")
    assert loaded.transform(spectra).tobytes() == pipeline.transform(spectra).tobytes()
    assert loaded.steps_[0].term_names_ == fitted.term_names_  # type: ignore[attr-defined]
    mc.apply(own_study, name="emsc", slides=["slide_001"])
    stored = own_study["slide_001"]["emsc"].values[own_study.acquired("slide_001")]
    expected = pipeline.transform(spectra)
    np.testing.assert_allclose(stored, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("reference", ["mean", "good"])
def test_the_bits_do_not_depend_on_workers(slide: Any, reference: str) -> None:
    dataset = as_dataset(replace(slide, cube=slide.cube.astype(np.float32)))
    y = np.where(slide.labels == "tumour", 1, 0)
    fits = [
        EMSC(reference=reference, replicates="p").fit(dataset, y, scheduler=scheduler, workers=workers)
        for scheduler, workers in (("synchronous", None), ("threads", 1), ("threads", 3))
    ]
    assert len({fit.model_.tobytes() for fit in fits}) == 1
    assert len({fit.transform(dataset)["features"].values.tobytes() for fit in fits}) == 1
