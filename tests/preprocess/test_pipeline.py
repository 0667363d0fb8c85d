"""The chain of the paper against NumPy and scikit-learn, for any chunking, scheduler and number of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

import msicube as mc
from msicube import errors
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, TICNormalize
from msicube.preprocess import engine as engine_module
from msicube.preprocess import sources as sources_module
from msicube.store import Study

TRAIN = ["slide_003", "slide_004", "slide_005", "slide_006"]


def assert_agrees(pipeline: Pipeline, oracle: Any, X: NDArray[Any]) -> None:
    _, _, standardize, select, pca = pipeline.steps_
    np.testing.assert_allclose(standardize.mean_, oracle.scaler.mean_, rtol=1e-10)  # type: ignore[attr-defined]
    np.testing.assert_allclose(standardize.scale_, oracle.scaler.scale_, rtol=1e-10)  # type: ignore[attr-defined]
    np.testing.assert_allclose(select.scores_, oracle.scores, rtol=1e-9, atol=1e-12)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(select.indices_, oracle.indices)  # type: ignore[attr-defined]
    for name in ("components_", "mean_", "explained_variance_", "explained_variance_ratio_"):
        expected = getattr(oracle.pca, name)
        np.testing.assert_allclose(getattr(pca, name), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(pipeline.transform_block(X), oracle.transform(X), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "chunks",
    [None, (23, 19, 40), (5, 7, 40), (1, 19, 40), (8, 4, 13), ((20, 3), (1, 18), (39, 1))],
    ids=str,
)
def test_any_chunking_of_a_dataset_gives_the_numbers_of_numpy(
    slide: Any, chain: Any, oracle: Any, chunks: Any
) -> None:
    pipeline = chain().fit(slide.dataset(chunks), slide.labels)
    assert_agrees(pipeline, oracle(slide.X, slide.y), slide.X)
    assert pipeline.n_spectra_ == slide.acquired.sum()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 22), max_size=4), st.lists(st.integers(1, 18), max_size=4))
def test_any_rectangles_of_a_dataset_give_the_numbers_of_one(ys: list[int], xs: list[int]) -> None:
    rng = np.random.default_rng(3)
    cube = rng.gamma(2.0, size=(23, 19, 6))
    chunks = tuple(tuple(np.diff([0, *sorted(set(cuts)), n]).tolist()) for cuts, n in ((ys, 23), (xs, 19)))
    whole = Pipeline([Log1p(), Standardize(), PCA(2)]).fit(_dataset(cube, (23, 19)))
    cut = Pipeline([Log1p(), Standardize(), PCA(2)]).fit(_dataset(cube, chunks))
    for one, other in zip(whole.steps_[1:], cut.steps_[1:], strict=True):
        for name in one.learned_arrays:
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-10, atol=1e-11)


def _dataset(cube: NDArray[Any], chunks: Any) -> Any:
    import dask.array as da
    import xarray as xr

    return xr.Dataset({"intensity": (("y", "x", "channel"), da.from_array(cube, chunks=(*chunks, -1)))})


def test_an_array_gives_the_numbers_of_numpy(slide: Any, chain: Any, oracle: Any) -> None:
    assert_agrees(chain().fit(slide.X, slide.y), oracle(slide.X, slide.y), slide.X)


def test_rows_of_an_array_are_merged(slide: Any, chain: Any, oracle: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("msicube.preprocess.inputs.PIECE_BYTES", 40 * 8 * 50)
    events: list[tuple[str, int, int]] = []
    pipeline = chain().fit(slide.X, slide.y, progress=lambda *event: events.append(event))
    assert_agrees(pipeline, oracle(slide.X, slide.y), slide.X)
    n_pieces = -(-len(slide.X) // 50)
    first, second = "pass 1: moments by label", "pass 2: covariance"
    assert events == [(label, i + 1, n_pieces) for label in (first, second) for i in range(n_pieces)]


def test_a_study_gives_the_numbers_of_numpy(study: Study, chain: Any, oracle: Any, load: Any) -> None:
    data = load(study, TRAIN)
    pipeline = chain(30).fit(study)
    expected = oracle(data.X, data.y, 30)
    X = data.X.astype(np.float64)
    np.testing.assert_array_equal(pipeline.steps_[3].indices_, expected.indices)
    # The kernels before the first statistic run in float32, like the spectra.
    np.testing.assert_allclose(pipeline.steps_[2].mean_, expected.scaler.mean_, rtol=1e-6)
    scores = expected.transform(X)
    np.testing.assert_allclose(pipeline.transform_block(X), scores, atol=1e-5 * np.abs(scores).max())


@pytest.mark.parametrize(
    ("scheduler", "workers"), [("threads", 1), ("threads", 2), ("threads", 7), ("processes", 2)]
)
def test_every_scheduler_gives_the_same_bits(study: Study, chain: Any, scheduler: str, workers: int) -> None:
    expected = chain(30).fit(study, scheduler="synchronous")
    pipeline = chain(30).fit(study, scheduler=scheduler, workers=workers)
    assert pipeline.fingerprint() == expected.fingerprint()


def test_a_cluster_gives_the_same_bits_and_reports_every_tile(
    study: Study, chain: Any, client: Client
) -> None:
    expected = chain(30).fit(study, scheduler="synchronous")
    events: list[tuple[str, int, int]] = []
    by_client = chain(30).fit(study, scheduler=client, progress=lambda *event: events.append(event))
    by_address = chain(30).fit(study, scheduler=client.scheduler.address)
    assert by_client.fingerprint() == by_address.fingerprint() == expected.fingerprint()
    for number, gathered in enumerate(("moments by label", "covariance"), start=1):
        for slide in TRAIN:
            n_tiles, label = len(study.cube(slide).tiles()), f"pass {number}: {gathered}, {slide}"
            assert [event for event in events if event[0] == label] == [
                (label, i + 1, n_tiles) for i in range(n_tiles)
            ]


def test_an_error_on_a_cluster_is_raised_here(own_study: Study, chain: Any, client: Client) -> None:
    next(Path(own_study.path, "slide_004", "intensity", "c").rglob("0/0/0")).unlink()
    for scheduler in (client, "threads"):
        with pytest.raises(errors.CorruptStore, match="slide slide_004: the shard of intensity"):
            chain(30).fit(own_study, scheduler=scheduler)


def test_the_size_of_strips_and_blocks_changes_no_more_than_rounding(
    study: Study, chain: Any, monkeypatch: Any
) -> None:
    expected = chain(30).fit(study)
    monkeypatch.setattr(sources_module, "STRIP_BYTES", 16 * 1024)
    monkeypatch.setattr("msicube.preprocess.request.BLOCK_BYTES", 1)
    monkeypatch.setattr(engine_module, "FAN_IN", 5)
    other = chain(30).fit(study)
    assert other.fingerprint() != expected.fingerprint()
    np.testing.assert_allclose(other.steps_[2].mean_, expected.steps_[2].mean_, rtol=1e-12)
    np.testing.assert_allclose(other.steps_[4].components_, expected.steps_[4].components_, atol=1e-6)


def test_the_chain_of_the_paper_takes_two_passes(study: Study, chain: Any) -> None:
    pipeline = chain(30).fit(study)
    assert pipeline.n_passes_ == 2
    n = sum(int(study.acquired(slide).sum()) for slide in TRAIN)
    assert [one.as_dict() for one in pipeline.passes_] == [
        {"gathered": "moments by label", "before": "Standardize", "n_channels": 160, "n_spectra": n, "n_nonfinite": 0,
         "n_kept": 0},
        {"gathered": "covariance", "before": "PCA", "n_channels": 30, "n_spectra": n, "n_nonfinite": 0,
         "n_kept": 0},
    ]  # fmt: skip
    assert pipeline.slides_ == TRAIN
    assert pipeline.labels_ == ["normal", "tumour"]
    np.testing.assert_array_equal(pipeline.axis_, study.axis("slide_001"))
    assert (pipeline.n_spectra_, pipeline.n_features_in_, pipeline.n_features_out_) == (n, 160, 3)


@pytest.mark.parametrize(
    ("steps", "n_passes"),
    [
        ([TICNormalize(), Log1p()], 0),
        ([Standardize(), Standardize(), SelectChannels(5), Standardize()], 1),
        ([SelectChannels(5), PCA(2)], 2),
        ([PCA(4), PCA(2)], 1),
        ([Standardize(), Log1p(), Standardize()], 2),
        ([Standardize(), SelectChannels(9, by="label"), SelectChannels(5, by="patient")], 2),
    ],
    ids=str,
)
def test_passes_are_made_only_where_a_statistic_does_not_follow(
    steps: list[Any], n_passes: int, study: Study
) -> None:
    assert Pipeline(steps).fit(study).n_passes_ == n_passes


def test_statistics_carried_through_steps_are_those_of_their_output(slide: Any) -> None:
    pipeline = Pipeline([Standardize(), SelectChannels(5), Standardize()]).fit(slide.X, slide.y)
    Z = Pipeline([Standardize(), SelectChannels(5)]).fit(slide.X, slide.y).transform(slide.X)
    again = Standardize().fit(Z)
    np.testing.assert_allclose(pipeline.steps_[2].mean_, again.mean_, atol=1e-12)  # type: ignore[attr-defined]
    np.testing.assert_allclose(pipeline.steps_[2].scale_, again.scale_, rtol=1e-12)  # type: ignore[attr-defined]


def test_nothing_that_comes_in_is_changed(slide: Any, chain: Any, study: Study) -> None:
    X, dataset = slide.X.copy(), slide.dataset()
    pipeline = chain()
    params = clone(pipeline)
    pipeline.fit(X, slide.y).transform(X)
    pipeline.fit(dataset, slide.labels).transform(dataset)["features"].compute()
    assert X.tobytes() == slide.X.tobytes()
    assert dataset.identical(slide.dataset())
    assert dataset["intensity"].values.tobytes() == slide.cube.tobytes()
    assert not any(hasattr(step, "_chain") for step in pipeline.steps)
    assert str(pipeline) == str(params)


def test_test_slides_do_not_leak_into_a_fit(study: Study, chain: Any) -> None:
    assert chain(30).fit(study).slides_ == TRAIN
    with pytest.raises(errors.LeakageError, match=r"slide slide_001 is held out.*allow_test=True"):
        chain(30).fit(study, slides=["slide_003", "slide_001"])
    allowed = chain(30).fit(study, slides=["slide_003", "slide_002"], allow_test=True)
    assert allowed.slides_ == ["slide_002", "slide_003"]
    poisoned = chain(30).fit(study, slides=iter(TRAIN[::-1]))
    assert poisoned.fingerprint() == chain(30).fit(study).fingerprint()


def test_slides_must_exist_and_be_named(study: Study, chain: Any) -> None:
    with pytest.raises(errors.UnknownSlide, match="no slide 'nowhere'"):
        chain(30).fit(study, slides=["slide_003", "nowhere"])
    with pytest.raises(errors.UsageError, match="slides= is empty"):
        chain(30).fit(study, slides=[])
    with pytest.raises(errors.UsageError, match="slides= and allow_test= are for studies"):
        chain(10).fit(np.ones((3, 20)), [0, 1, 1], slides=["slide_003"])
    with pytest.raises(errors.UsageError, match="samples table, name the column"):
        chain(30).fit(study, [0, 1])


def test_labels_must_exist(study: Study) -> None:
    with pytest.raises(errors.UsageError, match=r"no column 'grade'.*label, patient, split"):
        SelectChannels(5, by="grade").fit(study)


def test_a_slide_without_a_label_is_named(build_study: Any, slide: Any) -> None:
    study = build_study({"one": slide, "two": slide}, samples={"one": {"label": "a"}, "two": {}})
    with pytest.raises(errors.UsageError, match="slide two is without a value of 'label'"):
        SelectChannels(5).fit(study)
    assert Standardize().fit(study).n_spectra_ == 2 * slide.acquired.sum()


def test_slides_on_different_axes_do_not_mix(build_study: Any, slide: Any) -> None:
    shifted = replace(slide, mz=slide.mz + 1e-9)
    study = build_study({"one": slide, "three": slide, "two": shifted})
    with pytest.raises(errors.AxisMismatch, match=r"slides one \(40 channels, mz 600 to 900\) and two"):
        Standardize().fit(study)
    scaler = Standardize().fit(study, slides=["one", "three"])
    with pytest.raises(errors.AxisMismatch, match="slide two lies on another axis"):
        scaler.transform(study)["two"]
    with pytest.raises(errors.AxisMismatch, match="the dataset lies on another axis"):
        scaler.transform(study["two"])
    with pytest.raises(errors.UsageError, match="39 channels, this was fitted on 40"):
        scaler.transform(slide.dataset().isel(channel=slice(39)))


def test_slides_of_one_pixel_and_of_none(build_study: Any, slide: Any) -> None:
    dot = replace(slide, cube=slide.cube[:1, :1], acquired=np.ones((1, 1), bool))
    dark = replace(slide, acquired=np.zeros_like(slide.acquired))
    study = build_study({"dark": dark, "dot": dot, "slide": slide})
    scaler = Standardize().fit(study)
    X = np.concatenate([dot.X, slide.X])
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0), rtol=1e-12)
    assert scaler.n_spectra_ == len(X)
    with pytest.raises(errors.UsageError, match="dark: no pixel is acquired"):
        Standardize().fit(study, slides="dark")


def test_a_step_by_itself_fits_a_study(study: Study, load: Any) -> None:
    data = load(study, TRAIN)
    scaler = Standardize().fit(study)
    np.testing.assert_allclose(scaler.mean_, data.X.mean(axis=0, dtype=np.float64), rtol=1e-12)
    by_patient = SelectChannels(5, by="patient").fit(study, slides=TRAIN)
    assert by_patient.classes_ == ["patient_002", "patient_003", "patient_004"]
    assert list(scaler.get_feature_names_out()[:1]) == [f"mz {study.axis('slide_001').tolist()[0]}"]


def test_parameters_reach_the_steps(chain: Any) -> None:
    pipeline = chain()
    assert pipeline.get_params()["selectchannels__k"] == 10
    pipeline.set_params(pca__n_components=2, log1p=Standardize())
    assert pipeline.steps[-1].n_components == 2
    assert isinstance(pipeline.steps[1], Standardize)
    pipeline.set_params(**{"standardize-2__with_std": False})
    assert not pipeline.steps[2].with_std
    copy = clone(pipeline)
    assert copy.steps[0] is not pipeline.steps[0]
    assert str(copy) == str(pipeline)


def test_before_fit_everything_says_so(chain: Any, slide: Any) -> None:
    pipeline = chain()
    for call in (
        lambda: pipeline.transform(slide.X),
        lambda: pipeline.transform_block(slide.X),
        lambda: pipeline.get_feature_names_out(),
        lambda: pipeline.fingerprint(),
        lambda: PCA(2).inverse_transform(slide.X),
        lambda: Standardize().transform(slide.X),
    ):
        with pytest.raises(errors.NotFittedError, match="call fit"):
            call()
        with pytest.raises(SklearnNotFittedError):
            call()


def test_a_fit_that_fails_changes_nothing(chain: Any, slide: Any) -> None:
    pipeline = chain().fit(slide.X, slide.y)
    scaler = Standardize().fit(slide.X)
    before = pipeline.fingerprint(), scaler.mean_.copy()
    with pytest.raises(errors.UsageError, match=r"all 3 spectra hold a NaN or an infinity"):
        pipeline.fit(np.full((3, 40), np.nan), [0, 1, 1])
    with pytest.raises(errors.UsageError, match=r"all 3 spectra hold a NaN or an infinity"):
        scaler.fit(np.full((3, 40), np.nan))
    assert pipeline.fingerprint() == before[0]
    np.testing.assert_array_equal(scaler.mean_, before[1])


def test_what_no_pipeline_can_take(slide: Any, chain: Any) -> None:
    for steps in ([], [TICNormalize(), "log"], [PCA]):
        with pytest.raises(errors.UsageError, match="takes a list of steps"):
            Pipeline(steps).fit(slide.X)  # type: ignore[arg-type]
    for X in (slide.X[0], slide.X[:0], [["a", "b"]], slide.dataset().drop_vars("intensity")):
        with pytest.raises(errors.UsageError):
            chain().fit(X)
    dark = slide.dataset()
    dark["acquired"][:] = False
    with pytest.raises(errors.UsageError, match="no pixel is acquired"):
        Standardize().fit(dark)


def test_scikit_learns_conventions_hold(slide: Any) -> None:
    pipeline = mc.Pipeline([TICNormalize(), Log1p(), Standardize(), PCA(2)])
    scores = pipeline.fit_transform(slide.X)
    np.testing.assert_array_equal(scores, pipeline.transform(slide.X))
    assert pipeline.n_features_in_ == 40
    frame = PCA(2).set_output(transform="pandas").fit_transform(slide.X)
    assert list(frame.columns) == ["PC1", "PC2"]


def test_the_order_of_given_slides_does_not_matter(study: Study, chain: Callable[..., Pipeline]) -> None:
    one = chain(30).fit(study, slides=TRAIN)
    assert one.fingerprint() == chain(30).fit(study, slides=sorted(TRAIN, reverse=True)).fingerprint()
