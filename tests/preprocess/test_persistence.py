"""Saved pipelines: the same bits years later, or an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import msicube as mc
from msicube import errors
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, TICNormalize
from msicube.store import Study, slide_digest


@pytest.fixture
def fitted(own_study: Study, chain: Any) -> Pipeline:
    pipeline: Pipeline = chain(30).fit(own_study)
    pipeline.save(own_study, name="paper")
    return pipeline


def header_path(study: Study, name: str = "paper") -> Path:
    return Path(study.path) / "_pipelines" / name / "zarr.json"


def edit_header(study: Study, **changes: Any) -> None:
    path = header_path(study)
    document = json.loads(path.read_text())
    document["attributes"]["msicube_pipeline"].update(changes)
    path.write_text(json.dumps(document))


def test_a_loaded_pipeline_maps_to_the_same_bits(own_study: Study, fitted: Pipeline, load: Any) -> None:
    X = load(own_study, ["slide_001"]).X
    for where in (own_study, own_study.path, Path(own_study.path)):
        loaded = Pipeline.load(where, name="paper")
        assert loaded.transform(X).tobytes() == fitted.transform(X).tobytes()
    assert loaded.fingerprint() == fitted.fingerprint()
    assert str(loaded) == str(fitted)
    for name in (
        "slides_",
        "labels_",
        "passes_",
        "n_passes_",
        "n_spectra_",
        "n_nonfinite_",
        "n_features_out_",
    ):
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_array_equal(loaded.axis_, fitted.axis_)
    np.testing.assert_array_equal(loaded.get_feature_names_out(), fitted.get_feature_names_out())
    for one, other in zip(loaded.steps_, fitted.steps_, strict=True):
        for name in (*one.learned_arrays, *one.learned_values):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert own_study.pipelines() == ["paper"]


def test_it_can_be_fitted_again_after_loading(own_study: Study, fitted: Pipeline) -> None:
    loaded = Pipeline.load(own_study, name="paper")
    assert loaded.fit(own_study).fingerprint() == fitted.fingerprint()


def test_another_process_loads_it(own_study: Study, fitted: Pipeline) -> None:
    code = (
        "import sys, msicube as mc\n"
        "print(mc.Pipeline.load(sys.argv[1], name='paper').fingerprint(), 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, own_study.path], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [fitted.fingerprint(), "False"]


def test_it_is_plain_zarr(own_study: Study, fitted: Pipeline) -> None:
    import xarray as xr

    path = f"{own_study.path}/_pipelines/paper"
    step = xr.open_zarr(path, group="4_pca", consolidated=False)
    assert step["components"].dims == ("component", "channel")
    np.testing.assert_array_equal(step["components"], fitted.steps_[4].components_)  # type: ignore[attr-defined]
    header = zarr.open_group(path, mode="r").attrs["msicube_pipeline"]
    assert header["format_version"] == 2
    assert header["slide_digests"] == {name: slide_digest(own_study, name) for name in fitted.slides_}
    assert header["slides"] == fitted.slides_
    assert [one["class"] for one in header["steps"]] == [type(step).__name__ for step in fitted.steps_]
    assert header["software"].keys() == {"msicube", "numpy", "zarr"}
    tree = xr.open_datatree(own_study.path, engine="zarr", consolidated=False)
    assert "_pipelines" in tree.children


def test_nothing_is_left_beside_the_study(own_study: Study, fitted: Pipeline) -> None:
    assert list(Path(own_study.path).parent.iterdir()) == [Path(own_study.path)]
    assert mc.open_study(own_study.path).slides == own_study.slides


def test_a_name_is_taken_once(own_study: Study, fitted: Pipeline, chain: Any) -> None:
    other = chain(20).fit(own_study)
    with pytest.raises(errors.UsageError, match=r"has a pipeline 'paper' already.*overwrite=True"):
        other.save(own_study, name="paper")
    assert Pipeline.load(own_study, name="paper").fingerprint() == fitted.fingerprint()
    other.save(own_study.path, name="paper", overwrite=True)
    assert Pipeline.load(own_study, name="paper").fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "name", ["", "a/b", "../x", "1st", "_x", "my pipeline", "intensity", "mz", "channel"]
)
def test_names_are_simple_and_free(own_study: Study, fitted: Pipeline, name: str) -> None:
    with pytest.raises(errors.UsageError, match="name"):
        fitted.save(own_study, name=name)
    with pytest.raises(errors.UsageError, match="has no pipeline"):
        Pipeline.load(own_study, name=name)


def test_a_missing_pipeline_is_an_error_that_names_the_others(own_study: Study, fitted: Pipeline) -> None:
    with pytest.raises(errors.UsageError, match="has no pipeline 'other', it has paper"):
        Pipeline.load(own_study, name="other")
    with pytest.raises(errors.NotAStudy):
        Pipeline.load(Path(own_study.path).parent, name="paper")


def test_a_pipeline_of_a_newer_msicube_is_refused(own_study: Study, fitted: Pipeline) -> None:
    edit_header(own_study, format_version=3)
    with pytest.raises(errors.FormatVersionError, match=r"format version 3.*upgrade msicube"):
        Pipeline.load(own_study, name="paper")


def test_an_unknown_step_is_refused(own_study: Study, fitted: Pipeline) -> None:
    edit_header(own_study, steps=[{"class": "EMSC9", "params": {}, "learned": {}}])
    with pytest.raises(errors.FormatVersionError, match="the step EMSC9"):
        Pipeline.load(own_study, name="paper")


def test_changed_numbers_are_found_out(own_study: Study, fitted: Pipeline) -> None:
    mean = zarr.open_array(f"{own_study.path}/_pipelines/paper/2_standardize/mean", mode="r+")
    mean[3] += 1e-12
    with pytest.raises(errors.CorruptStore, match="does not meet its fingerprint"):
        Pipeline.load(own_study, name="paper")


def test_changed_parameters_are_found_out(own_study: Study, fitted: Pipeline) -> None:
    steps = json.loads(header_path(own_study).read_text())["attributes"]["msicube_pipeline"]["steps"]
    steps[4]["params"]["whiten"] = True
    edit_header(own_study, steps=steps)
    with pytest.raises(errors.CorruptStore, match="does not meet its fingerprint"):
        Pipeline.load(own_study, name="paper")


def test_a_missing_array_is_found_out(own_study: Study, fitted: Pipeline) -> None:
    (header_path(own_study).parent / "4_pca" / "mean" / "zarr.json").unlink()
    with pytest.raises(errors.CorruptStore, match="is incomplete"):
        Pipeline.load(own_study, name="paper")


def test_a_save_that_fails_leaves_nothing(own_study: Study, chain: Any, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    pipeline = chain(30).fit(own_study)
    monkeypatch.setattr("msicube.preprocess.persistence._write_step", full)
    with pytest.raises(OSError, match="no space left"):
        pipeline.save(own_study, name="paper")
    assert own_study.pipelines() == []
    with pytest.raises(errors.UsageError, match="it has none"):
        Pipeline.load(own_study, name="paper")


def test_a_fingerprint_is_of_numbers_and_parameters(slide: Any) -> None:
    def fingerprint(*steps: Any, X: Any = slide.X) -> str:
        return Pipeline(list(steps)).fit(X, slide.y).fingerprint()

    prints = [
        fingerprint(Standardize(), PCA(2)),
        fingerprint(Standardize(), PCA(3)),
        fingerprint(Standardize(), PCA(2, whiten=True)),
        fingerprint(Standardize(with_mean=False), PCA(2)),
        fingerprint(Log1p(), Standardize(), PCA(2)),
        fingerprint(Standardize(), PCA(2), X=slide.X + np.eye(1, 40)),
        fingerprint(Standardize(), SelectChannels(5)),
        fingerprint(TICNormalize(target=1), Standardize()),
        fingerprint(TICNormalize(target=2), Standardize()),
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == fingerprint(Standardize(), PCA(2))


def test_an_array_without_an_axis_is_saved_as_well(own_study: Study, slide: Any) -> None:
    pipeline = Pipeline([Standardize(), SelectChannels(np.int64(4))]).fit(slide.X, slide.y == "tumour")
    pipeline.save(own_study, name="columns")
    loaded = Pipeline.load(own_study, name="columns")
    assert loaded.axis_ is None
    assert loaded.labels_ == [False, True]
    assert list(loaded.get_feature_names_out()) == list(pipeline.get_feature_names_out())
    assert loaded.transform(slide.X).tobytes() == pipeline.transform(slide.X).tobytes()
