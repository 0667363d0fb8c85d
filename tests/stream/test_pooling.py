"""A pool: the chosen spectra once, in a global random order, as a study that the stream reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_helpers import all_same, counted, places

import msicube as mc
from msicube.errors import MemoryLimitError, UsageError
from msicube.store import Study
from msicube.stream import SpectrumStream
from msicube.stream.lookup import POOL


@pytest.fixture(scope="module")
def pooled(_converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return mc.pool(_converted, tmp_path_factory.mktemp("pool") / "pool.zarr", seed=4, memory="3 MiB")


def test_each_spectrum_is_in_the_pool_once(study: Study, pooled: Study) -> None:
    origin = pooled.cube(POOL, "origin")[...][pooled.acquired(POOL)]
    expected = [
        (number, y, x)
        for number, slide in enumerate(study.slides)
        for y, x in np.argwhere(study.acquired(slide)).tolist()
    ]
    assert sorted(map(tuple, origin.tolist())) == expected
    spectra = pooled.cube(POOL)[...][pooled.acquired(POOL)]
    for (slide, y, x), spectrum in list(zip(origin.tolist(), spectra, strict=True))[::97]:
        assert np.array_equal(study.cube(study.slides[slide])[y, x], spectrum)
    assert mc.validate(pooled) == []
    assert not (Path(pooled.path).parent / "pool.zarr.partial" / "buckets").exists()


def test_the_order_is_random_all_over(study: Study, pooled: Study) -> None:
    """Neighbours in the pool are as far apart in the study as any two spectra, and slides are evenly spread."""
    number = pooled.small(POOL, "spectrum_index")
    origin = pooled.cube(POOL, "origin")[...][pooled.acquired(POOL)][np.argsort(number[number >= 0])]
    n = len(origin)
    order = np.lexsort(origin.T[::-1]).argsort()  # place in the study of each spectrum of the pool
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 4 / np.sqrt(n)
    share = np.bincount(origin[:, 0]) / n
    for part in np.array_split(origin[:, 0], 8):
        spread = np.sqrt(share * (1 - share) / len(part))
        assert (np.abs(np.bincount(part, minlength=len(share)) / len(part) - share) < 5 * spread).all()


def test_the_stream_knows_slides_labels_and_places(study: Study, pooled: Study) -> None:
    stream = SpectrumStream(pooled, batch_size=64, memory="3 MiB")
    batches = list(stream)
    assert stream.slides == tuple(study.slides)
    assert sorted(counted(batches)) == sorted(counted(SpectrumStream(study, batch_size=64, memory="3 MiB")))
    for batch in batches[::10]:
        raw = np.stack([study.cube(study.slides[s])[y, x] for s, y, x in places(batch)])
        assert np.array_equal(batch["spectra"].numpy(), raw)
        labels = [study.samples["label"][study.slides[s]] for s in batch["slide"].tolist()]
        assert [stream.classes[label] for label in batch["label"].tolist()] == labels
    assert stream.mixing() == 1.0
    again = SpectrumStream(pooled, batch_size=64, memory="3 MiB")
    again.load_state_dict({**again.state_dict(), "step": 50})
    assert all_same(again, batches[50:])


def test_steps_by_slide_know_the_slide_of_each_spectrum(study: Study, pooled: Study) -> None:
    pipeline = mc.Pipeline([mc.Log1p(), mc.Standardize(by="slide")])
    pipeline.fit(study, slides=study.slides, allow_test=True)
    batch = next(iter(SpectrumStream(pooled, pipeline=pipeline, batch_size=64, memory="8 MiB")))
    for found, (slide, y, x) in zip(batch["spectra"].numpy(), places(batch), strict=True):
        name = study.slides[slide]
        expected = pipeline.transform_block(study.cube(name)[y, x][None], slide=name)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_batches_of_a_pool_are_mixed(pooled: Study) -> None:
    stream = SpectrumStream(pooled, batch_size=64, memory="3 MiB")
    everything, means = [], []
    for epoch in range(10):
        stream.set_epoch(epoch)
        for batch in stream:
            if batch["weight"].all():
                values = batch["spectra"].numpy().astype(np.float64).sum(axis=1)
                everything.append(values)
                means.append(values.mean())
    ratio = np.var(means) / (np.concatenate(everything).var() / 64)
    assert ratio < 1 + 3 * np.sqrt(2 / len(means))


def test_the_same_seed_gives_the_same_pool(study: Study, tmp_path: Path) -> None:
    pools = [
        mc.pool(study, tmp_path / f"{n}.zarr", seed=seed, slides=study.slides[:2], memory="2 MiB")
        for n, seed in enumerate((1, 1, 2))
    ]
    first, second, other = (pool.cube(POOL, "origin")[...] for pool in pools)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_pool_may_be_balanced_and_limited(study: Study, tmp_path: Path) -> None:
    pooled = mc.pool(
        study, tmp_path / "p.zarr", slides=study.slides[:3], balance="label", limit=300, memory="2 MiB"
    )
    stream = SpectrumStream(pooled, batch_size=60, memory="3 MiB")
    labels = np.concatenate([batch["label"].numpy() for batch in stream])
    assert np.bincount(labels).tolist() == [150, 150]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": "tissue"}, "where='tissue' there"),
        ({"slides": ["slide_001"]}, "choose slides="),
        ({"balance": "label"}, "give balance='label' when it is written"),
    ],
)
def test_what_was_chosen_cannot_be_chosen_again(
    pooled: Study, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        SpectrumStream(pooled, **arguments)
    with pytest.raises(UsageError, match="is a pool of single spectra"):
        mc.PatchStream(pooled, size=4)


def test_what_is_there_is_not_overwritten_unasked(study: Study, tmp_path: Path) -> None:
    mc.pool(study, tmp_path / "p.zarr", limit=50, memory="2 MiB")
    with pytest.raises(UsageError, match="is there already: say overwrite=True"):
        mc.pool(study, tmp_path / "p.zarr", limit=60, memory="2 MiB")
    assert (
        mc.pool(study, tmp_path / "p.zarr", limit=60, memory="2 MiB", overwrite=True).acquired(POOL).sum()
        == 60
    )
    with pytest.raises(UsageError, match="is a study and no pool"):
        mc.pool(study, study.path, memory="2 MiB", overwrite=True)


def test_a_failed_pool_leaves_nothing(own_study: Study, tmp_path: Path) -> None:
    shard = next((Path(own_study.path) / "slide_003" / "intensity" / "c").rglob("0"))
    shard = shard if shard.is_file() else next(p for p in shard.rglob("*") if p.is_file())
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(mc.MSICubeError, match="slide_003"):
        mc.pool(own_study, tmp_path / "p.zarr", memory="2 MiB")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.zarr"]


def test_too_little_memory_is_refused_with_both_numbers(study: Study, tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitError, match=r'memory="256 KiB" .* raise it to "2 MiB"'):
        mc.pool(study, tmp_path / "p.zarr", memory="256 KiB")
