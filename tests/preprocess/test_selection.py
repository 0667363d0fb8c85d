"""SelectChannels and Crop: scores, places, ties, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from msicube.errors import UsageError
from msicube.preprocess import PCA, Crop, Pipeline, SelectChannels, Standardize


@pytest.fixture(name="X")
def _spectra() -> NDArray[Any]:
    return np.random.default_rng(0).gamma(2.0, size=(90, 12))


def test_scores_are_differences_of_class_means(X: NDArray[Any]) -> None:
    y = np.where(np.arange(90) % 3 == 0, "tumour", "normal")
    select = SelectChannels(4).fit(X, y)
    expected = np.abs(X[y == "tumour"].mean(axis=0) - X[y == "normal"].mean(axis=0))
    np.testing.assert_allclose(select.scores_, expected, rtol=1e-12)
    np.testing.assert_array_equal(select.indices_, np.sort(np.argsort(expected)[-4:]))
    np.testing.assert_array_equal(select.transform(X), X[:, select.indices_])
    assert select.classes_ == ["normal", "tumour"]
    assert list(select.get_feature_names_out()) == [f"x{i}" for i in select.indices_]


def test_more_classes_are_scored_by_the_two_farthest_apart(X: NDArray[Any]) -> None:
    y = np.arange(90) % 3
    means = np.stack([X[y == c].mean(axis=0) for c in range(3)])
    select = SelectChannels(4).fit(X, y)
    np.testing.assert_allclose(select.scores_, np.ptp(means, axis=0), rtol=1e-12)
    assert select.classes_ == [0, 1, 2]


def test_of_equal_scores_the_lower_channel_is_taken() -> None:
    X = np.zeros((4, 6))
    X[:2, [1, 2, 4, 5]] = 1
    np.testing.assert_array_equal(SelectChannels(3).fit(X, [0, 0, 1, 1]).indices_, [1, 2, 4])


def test_behind_standardize_scores_are_in_standard_deviations_at_no_further_pass(X: NDArray[Any]) -> None:
    y = np.arange(90) % 2
    pipeline = Pipeline([Standardize(), SelectChannels(3)]).fit(X * np.arange(1, 13), y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(
        pipeline.steps_[1].scores_,  # type: ignore[attr-defined]
        np.abs(Z[y == 0].mean(axis=0) - Z[y == 1].mean(axis=0)),
        rtol=1e-10,
    )
    assert pipeline.n_passes_ == 1


@pytest.mark.parametrize("k", [0, 13, -1])
def test_k_must_fit(k: int, X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="between 1 and the 12 channels"):
        SelectChannels(k).fit(X, np.arange(90) % 2)


def test_it_needs_two_classes_and_says_so_before_anything_is_read(X: NDArray[Any]) -> None:
    seen: list[Any] = []
    with pytest.raises(UsageError, match="all spectra are of one, 'a'"):
        Pipeline([Standardize(), SelectChannels(3)]).fit(
            X, np.full(90, "a"), progress=lambda *event: seen.append(event)
        )
    assert not seen


def test_it_needs_classes(X: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="give them as y"):
        SelectChannels(3).fit(X)
    with pytest.raises(UsageError, match="2 spectra have no class"):
        SelectChannels(3).fit(X, [None, None, *["a", "b"] * 44])
    with pytest.raises(UsageError, match=r"y has shape \(89,\)"):
        SelectChannels(3).fit(X, np.arange(89) % 2)


def test_a_class_without_finite_spectra_does_not_count(X: NDArray[Any]) -> None:
    X[::2] = np.nan
    with pytest.raises(UsageError, match="all spectra are of one, 1"):
        SelectChannels(3).fit(X, np.arange(90) % 2)


def test_welch_t_is_scipys(X: NDArray[Any]) -> None:
    y = np.arange(90) % 3
    select = SelectChannels(4, criterion="t").fit(X, y)
    pairs = [(0, 1), (0, 2), (1, 2)]
    t = [np.abs(stats.ttest_ind(X[y == a], X[y == b], equal_var=False).statistic) for a, b in pairs]
    np.testing.assert_allclose(select.scores_, np.max(t, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(select.indices_, np.sort(np.argsort(select.scores_)[-4:]))


def test_t_of_constant_channels(X: NDArray[Any]) -> None:
    y = np.arange(90) % 2
    X[:, 3] = 0.1
    X[:, 5] = y
    scores = SelectChannels(2, criterion="t").fit(X, y).scores_
    assert scores[3] == 0
    assert scores[5] == np.inf
    with pytest.raises(UsageError, match=r"two finite spectra of each class, 'b' has one"):
        SelectChannels(2, criterion="t").fit(X, ["b", *["a"] * 89])


def test_variance_needs_no_classes(X: NDArray[Any]) -> None:
    select = SelectChannels(5, criterion="variance").fit(X)
    np.testing.assert_allclose(select.scores_, X.var(axis=0), rtol=1e-12)
    assert select.classes_ == []
    assert (select.n_spectra_, select.n_features_out_) == (90, 5)


def test_all_scores_come_from_one_pass(X: NDArray[Any]) -> None:
    y = np.arange(90) % 2
    steps = [
        Crop(1, 10),
        SelectChannels(8, criterion="variance"),
        SelectChannels(4, criterion="t"),
        Standardize(),
    ]
    pipeline = Pipeline(steps).fit(X, y)
    assert pipeline.n_passes_ == 1
    assert set(pipeline.chain.columns.tolist()) <= set(range(1, 11))  # type: ignore[union-attr]


def test_places_are_chosen_without_a_pass(slide: Any) -> None:
    dataset = slide.dataset()
    wanted = slide.mz[[30, 2, 17]]
    by_place = Pipeline([SelectChannels(at=wanted + 0.004, tolerance="ppm:10")]).fit(dataset)
    np.testing.assert_array_equal(by_place.steps_[0].indices_, [2, 17, 30])  # type: ignore[attr-defined]
    assert by_place.n_passes_ == 0
    np.testing.assert_array_equal(by_place.channels_out().values, slide.mz[[2, 17, 30]])
    by_range = SelectChannels(ranges=[(slide.mz[30], 1e6), (slide.mz[1], slide.mz[2])]).fit(dataset)
    np.testing.assert_array_equal(by_range.indices_, [1, 2, *range(30, 40)])
    assert np.isnan(by_range.scores_).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of the three"),
        ({"k": 3, "at": [1]}, "give one of the three"),
        ({"k": 3, "criterion": "F"}, "expected 'difference', 't' or 'variance'"),
        ({"at": [650.0], "tolerance": 0.01}, "no channel lies within 0.01 of 650"),
        ({"at": [610.0], "tolerance": "ppb:3"}, "expected a positive number"),
        ({"at": [550.0]}, "no channel lies within"),
        ({"at": [607.6, 607.8]}, "607.6, 607.8 fall into one channel"),
        ({"at": [np.nan]}, "finite positions"),
        ({"ranges": [(700, 650)]}, "expected a list of pairs"),
        ({"ranges": [(100, 200)]}, "no channel lies in 100 to 200: the data have 40 channels, mz 600 to 900"),
    ],
    ids=str,
)
def test_places_must_be_there(slide: Any, options: dict[str, Any], message: str) -> None:
    seen: list[Any] = []
    with pytest.raises(UsageError, match=message):
        Pipeline([Standardize(), SelectChannels(**options)]).fit(
            slide.dataset(), progress=lambda *event: seen.append(event)
        )
    assert not seen


def test_crop_keeps_a_part_of_the_axis(slide: Any) -> None:
    crop = Crop(slide.mz[5], slide.mz[20], exclude=[(slide.mz[10], slide.mz[12])]).fit(slide.dataset())
    kept = np.setdiff1d(np.arange(5, 21), [10, 11, 12])
    np.testing.assert_array_equal(crop.indices_, kept)
    np.testing.assert_array_equal(crop.channels_out().values, slide.mz[kept])
    np.testing.assert_array_equal(crop.transform_block(slide.X), slide.X[:, kept])
    np.testing.assert_array_equal(Crop(upper=3).fit(slide.X).indices_, [0, 1, 2, 3])
    np.testing.assert_array_equal(Crop(exclude=[(0, 36.5)]).fit(slide.X).indices_, [37, 38, 39])


def test_crop_works_on_an_axis_that_an_earlier_step_chose(slide: Any) -> None:
    pipeline = Pipeline([SelectChannels(20, criterion="variance"), Crop(650.0, 800.0)]).fit(slide.dataset())
    values = pipeline.channels_out().values
    assert 0 < len(values) < 20
    assert ((values >= 650) & (values <= 800)).all()


def test_components_are_cropped_by_number(slide: Any) -> None:
    pipeline = Pipeline([PCA(40), Crop(2, 3)]).fit(slide.dataset())
    assert list(pipeline.get_feature_names_out()) == ["PC2", "PC3"]


def test_a_descending_axis_is_as_good(slide: Any) -> None:
    turned = slide.dataset().isel(channel=slice(None, None, -1))
    np.testing.assert_array_equal(Crop(slide.mz[3], slide.mz[5]).fit(turned).indices_, [34, 35, 36])
    np.testing.assert_array_equal(SelectChannels(at=slide.mz[[3, 7]]).fit(turned).indices_, [32, 36])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "keeps everything"),
        ({"lower": 1000.0}, "no channel lies in 1000 to inf"),
        ({"lower": 650.0, "exclude": [(600, 900)]}, "leaves no channel"),
        ({"exclude": [(3,)]}, "expected a list of pairs"),
    ],
    ids=str,
)
def test_crop_must_leave_something(slide: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Crop(**options).fit(slide.dataset())
