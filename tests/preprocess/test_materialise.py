"""Features written into the study: whole or not at all, once, and the same as the lazy ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

import msicube as mc
from msicube import errors
from msicube.preprocess import Log1p, Pipeline
from msicube.store import CubeWriter, Study
from msicube.store.lock import write_lock


@pytest.fixture
def fitted(own_study: Study, chain: Any) -> Pipeline:
    pipeline: Pipeline = chain(30).fit(own_study)
    pipeline.save(own_study, name="paper")
    return pipeline


def stored(study: Study, slide: str) -> Any:
    return mc.open_study(study.path)[slide]["paper"]


def test_features_are_stored_as_the_lazy_ones(own_study: Study, fitted: Pipeline) -> None:
    events: list[tuple[str, int, int]] = []
    written = mc.apply(own_study, name="paper", progress=lambda *event: events.append(event))
    assert written == own_study.slides
    lazy = fitted.transform(own_study)
    for slide in own_study.slides:
        values, features = stored(own_study, slide), lazy[slide]["features"].values
        assert values.dims == ("y", "x", "paper_feature")
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.values, features, atol=1e-5 * np.abs(features).max())
        assert not values.values[~own_study.acquired(slide)].any()
        assert values.attrs["pipeline_fingerprint"] == fitted.fingerprint()
        assert values.attrs["pipeline_name"] == "paper"
        assert list(values["paper_feature"].values) == ["PC1", "PC2", "PC3"]
        source, cube = own_study.cube(slide), own_study.cube(slide, "paper")
        assert (cube.tile, cube.cell, cube.shape[2]) == (source.tile, source.cell, 3)
        total = len(source.tiles())
        assert [event for event in events if event[0] == slide] == [
            (slide, i + 1, total) for i in range(total)
        ]
    assert not Path(own_study.path + ".partial").exists()
    assert mc.validate(mc.open_study(own_study.path)) == []


def test_the_study_opens_in_plain_xarray(own_study: Study, fitted: Pipeline) -> None:
    import xarray as xr

    mc.apply(own_study, name="paper")
    plain = xr.open_zarr(own_study.path, group="slide_002", consolidated=False)
    np.testing.assert_array_equal(plain["paper"], stored(own_study, "slide_002"))


def test_any_scheduler_stores_the_same_bytes(own_study: Study, fitted: Pipeline, client: Client) -> None:
    found = []
    for scheduler in ("synchronous", "threads", client):
        mc.apply(own_study.path, name="paper", slides=["slide_002"], scheduler=scheduler)
        variable = Path(own_study.path, "slide_002", "paper")
        found.append({p.relative_to(variable): p.read_bytes() for p in variable.rglob("*") if p.is_file()})
        for path in sorted(variable.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        variable.rmdir()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 4


def test_what_is_there_is_not_written_again(own_study: Study, fitted: Pipeline, monkeypatch: Any) -> None:
    assert mc.apply(own_study, name="paper", slides=["slide_001", "slide_004"]) == ["slide_001", "slide_004"]
    assert mc.apply(own_study, name="paper") == ["slide_002", "slide_003", "slide_005", "slide_006"]
    monkeypatch.setattr(CubeWriter, "write", None)
    assert mc.apply(own_study, name="paper") == []


def test_features_of_another_pipeline_are_not_mixed_in(
    own_study: Study, fitted: Pipeline, chain: Any
) -> None:
    mc.apply(own_study, name="paper", slides=["slide_001"])
    other = chain(20).fit(own_study)
    other.save(own_study, name="paper", overwrite=True)
    with pytest.raises(
        errors.UsageError, match="slide slide_001 has a variable 'paper' that another pipeline"
    ):
        mc.apply(own_study, name="paper")
    assert "paper" not in mc.open_study(own_study.path)["slide_002"]
    assert mc.apply(own_study, name="paper", overwrite=True) == own_study.slides
    assert stored(own_study, "slide_001").attrs["pipeline_fingerprint"] == other.fingerprint()


def test_a_run_that_fails_leaves_whole_slides_only(
    own_study: Study, fitted: Pipeline, monkeypatch: Any
) -> None:
    monkeypatch.setattr("msicube.preprocess.materialise.BATCH_TILES", 1)
    write = CubeWriter.write

    def failing(writer: CubeWriter, window: Any, block: Any) -> bytes:
        if "slide_003" in writer.location.url and window.y0 > 0:
            raise OSError("no space left on device")
        return write(writer, window, block)

    with monkeypatch.context() as patch:
        patch.setattr(CubeWriter, "write", failing)
        with pytest.raises(OSError, match="no space left"):
            mc.apply(own_study, name="paper", scheduler="synchronous")
    left = mc.open_study(own_study.path)
    assert [slide for slide in left.slides if "paper" in left[slide]] == ["slide_001", "slide_002"]
    assert list(Path(own_study.path + ".partial").rglob("c")) == []
    assert mc.apply(own_study, name="paper") == ["slide_003", "slide_004", "slide_005", "slide_006"]


def test_what_apply_refuses(own_study: Study, fitted: Pipeline) -> None:
    with pytest.raises(errors.UsageError, match="has no pipeline 'other'"):
        mc.apply(own_study, name="other")
    with pytest.raises(errors.UnknownSlide, match="no slide 'nowhere'"):
        mc.apply(own_study, name="paper", slides=["nowhere"])
    with write_lock(own_study.location), pytest.raises(errors.StudyLocked):
        mc.apply(own_study, name="paper")


def test_counts_and_features_as_many_as_channels(build_study: Any, slide: Any) -> None:
    study = build_study({"a": replace(slide, cube=slide.cube.round().astype(np.uint16))})
    Pipeline([Log1p()]).fit(study).save(study, name="paper")
    mc.apply(study, name="paper")
    expected = np.log1p(slide.cube.round())
    expected[~slide.acquired] = 0
    np.testing.assert_allclose(stored(study, "a").values, expected, rtol=1e-6)
    assert stored(study, "a").shape == (23, 19, 40)


def test_a_slide_on_another_axis_is_refused_before_anything_is_written(build_study: Any, slide: Any) -> None:
    study = build_study({"a": slide, "b": replace(slide, mz=slide.mz + 1)})
    Pipeline([Log1p()]).fit(study, slides=["a"]).save(study, name="paper")
    with pytest.raises(errors.AxisMismatch, match="slide b lies on another axis"):
        mc.apply(study, name="paper")
    assert "paper" not in mc.open_study(study.path)["a"]
    assert mc.apply(study, name="paper", slides=["a"]) == ["a"]


def test_a_remote_study_is_fitted_saved_and_applied(own_study: Study, chain: Any) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(own_study.path, "/preprocess-study.zarr", recursive=True)
    try:
        remote = mc.open_study("memory://preprocess-study.zarr")
        pipeline = chain(30).fit(remote)
        assert pipeline.fingerprint() == chain(30).fit(own_study).fingerprint()
        pipeline.save(remote, name="paper")
        assert mc.apply(remote, name="paper", slides=["slide_001"]) == ["slide_001"]
        features = mc.open_study(remote.path)["slide_001"]["paper"]
        lazy = Pipeline.load(remote, name="paper").transform(remote)["slide_001"]["features"]
        np.testing.assert_allclose(features.values, lazy.values, atol=1e-5 * np.abs(lazy.values).max())
    finally:
        memory.rm("/preprocess-study.zarr", recursive=True)
