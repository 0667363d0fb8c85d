"""A thousand slides of 512 x 512 x 1024: graphs take megabytes, and nothing is read that is not asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msicube as mc
from msicube.preprocess import PCA, Log1p, Pipeline, Standardize, TICNormalize
from msicube.preprocess.chain import chain_of
from msicube.preprocess.engine import _graph
from msicube.preprocess.inputs import source_of
from msicube.preprocess.request import moments
from msicube.store import Location, Study
from msicube.store.location import LocalBytes
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.tiling import plan_tiles

N_SLIDES = 1000
SHAPE = (512, 512, 1024)
MIB = 2**20


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of 1 TiB of zeros: the inner chunks of its shards are left out, and its slides are links to one."""
    study = create_study(Location.of(tmp_path_factory.mktemp("scale") / "study.zarr"), modality="msi")
    draft = SlideDraft.of(study.location, "slide_0000", "msi")
    plan = plan_tiles(SHAPE, 4)
    writer = draft.cube_writer(plan, np.dtype(np.float32), "zstd")
    writer.write(plan.tiles()[0], np.zeros((*plan.tile, SHAPE[2]), np.float32))
    empty = writer.shard(plan.tiles()[0]).get()
    assert empty is not None
    assert len(empty) < MIB
    for window in plan.tiles()[1:]:
        writer.shard(window).put(empty)
    draft.write("acquired", np.ones(SHAPE[:2], bool))
    draft.write("mz", np.arange(SHAPE[2]) + 1.0)
    draft.write("y", np.arange(SHAPE[0]))
    draft.write("x", np.arange(SHAPE[1]))
    draft.commit({"sample": {"label": "a"}})
    first = Path(study.path, "slide_0000")
    for number in range(1, N_SLIDES):
        first.with_name(f"slide_{number:04d}").symlink_to(first)
    return mc.open_study(study.path)


@pytest.fixture
def shard_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every read of a part of an object: the object, and how much."""
    found: list[tuple[str, int]] = []
    read = LocalBytes.read

    def counting(source: LocalBytes, start: int, length: int) -> bytes:
        found.append((str(source.path), length))
        return read(source, start, length)

    monkeypatch.setattr(LocalBytes, "read", counting)
    return found


def allocated(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and the MiB that it left allocated."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[0] / MIB
    finally:
        tracemalloc.stop()


def test_a_fit_of_a_thousand_slides_is_planned_in_megabytes(
    thousand: Study, shard_reads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    small = Study.small
    monkeypatch.setattr(Study, "small", lambda s, slide, name: decoded.append(slide) or small(s, slide, name))
    source = source_of(mc.open_study(thousand.path))
    (graph, leaves, _), megabytes = allocated(lambda: _graph(source, chain_of([], SHAPE[2]), moments(), None))
    assert len(leaves) == N_SLIDES * 16
    assert len(graph) < 2.2 * len(leaves)
    assert megabytes < 64  # 13 measured
    assert decoded == ["slide_0000"], "axes of equal bytes are decoded once"
    assert len(set(source.digests.values())) == 1
    assert shard_reads == []


def test_features_of_a_thousand_slides_are_planned_in_megabytes(
    thousand: Study, shard_reads: list[Any]
) -> None:
    X = np.random.default_rng(0).random((50, SHAPE[2]), np.float32)
    pipeline = Pipeline([TICNormalize(), Log1p(), Standardize(), PCA(3)]).fit(X)
    lazy = pipeline.transform(thousand)
    slides = lazy.slides[:: N_SLIDES // 40]
    features, megabytes = allocated(lambda: [lazy[slide]["features"] for slide in slides])
    assert megabytes * N_SLIDES / len(slides) < 64  # 28 measured
    assert features[0].data.numblocks == (16, 16, 1)  # of 32 x 32 pixels
    assert shard_reads == []

    patch = features[20][40:60, 70:90].data
    from dask.base import optimize

    assert len(optimize(patch)[0].__dask_graph__().to_dict()) < 12, (
        "only the cell of the patch is in its graph"
    )
    expected = pipeline.transform_block(np.zeros((20 * 20, SHAPE[2]), np.float32)).reshape(20, 20, 3)
    np.testing.assert_allclose(patch.compute(), expected, rtol=1e-6)
    shard = f"{slides[20]}/intensity/c/0/0/0"
    assert {path for path, _ in shard_reads} == {str(Path(thousand.path, shard))}
    assert len(shard_reads) == 1, "the index of one shard, and no chunk: they are all left out"
