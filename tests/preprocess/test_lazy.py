"""Lazy transforms: what comes out, and that nothing is read before it is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client

from msicube.codecs import ChunkCodec
from msicube.preprocess import Log1p, Pipeline, SelectChannels, Standardize, TICNormalize, TransformedStudy
from msicube.store import Study


class Decoded:
    """Counts the chunks that are decoded while a block runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        decode = ChunkCodec.decode

        def counting(codec: ChunkCodec, data: Any, out: Any) -> None:
            self.count += 1
            decode(codec, data, out)

        monkeypatch.setattr(ChunkCodec, "decode", counting)


def expected_features(pipeline: Pipeline, slide: Any) -> Any:
    features = np.zeros((*slide.acquired.shape, pipeline.n_features_out_), slide.cube.dtype)
    features[slide.acquired] = pipeline.transform(slide.X)
    return features


@pytest.mark.parametrize("chunks", [None, (5, 7, 40), (8, 19, 11)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_dataset_becomes_a_lazy_dataset_of_features(
    slide: Any, chain: Any, chunks: Any, dtype: Any
) -> None:
    slide = replace(slide, cube=slide.cube.astype(dtype))
    pipeline = chain().fit(slide.X, slide.y)
    features = pipeline.transform(slide.dataset(chunks))
    assert isinstance(features["features"].data, da.Array)
    assert features["features"].dims == ("y", "x", "feature")
    assert features["features"].dtype == dtype
    expected = expected_features(pipeline, slide)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features["features"].values, expected, atol=scale * 1e-6)
    assert not features["features"].values[~slide.acquired].any()
    np.testing.assert_array_equal(features["acquired"], slide.acquired)
    np.testing.assert_array_equal(features["y"], np.arange(23) * 50.0)
    assert list(features["feature"].values) == ["PC1", "PC2", "PC3"]
    assert features["features"].attrs["pipeline_fingerprint"] == pipeline.fingerprint()
    assert features.attrs == {"sample": {"patient": "p1"}}


def test_features_keep_the_axis_while_they_are_channels(slide: Any) -> None:
    dataset = slide.dataset()
    pipeline = Pipeline([Log1p(), SelectChannels(4)]).fit(dataset, slide.labels)
    chosen = pipeline.steps_[1].indices_  # type: ignore[attr-defined]
    features = pipeline.transform(dataset)
    np.testing.assert_array_equal(features["mz"], slide.mz[chosen])
    assert features["mz"].dims == ("feature",)
    assert "mz" not in Pipeline([Standardize()]).fit(slide.X).transform(dataset.drop_vars("mz"))
    assert list(pipeline.get_feature_names_out()) == [f"mz {value!r}" for value in slide.mz[chosen].tolist()]


def test_a_dataset_without_a_mask_is_acquired_everywhere(slide: Any) -> None:
    dataset = slide.dataset((9, 9, 40)).drop_vars("acquired")
    scaler = Standardize().fit(dataset)
    assert scaler.n_spectra_ == slide.acquired.size
    np.testing.assert_allclose(
        scaler.transform(dataset)["features"].values.reshape(-1, 40),
        scaler.transform(slide.cube.reshape(-1, 40)),
        atol=1e-12,
    )


def test_a_dataset_is_read_from_other_files_lazily(slide: Any, chain: Any, tmp_path: Any) -> None:
    slide.dataset().chunk({"y": 8, "x": 8, "channel": 16}).drop_encoding().to_zarr(
        tmp_path / "other.zarr", zarr_format=3, consolidated=False
    )
    pipeline = chain().fit(slide.X, slide.y)
    for chunks in (None, {}):
        opened = xr.open_zarr(tmp_path / "other.zarr", chunks=chunks, consolidated=False)
        features = pipeline.transform(opened)["features"]
        assert features.chunks[0] == (8, 8, 7)
        np.testing.assert_allclose(features.values, expected_features(pipeline, slide), atol=1e-12)
        again = chain().fit(opened, slide.labels)
        np.testing.assert_allclose(
            again.transform(slide.X), pipeline.transform(slide.X), rtol=1e-9, atol=1e-9
        )


def test_dims_may_come_in_another_order(slide: Any) -> None:
    dataset = slide.dataset((9, 9, 20))
    turned = dataset.transpose("channel", "x", "y")
    scaler = Standardize().fit(turned)
    np.testing.assert_allclose(scaler.mean_, Standardize().fit(dataset).mean_, rtol=1e-13)
    np.testing.assert_array_equal(scaler.transform(turned)["features"], scaler.transform(dataset)["features"])


def test_a_study_becomes_a_mapping_that_has_read_nothing(
    study: Study, chain: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = chain(30).fit(study)
    decoded = Decoded(monkeypatch)
    lazy = pipeline.transform(study)
    assert isinstance(lazy, TransformedStudy)
    assert lazy.slides == list(lazy) == study.slides
    assert lazy.samples.equals(study.samples)
    features = {slide: lazy[slide]["features"] for slide in lazy}
    assert decoded.count == 0
    for slide, values in features.items():
        X = load(study, [slide]).X
        computed = values.values
        assert computed.dtype == np.float32
        scores = pipeline.transform(X)
        np.testing.assert_allclose(computed[study.acquired(slide)], scores, atol=1e-5 * np.abs(scores).max())
        assert not computed[~study.acquired(slide)].any()


def test_a_patch_reads_only_the_chunks_that_it_touches(
    study: Study, chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = chain(30).fit(study)
    name = "slide_003"
    cube = study.cube(name)
    patch = pipeline.transform(study)[name]["features"][18:30, 4:12]
    expected = pipeline.transform(study)[name]["features"].values[18:30, 4:12]
    chunks_deep = -(-cube.shape[2] // cube.layout.chunk[2])
    decoded = Decoded(monkeypatch)
    np.testing.assert_array_equal(patch.values, expected)
    assert cube.cell == (16, 16)
    assert 0 < decoded.count <= 4 * chunks_deep  # the patch lies in one block of 2 x 2 cells


def test_only_the_chosen_channels_are_read(
    build_study: Any, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.zeros((16, 16, 1024), np.float32)
    wide[..., :40] = slide.cube[:16, :16]
    wide[..., 40:] = 1 + np.arange(984) / 984
    study = build_study(
        {
            name: replace(
                slide, cube=wide + shift, acquired=np.ones((16, 16), bool), mz=np.arange(1024) + 1.0
            )
            for name, shift in (("a", 0), ("b", np.eye(1024, dtype=np.float32)[100]))
        },
        samples={"a": {"label": "a"}, "b": {"label": "b"}},
        shard_bytes=2**20,
    )
    pipeline = Pipeline([Log1p(), Standardize(), SelectChannels(1)]).fit(study)
    np.testing.assert_array_equal(pipeline.steps_[2].indices_, [100])  # type: ignore[attr-defined]
    needs_all = Pipeline([TICNormalize(), *pipeline.steps]).fit(study)
    chunks = study.cube("a").layout.grid[2]
    assert study.cube("a").layout.grid == (1, 1, chunks)
    assert chunks > 1
    decoded = Decoded(monkeypatch)
    pipeline.transform(study)["a"]["features"].compute()
    assert decoded.count == 1
    needs_all.transform(study)["a"]["features"].compute()
    assert decoded.count == 1 + chunks


def test_cells_without_spectra_are_not_read(
    build_study: Any, slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corner = np.zeros_like(slide.acquired)
    corner[-3:, -3:] = True
    study = build_study({"a": replace(slide, acquired=corner)}, shard_bytes=16 * 1024)
    assert len(study.cube("a").tiles()) > 4
    decoded = Decoded(monkeypatch)
    scaler = Standardize().fit(study)
    assert scaler.n_spectra_ == 9
    assert decoded.count <= np.prod(study.cube("a").layout.grid)  # one tile
    decoded.count = 0
    features = scaler.transform(study)["a"]["features"].values
    assert decoded.count == 1
    np.testing.assert_allclose(features[corner], scaler.transform(slide.cube[corner]), atol=1e-12)


def test_lazy_features_compute_on_a_cluster(study: Study, chain: Any, client: Client) -> None:
    features = chain(30).fit(study).transform(study)["slide_001"]["features"]
    np.testing.assert_array_equal(client.compute(features.data).result(), features.values)
