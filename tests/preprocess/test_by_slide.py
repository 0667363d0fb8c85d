"""Steps that work by slide, with Standardize(by="slide"): each slide its own numbers, and no guess for another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import Client
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import UnknownSlide, UsageError
from msicube.experiments.features import prepare_features
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.split import resolve_split
from msicube.preprocess import PCA, Log1p, PeakAlign, Pipeline, SelectChannels, Standardize, TICNormalize
from msicube.preprocess.recipes import PipelineSection, StepTable
from msicube.store import Study


def chain() -> Pipeline:
    return Pipeline([TICNormalize(), Log1p(), Standardize(by="slide"), PCA(3)])


def logged(X: Any) -> Any:
    X = X.astype(np.float64)
    return np.log1p(X / X.sum(axis=1, keepdims=True) * X.shape[1])


def test_each_slide_is_standard_scaled_by_itself(study: Study, load: Any) -> None:
    pipeline = Pipeline([TICNormalize(), Log1p(), Standardize(by="slide")]).fit(study)
    scaler = pipeline.steps_[2]
    assert scaler.slides_ == pipeline.slides_  # type: ignore[attr-defined]
    lazy = pipeline.transform(study)
    for row, name in enumerate(pipeline.slides_):
        expected = StandardScaler().fit(logged(load(study, [name]).X))
        np.testing.assert_allclose(scaler.mean_[row], expected.mean_, rtol=1e-6)  # type: ignore[attr-defined]
        np.testing.assert_allclose(scaler.scale_[row], expected.scale_, rtol=1e-5)  # type: ignore[attr-defined]
        features = lazy[name]["features"].values[study.acquired(name)]
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(features.std(axis=0), 1, rtol=1e-3)


def test_later_steps_are_fitted_on_what_comes_out(study: Study, load: Any) -> None:
    pipeline = chain().fit(study)
    assert [one.gathered for one in pipeline.passes_] == ["moments by slide", "covariance"]
    assert pipeline.labels_ == []
    Z = np.concatenate(
        [StandardScaler().fit_transform(logged(load(study, [name]).X)) for name in pipeline.slides_]
    )
    variance = np.linalg.eigvalsh(np.cov(Z.T))[::-1][:3]
    np.testing.assert_allclose(pipeline.steps_[3].explained_variance_, variance, rtol=1e-5)  # type: ignore[attr-defined]


def test_global_statistics_come_with_those_of_the_slides(study: Study) -> None:
    pipeline = Pipeline([Standardize(), Standardize(by="slide")]).fit(study)
    assert [one.gathered for one in pipeline.passes_] == ["moments by slide"]
    alone = Standardize().fit(study)
    np.testing.assert_allclose(pipeline.steps_[0].mean_, alone.mean_, rtol=1e-12)  # type: ignore[attr-defined]


def test_an_unseen_slide_is_an_error_until_it_is_added(own_study: Study) -> None:
    pipeline = chain().fit(own_study)
    unseen = [name for name in own_study.slides if name not in pipeline.slides_]
    lazy = pipeline.transform(own_study)
    with pytest.raises(UsageError, match=rf"works by slide.*not {unseen[0]}.*add_slides"):
        lazy[unseen[0]]
    pipeline.save(own_study, name="partial")
    with pytest.raises(UsageError, match="add_slides"):
        mc.apply(own_study, name="partial")
    assert not any("partial" in own_study[name] for name in own_study.slides)
    before = [pipeline.steps_[3].components_.copy(), list(pipeline.slides_), list(pipeline.passes_)]  # type: ignore[attr-defined]
    read: list[str] = []
    assert pipeline.add_slides(own_study, progress=lambda what, *_: read.append(what)) is pipeline
    assert set(read) == {f"Standardize: moments by slide, {name}" for name in unseen}
    np.testing.assert_array_equal(pipeline.steps_[3].components_, before[0])  # type: ignore[attr-defined]
    assert [pipeline.slides_, pipeline.passes_] == before[1:]
    for name in own_study.slides:
        assert np.isfinite(pipeline.transform(own_study)[name]["features"].values).all()
    read.clear()
    pipeline.add_slides(own_study, progress=lambda what, *_: read.append(what))
    assert not read


def test_an_added_slide_is_what_it_would_be_fitted(study: Study) -> None:
    names = study.slides
    together = Standardize(by="slide").fit(study, slides=names, allow_test=True)
    added = Standardize(by="slide").fit(study, slides=names[:2], allow_test=True).add_slides(study)
    assert set(added.slides_) == set(together.slides_)
    order = [added.slides_.index(name) for name in together.slides_]
    np.testing.assert_array_equal(added.mean_[order], together.mean_)
    np.testing.assert_array_equal(added.scale_[order], together.scale_)
    with pytest.raises(UnknownSlide):
        added.add_slides(study, slides=["nowhere"])


def test_slides_are_added_inside_the_mask_of_the_fit(own_study: Study) -> None:
    mc.make_mask(own_study, mc.TICMask(), name="bright")
    names = own_study.slides
    options: dict[str, Any] = {"allow_test": True, "where": "bright"}
    fitted = Pipeline([Log1p(), Standardize(by="slide")]).fit(own_study, slides=names[:2], **options)
    fitted.save(own_study, name="inside")
    expected = Pipeline([Log1p(), Standardize(by="slide")]).fit(own_study, slides=names, **options)
    added = Pipeline.load(own_study, name="inside").add_slides(own_study).steps_[1]
    order = [added.slides_.index(name) for name in names]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(added.mean_[order], expected.steps_[1].mean_)  # type: ignore[attr-defined]
    everywhere = Pipeline.load(own_study, name="inside").add_slides(own_study, where="acquired").steps_[1]
    single = Standardize(by="slide").fit(own_study, slides=names[:1], allow_test=True)
    single.add_slides(own_study, slides=names[:3])
    assert not np.array_equal(everywhere.mean_[2], added.mean_[2])  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="has no mask 'nowhere'"):
        single.add_slides(own_study, where="nowhere")
    with pytest.raises(UsageError, match="give the name of a mask"):
        single.add_slides(own_study, where=np.ones((2, 2), bool))  # type: ignore[arg-type]


def test_it_is_saved_loaded_and_applied(own_study: Study) -> None:
    pipeline = chain().fit(own_study).add_slides(own_study)
    pipeline.save(own_study, name="by_slide")
    loaded = Pipeline.load(own_study, name="by_slide")
    assert loaded.fingerprint() == pipeline.fingerprint()
    mc.apply(own_study, name="by_slide")
    for name in own_study.slides:
        lazy = loaded.transform(own_study)[name]["features"].values
        np.testing.assert_array_equal(own_study[name]["by_slide"].values, lazy)


def test_schedulers_agree_to_the_bit(study: Study, client: Client) -> None:
    local = chain().fit(study)
    assert chain().fit(study, scheduler=client).fingerprint() == local.fingerprint()
    added = chain().fit(study).add_slides(study, scheduler=client)
    assert added.fingerprint() == local.add_slides(study, workers=1).fingerprint()


def test_the_spectra_of_an_array_are_one_slide(slide: Any) -> None:
    expected = Standardize().fit_transform(slide.X)
    by_slide = Standardize(by="slide")
    np.testing.assert_array_equal(by_slide.fit_transform(slide.X), expected)
    assert by_slide.mean_.shape == (1, 40)
    with_classes = Pipeline([Standardize(by="slide"), SelectChannels(3)]).fit(slide.dataset(), slide.labels)
    assert with_classes.labels_ == ["normal", "tumour"]
    assert with_classes.steps_[0].slides_ == [""]  # type: ignore[attr-defined]


def test_an_array_is_none_of_the_slides_of_a_study(study: Study, load: Any) -> None:
    scaler = Standardize(by="slide").fit(study)
    X = load(study, [scaler.slides_[1]]).X
    with pytest.raises(UsageError, match="belong to none of them: transform the study"):
        scaler.transform(X)
    with pytest.raises(UsageError, match="belong to none of them"):
        scaler.transform(study[scaler.slides_[1]])
    with pytest.raises(UsageError, match=r"take the chain of one with chain\.for_slide"):
        scaler.chain(X)
    block = scaler.transform_block(X, slide=scaler.slides_[1])
    np.testing.assert_allclose(block.mean(axis=0), 0, atol=1e-4)


def test_a_single_spectrum_and_a_slide_without_any(build_study: Any, slide: Any) -> None:
    nothing = np.full_like(slide.cube, np.nan)
    one = np.zeros_like(slide.acquired)
    one[4, 5] = True
    study = build_study(
        {
            "empty": replace(slide, cube=nothing),
            "full": slide,
            "single": replace(slide, acquired=one),
        }
    )
    scaler = Standardize(by="slide").fit(study)
    assert scaler.slides_ == ["full", "single"]
    assert scaler.n_nonfinite_ == slide.acquired.sum()
    assert not scaler.transform(study)["single"]["features"].values.any()
    with pytest.raises(UsageError, match="not empty: have it learn from a finite spectrum"):
        scaler.transform(study)["empty"]


def test_its_parameters() -> None:
    assert clone(Standardize(by="slide")).get_params()["by"] == "slide"
    with pytest.raises(UsageError, match="expected 'slide'"):
        Standardize(by="patient").fit(np.ones((3, 2)))  # type: ignore[arg-type]


def test_a_stream_knows_its_slides(study: Study) -> None:
    pipeline = chain().fit(study)
    stream = mc.SpectrumStream(
        study, slides=pipeline.slides_, pipeline=pipeline, batch_size=256, labels="label"
    )
    batch = next(iter(stream))
    names = [pipeline.slides_[number] for number in batch["slide"].tolist()]
    lazy = {name: pipeline.transform(study)[name]["features"].values for name in pipeline.slides_}
    places = zip(names, batch["y"].tolist(), batch["x"].tolist(), strict=True)
    expected = np.stack([lazy[name][y, x] for name, y, x in places])
    np.testing.assert_allclose(batch["spectra"].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_two_steps_by_slide_learn_one_behind_the_other(slide: Any, build_study: Any) -> None:
    rng = np.random.default_rng(0)
    axis = np.arange(40.0)
    slides = {}
    for name, shift in (("a", 0.0), ("b", 0.8), ("c", -1.1)):
        peaks = sum(np.exp(-(((axis - place - shift) / 1.5) ** 2)) for place in (8, 15, 22, 31))
        cube = rng.gamma(4.0, 1.0, (23, 19, 1)) * peaks
        slides[name] = replace(slide, cube=cube + rng.normal(0, 0.01, cube.shape), mz=slide.mz[0] + axis)
    study = build_study(slides)
    align = PeakAlign(
        reference=slide.mz[0] + np.array([8.0, 15, 22, 31]),
        tolerance=2.0,
        warp="shift",
        half_window=2,
        noise_window=20,
    )
    pipeline = Pipeline([align, Standardize(by="slide")])
    some = pipeline.fit(study, slides=["a", "b"]).add_slides(study)
    together = clone(pipeline).fit(study)
    np.testing.assert_allclose(some.steps_[0].shift_[:, 0], [0, 0.8, -1.1], atol=0.05)  # type: ignore[attr-defined]
    for name in slides:
        np.testing.assert_array_equal(
            some.transform(study)[name]["features"].values, together.transform(study)[name]["features"].values
        )


def test_an_experiment_shows_it_the_slides_that_are_held_out(study: Study) -> None:
    recipe = load_recipe("colorectal-cnn1d")
    section = PipelineSection((StepTable("Log1p"), StepTable("Standardize", {"by": "slide"})))
    split = resolve_split(recipe.data, study.samples, seed=0)
    features = prepare_features(replace(recipe, pipeline=section), study, split, None)
    assert features.pipeline.slides_ == sorted(split.train)
    known = features.pipeline.steps_[1].slides_  # type: ignore[attr-defined]
    assert set(known) == {*split.train, *split.test}


def test_the_command_line_shows_it_all_slides(own_study: Study, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[pipeline]\nname = "own"\nsteps = [{ step = "Standardize", by = "slide" }]\n')
    done = CliRunner().invoke(cli, ["fit", str(recipe), own_study.path, "--add-slides"])
    assert done.exit_code == 0, done.output
    known = Pipeline.load(own_study, name="own").steps_[0].slides_  # type: ignore[attr-defined]
    assert sorted(known) == own_study.slides
