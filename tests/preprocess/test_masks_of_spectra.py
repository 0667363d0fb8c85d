"""Each mask against an oracle: scikit-learn's k-means, brute force, scipy's distributions and morphology."""

from __future__ import annotations

import pickle
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn import decomposition
from sklearn.base import clone
from sklearn.cluster import KMeans

from msicube.errors import MSICubeError, NoFiniteSpectrum, UsageError
from msicube.preprocess import (
    BandMask,
    CoverageMask,
    DeadPixelMask,
    OutlierMask,
    ParaffinMask,
    TICMask,
    TissueMask,
)
from msicube.preprocess.masks.clustering import Clusterer, Sampler
from msicube.preprocess.masks.coverage import coverage
from msicube.preprocess.masks.histogram import Histogram
from msicube.preprocess.masks.outliers import q_limit

WAVENUMBERS = np.linspace(900.0, 1800.0, 90)
BAND = (WAVENUMBERS >= 1500) & (WAVENUMBERS <= 1700)


def infrared(n_tissue: int = 500, n_rest: int = 700, seed: int = 0, dtype: Any = np.float32) -> NDArray[Any]:
    """Spectra of tissue, which come first, and of what is around it."""
    rng = np.random.default_rng(seed)
    protein = np.exp(-(((WAVENUMBERS - 1650) / 30) ** 2)) + 0.6 * np.exp(-(((WAVENUMBERS - 1540) / 30) ** 2))
    paraffin = np.exp(-(((WAVENUMBERS - 1465) / 12) ** 2))
    tissue = protein * rng.gamma(60, 0.01, (n_tissue, 1)) + paraffin * rng.random((n_tissue, 1))
    rest = paraffin * np.where(rng.random((n_rest, 1)) < 0.4, rng.normal(0.8, 0.1, (n_rest, 1)), 0)
    return (np.vstack([tissue, rest]) + 0.03 * rng.normal(size=(n_tissue + n_rest, 90))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_from_the_same_centres_scikit_learn_finds_the_same_clusters(seed: int, dtype: Any) -> None:
    X = infrared(dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    band = X[:, BAND].astype(np.float64)
    init = band[rng.choice(len(X), 2, replace=False)]
    ours = TissueMask(wavenumbers=WAVENUMBERS, init=init, tol=0).fit(X)
    theirs = KMeans(2, init=init, n_init=1, tol=0, max_iter=500).fit(band)
    order = np.argsort(theirs.cluster_centers_.mean(axis=1))
    np.testing.assert_allclose(ours.centres_, theirs.cluster_centers_[order], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.labels_ == order[1])
    assert ours.n_clusters_ == 2


def test_by_default_it_ends_where_the_best_of_many_starts_ends() -> None:
    X = infrared()
    ours = TissueMask(wavenumbers=WAVENUMBERS, tol=0).fit(X)
    theirs = KMeans(2, n_init=20, tol=0, random_state=1).fit(X[:, BAND].astype(np.float64))
    order = np.argsort(theirs.cluster_centers_.mean(axis=1))
    np.testing.assert_allclose(ours.centres_, theirs.cluster_centers_[order], rtol=1e-9, atol=1e-12)
    assert ours.n_iter_ <= 3
    assert ours.separation_ > 2


def test_tissue_is_the_cluster_that_absorbs_more_whichever_is_larger() -> None:
    for n_tissue, n_rest in ((900, 100), (100, 900)):
        X = infrared(n_tissue, n_rest)
        held = TissueMask(wavenumbers=WAVENUMBERS).fit_predict(X)
        assert held[:n_tissue].mean() > 0.8
        assert held[n_tissue:].mean() < 0.01


def test_paraffin_outside_tissue_and_with_tissue_set_to_zero() -> None:
    X, n_tissue = infrared(), 500
    rest = X[n_tissue:]
    outside = ParaffinMask(wavenumbers=WAVENUMBERS, tol=0).fit(rest)
    held = outside.predict(rest)
    assert held.mean() == pytest.approx(0.4, abs=0.05)
    paper = ParaffinMask(wavenumbers=WAVENUMBERS, tol=0, n_zeros=n_tissue).fit(rest)
    zeroed = np.vstack([np.zeros((n_tissue, 90), np.float32), rest])
    band = (WAVENUMBERS >= 1450) & (WAVENUMBERS <= 1480)
    theirs = KMeans(2, n_init=10, tol=0, random_state=0).fit(zeroed[:, band].astype(np.float64))
    order = np.argsort(theirs.cluster_centers_.mean(axis=1))
    np.testing.assert_allclose(paper.centres_, theirs.cluster_centers_[order], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(paper.predict(rest), theirs.labels_[n_tissue:] == order[1])
    assert paper.n_spectra_ == len(rest)


def test_spectra_that_are_not_finite_belong_to_no_cluster() -> None:
    X = infrared()
    expected = TissueMask(wavenumbers=WAVENUMBERS).fit(np.delete(X, [3, 700], axis=0))
    X[3, BAND.argmax()], X[700, BAND.argmax() + 1] = np.nan, -np.inf
    X[5, 0] = np.nan  # outside of the band, where nothing is looked at
    mask = TissueMask(wavenumbers=WAVENUMBERS).fit(X)
    np.testing.assert_array_equal(mask.centres_, expected.centres_)
    assert (mask.n_spectra_, mask.n_nonfinite_) == (1198, 2)
    held = mask.predict(X)
    assert not held[3]
    assert not held[700]
    assert held[5]
    with pytest.raises(NoFiniteSpectrum):
        TissueMask(wavenumbers=WAVENUMBERS).fit(np.full((3, 90), np.nan))


@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("init", [None, np.zeros((2, 4))])
def test_spectra_that_are_all_alike_are_one_cluster(n: int, init: Any) -> None:
    X = np.tile(np.arange(4.0), (n, 1))
    mask = BandMask(init=init).fit(X)
    assert (mask.n_clusters_, mask.separation_) == (1, 0.0)
    np.testing.assert_array_equal(mask.centres_, [X[0], X[0]])
    assert mask.predict(X).all()
    assert not mask.predict(np.full((1, 4), np.nan)).any()


def test_many_equal_spectra_do_not_crowd_out_the_others(monkeypatch: Any) -> None:
    monkeypatch.setattr("msicube.preprocess.masks.bands.SAMPLE_SIZE", 16)
    X = np.vstack([np.zeros((5000, 3)), 1 + 0.01 * np.random.default_rng(0).normal(size=(60, 3))])
    for seed in range(8):
        held = BandMask(seed=seed).fit_predict(X)
        np.testing.assert_array_equal(held, np.arange(len(X)) >= 5000)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.permutations(range(41)))
def test_samples_and_sums_depend_on_no_cut_and_no_order(seed: int, cut: int, order: list[int]) -> None:
    X = np.random.default_rng(seed).integers(0, 3, (41, 3)).astype(np.float32)
    X[5, 1] = np.nan
    sampler, clusterer = Sampler(9, seed), Clusterer(np.array([[0.0, 0, 0], [1.0, 2, 1]]))
    one, other = sampler(X), sampler(X[order][:cut]).merge(sampler(X[order][cut:]))
    for field in ("keys", "rows", "counts", "n", "n_nonfinite"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    distinct = np.unique(X[np.isfinite(X).all(axis=1)], axis=0)
    assert len(one.keys) == min(9, len(distinct))
    for row, count in zip(one.rows, one.counts, strict=True):
        assert count == (row == X).all(axis=1).sum()
    sums, merged = clusterer(X), clusterer(X[order][:cut]).merge(clusterer(X[order][cut:]))
    for field in ("sums", "counts", "inertia", "n_nonfinite"):
        np.testing.assert_allclose(getattr(sums, field), getattr(merged, field))


def test_a_sample_is_drawn_evenly() -> None:
    X = np.arange(2000, dtype=np.float32)[:, None]
    drawn = np.concatenate([Sampler(50, seed)(X).rows.ravel() for seed in range(80)])
    assert stats.kstest(drawn / 2000, "uniform").pvalue > 1e-3


def test_tic_threshold_by_otsu_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(2)
    X = rng.gamma(2.0, 1.0, (600, 8)) * np.where(rng.random((600, 1)) < 0.3, 9.0, 1.0)
    tic = X.sum(axis=1)
    for log in (False, True):
        values = np.sort(np.log(tic) if log else tic)
        between = [i * (600 - i) * (values[i:].mean() - values[:i].mean()) ** 2 for i in range(1, 600)]
        best = int(np.argmax(between)) + 1
        mask = TICMask(log=log).fit(X)
        edges = np.exp(values[best - 1 : best + 1]) if log else values[best - 1 : best + 1]
        assert edges[0] * 0.998 <= mask.threshold_ <= edges[1] * 1.002
        np.testing.assert_array_equal(mask.predict(X), tic >= mask.threshold_)


def test_tic_threshold_of_odd_data() -> None:
    X = np.ones((5, 4))
    assert TICMask().fit_predict(X).all()  # one value: nothing to part
    assert TICMask(threshold=4.5).fit_predict(X).sum() == 0
    X[0, 0], X[1, 0] = np.nan, np.inf
    np.testing.assert_array_equal(TICMask(threshold=2).fit_predict(X), [False, False, True, True, True])
    with pytest.raises(UsageError, match="no spectrum has a positive"):
        TICMask(log=True).fit(np.zeros((3, 4)))
    with pytest.raises(UsageError, match='expected a number, or "otsu"'):
        TICMask(threshold="li").fit(X)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=60), st.data())
def test_histograms_merge_and_order_their_values(values: list[float], data: Any) -> None:
    x = np.array(values)
    cut = data.draw(st.integers(0, len(x)))
    one, merged = Histogram.of(x), Histogram.of(x[:cut]).merge(Histogram.of(x[cut:]))
    np.testing.assert_array_equal(one.bins, merged.bins)
    np.testing.assert_array_equal(one.counts, merged.counts)
    means, counts = one.ascending()
    assert counts.sum() == len(x)
    assert (np.diff(means) >= 0).all()
    np.testing.assert_allclose(np.repeat(means, counts), np.sort(x), rtol=2e-3, atol=1e-37)


@pytest.mark.parametrize("rule", ["either", "t2", "q"])
def test_outliers_are_those_of_the_textbook(rule: str) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(800, 3)) @ rng.normal(size=(3, 12)) * 3 + rng.normal(size=(800, 12)) + 5
    X[:5] += 40 * rng.normal(size=12)
    mask = OutlierMask(n_components=3, alpha=0.02, rule=rule).fit(X)
    pca = decomposition.PCA(svd_solver="full").fit(X)
    scores = pca.transform(X)[:, :3]
    t2 = (scores**2 / pca.explained_variance_[:3]).sum(axis=1)
    q = ((X - pca.mean_ - scores @ pca.components_[:3]) ** 2).sum(axis=1)
    features = mask.transform(X)
    np.testing.assert_allclose(features[:, 1], t2, rtol=1e-8)
    np.testing.assert_allclose(features[:, 2], q, rtol=1e-8)
    t2_limit = 3 * (800**2 - 1) / (800 * 797) * stats.f.ppf(0.98, 3, 797)
    assert mask.t2_limit_ == pytest.approx(t2_limit)
    over = {"t2": t2 > t2_limit, "q": q > mask.q_limit_}
    np.testing.assert_array_equal(mask.predict(X), over["t2"] | over["q"] if rule == "either" else over[rule])
    assert mask.captured_variance_ == pytest.approx(pca.explained_variance_ratio_[:3].sum())


def test_limits_give_up_the_fraction_that_they_promise() -> None:
    rng = np.random.default_rng(4)
    scale = np.sqrt(np.array([50, 20, 10, 3, 2.5, 2, 1.5, 1, 0.7, 0.4]))
    fitted = {
        rule: OutlierMask(n_components=3, alpha=0.05, rule=rule).fit(rng.normal(size=(20_000, 10)) * scale)
        for rule in ("t2", "q")
    }
    fresh = rng.normal(size=(40_000, 10)) * scale
    for mask in fitted.values():
        assert mask.predict(fresh).mean() == pytest.approx(0.05, abs=0.006)


def test_q_limit_of_equal_variances_is_nearly_chi_squared() -> None:
    assert q_limit(np.full(50, 2.0), 0.05) == pytest.approx(2 * stats.chi2.ppf(0.95, 50), rel=2e-3)
    lopsided = np.array([100.0, *[0.5] * 200])  # where the expansion fails
    assert q_limit(lopsided, 0.05) == pytest.approx(
        (lopsided**2).sum() / 200 * stats.chi2.ppf(0.95, 200**2 / (lopsided**2).sum())
    )
    assert q_limit(np.zeros(4), 0.05) == 0.0


def test_outliers_of_odd_data() -> None:
    X = np.random.default_rng(0).normal(size=(50, 4))
    X[7, 0] = np.inf
    mask = OutlierMask(n_components=2).fit(X)
    held, features = mask.predict(X), mask.transform(X)
    assert held[7]
    assert np.isnan(features[7, 1:]).all()
    assert not OutlierMask(n_components=2).fit_predict(np.ones((9, 4))).any()
    with pytest.raises(UsageError, match="at least 4 are needed to set limits"):
        OutlierMask(n_components=2).fit(X[:3])
    for parameters in ({"n_components": 4}, {"alpha": 1.0}, {"rule": "both"}):
        with pytest.raises(UsageError, match="OutlierMask"):
            OutlierMask(**parameters).fit(X)


def test_dead_pixels() -> None:
    X = np.random.default_rng(0).normal(1.0, 0.1, (60, 6))
    X[0], X[1], X[2, 3], X[3, 0], X[4, 2], X[5] = 0.0, 7.5, np.nan, -np.inf, 3.0, X[5] + 0.9
    assert np.flatnonzero(DeadPixelMask().fit_predict(X)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(DeadPixelMask(limits=(-1, 2.5)).fit_predict(X)).tolist() == [0, 1, 2, 3, 4]
    mask = DeadPixelMask(n_mads=15).fit(X)
    assert np.flatnonzero(mask.predict(X)).tolist() == [0, 1, 2, 3, 5]
    means = X[4:].mean(axis=1)
    assert mask.median_ == pytest.approx(np.median(means), rel=5e-3)
    assert mask.mad_ == pytest.approx(stats.median_abs_deviation(means), rel=0.1)
    assert mask.n_nonfinite_ == 2
    for parameters in ({"limits": (2, 1)}, {"n_mads": 0}):
        with pytest.raises(UsageError, match="DeadPixelMask"):
            DeadPixelMask(**parameters).fit(X)


def test_coverage_is_scipys_morphology() -> None:
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2) > 0.03
    given = mask.copy()
    inside = ndimage.generic_filter(mask.astype(float), np.nanmean, 5, mode="constant", cval=np.nan)
    np.testing.assert_allclose(coverage(mask, 2), inside, rtol=1e-12)
    np.testing.assert_array_equal(
        CoverageMask(radius=2, min_fraction=0.6).predict(mask), mask & (inside >= 0.6)
    )
    filled = CoverageMask(max_hole=mask.size).predict(mask)
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask))
    numbers, n = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, numbers, np.arange(1, n + 1))
    np.testing.assert_array_equal(
        CoverageMask(min_area=12).predict(mask), np.isin(numbers, 1 + np.flatnonzero(sizes >= 12))
    )
    acquired = rng.random(mask.shape) < 0.5
    assert not CoverageMask(max_hole=99).predict(mask, acquired)[~acquired].any()
    assert mask.tobytes() == given.tobytes()
    with pytest.raises(UsageError, match=r"expected \(y, x\) bool"):
        CoverageMask().predict(np.ones((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a fraction of at most 1"):
        CoverageMask(min_fraction=1.5).predict(mask)


def test_holes_and_islands_of_a_drawing() -> None:
    rows = ["#####..#", "#...#...", "#.#.#.##", "#...#.##", "#####..."]
    mask = np.array([[letter == "#" for letter in row] for row in rows])
    filled = np.array(
        [
            [letter == "#" for letter in row]
            for row in ["#####..#", *["#####..."], "#####.##", "#####.##", "#####..."]
        ]
    )
    np.testing.assert_array_equal(CoverageMask(max_hole=8).predict(mask), filled)
    np.testing.assert_array_equal(CoverageMask(max_hole=7).predict(mask), mask)
    assert not CoverageMask(min_area=2).predict(mask)[0, 7]


MASKS = [
    TissueMask(band=None),
    ParaffinMask(band=None),
    TICMask(),
    OutlierMask(n_components=3),
    DeadPixelMask(n_mads=9),
]


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_arrays_datasets_and_studies_agree(mask: Any, slide: Any, build_study: Any) -> None:
    given = slide.X.copy()
    fitted = clone(mask).fit(slide.X)
    held = fitted.predict(slide.X)
    assert held.dtype == bool
    assert held.shape == (len(slide.X),)
    lazy = fitted.predict(slide.dataset((7, 7, 40)))
    assert isinstance(lazy.data, da.Array)
    assert (lazy.dims, lazy.dtype) == (("y", "x"), bool)
    np.testing.assert_array_equal(lazy.values[slide.acquired], held)
    assert not lazy.values[~slide.acquired].any()
    study = build_study({"a": slide})
    np.testing.assert_array_equal(fitted.predict(study)["a"].values, lazy.values)
    on_study = clone(mask).fit(study)
    np.testing.assert_array_equal(on_study.predict(study)["a"].values, lazy.values)
    assert slide.X.tobytes() == given.tobytes()
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(slide.X), held)
    with pytest.raises(MSICubeError, match="not fitted"):
        clone(mask).predict(slide.X)


def test_only_the_band_is_read(slide: Any) -> None:
    mask = BandMask(band=(700, 760)).fit(slide.dataset())
    np.testing.assert_array_equal(mask.chain.columns, np.flatnonzero((slide.mz >= 700) & (slide.mz <= 760)))
    np.testing.assert_array_equal(
        mask.predict(slide.X), BandMask().fit_predict(slide.X[:, mask.chain.columns])
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (TissueMask(), "the columns of an array have no wavenumbers"),
        (TissueMask(wavenumbers=np.arange(90)), "no channel lies in the band, the spectra have 90 channels"),
        (TissueMask(wavenumbers=np.arange(4)), "the spectra have 90 channels"),
        (BandMask(init=np.zeros((3, 90))), "expected two centres of the band's 90 channels"),
        (BandMask(init=np.zeros((2, 5))), "init of shape"),
        (BandMask(n_init=0), "at least one clustering"),
    ],
)
def test_what_k_means_refuses(mask: BandMask, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mask.fit(infrared())
