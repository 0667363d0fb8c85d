"""Patches from a real study, against slices of its datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from stream_helpers import all_same, counted, places, stream_threads

import msicube as mc
from msicube.errors import MemoryLimitError, UsageError
from msicube.store import Study
from msicube.stream import PatchStream
from msicube.stream.scaling import scale_patches

Make = Callable[..., PatchStream]


@pytest.fixture
def make(study: Study) -> Make:
    """Makes streams of patches that are not aligned with the cells, with a cache that does not hold them all."""

    def make(**arguments: Any) -> PatchStream:
        defaults = {
            "size": 10,
            "stride": 7,
            "batch_size": 8,
            "memory": "5 MiB",
            "min_coverage": 0.6,
            "seed": 5,
        }
        return PatchStream(study, **{**defaults, **arguments})

    return make


def test_each_patch_comes_once_and_is_the_slice(
    make: Make, study: Study, stored: list[NDArray[np.float32]]
) -> None:
    stream = make(scale=None)
    assert 0 < stream.budget.cache < sum(cube.nbytes for cube in stored)
    batches = list(stream)
    assert len(batches) == len(stream) == stream.describe()["steps"]
    table = stream.patches
    expected = sorted(zip(table["slide"].cat.codes, table["y"], table["x"], strict=True))
    assert sorted(counted(batches)) == expected
    assert len(expected) == stream.n_samples == len(set(expected))
    for batch in batches:
        slices = np.stack([stored[s][y : y + 10, x : x + 10] for s, y, x in places(batch)])
        assert np.array_equal(batch["patches"].numpy(), slices.transpose(0, 3, 1, 2))
        labels = [study.samples["label"][stream.slides[slide]] for slide in batch["slide"].tolist()]
        assert [stream.classes[label] for label in batch["label"].tolist()] == labels


def test_a_batch_has_the_shapes_and_types_that_are_promised(make: Make) -> None:
    batch = next(iter(make()))
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "patches": ((8, 160, 10, 10), torch.float32),
        "label": ((8,), torch.int64),
        "weight": ((8,), torch.float32),
        "slide": ((8,), torch.int64),
        "y": ((8,), torch.int64),
        "x": ((8,), torch.int64),
    }
    assert batch["patches"].is_contiguous(memory_format=torch.channels_last)


def test_the_table_has_all_patches_of_the_grid_that_are_covered(make: Make, study: Study) -> None:
    expected = []
    for name in study.slides:
        acquired = study.acquired(name)
        for y in range(0, acquired.shape[0] - 9, 7):
            for x in range(0, acquired.shape[1] - 9, 7):
                coverage = acquired[y : y + 10, x : x + 10].mean()
                if coverage >= 0.6:
                    expected.append((name, y, x, coverage, study.samples["label"][name]))
    table = make().patches
    assert list(table.columns) == ["slide", "y", "x", "coverage", "label"]
    assert [tuple(row) for row in table.itertuples(index=False)] == expected
    assert len(table) < len(make(min_coverage=0).patches)


def test_pixels_that_are_not_acquired_are_zero_and_do_not_count(
    make: Make, study: Study, stored: list[NDArray[np.float32]]
) -> None:
    for scale in ("patch", "channel"):
        for batch in make(scale=scale):
            for patch, (slide, y, x) in zip(batch["patches"].numpy(), places(batch), strict=True):
                acquired = study.acquired(study.slides[slide])[y : y + 10, x : x + 10]
                raw = stored[slide][y : y + 10, x : x + 10][acquired]
                low, high = (raw.min(), raw.max()) if scale == "patch" else (raw.min(axis=0), raw.max(axis=0))
                with np.errstate(invalid="ignore"):
                    wanted = np.where(high > low, (raw - low) / (high - low), 0)
                assert (patch[:, ~acquired] == 0).all()
                np.testing.assert_allclose(patch[:, acquired].T, wanted, rtol=1e-6, atol=1e-7)


@given(
    arrays(np.float32, (2, 3, 3, 2), elements=st.floats(-1e6, 1e6, width=32)),
    arrays(bool, (2, 3, 3)),
    st.sampled_from(["patch", "channel"]),
)
def test_scaled_patches_span_0_to_1(
    patches: NDArray[np.float32], acquired: NDArray[np.bool_], scale: Any
) -> None:
    original = patches.copy()
    scale_patches(patches, acquired, scale)
    assert np.isfinite(patches).all()
    assert (patches >= 0).all()
    assert (patches <= 1).all()
    assert (patches[~acquired] == 0).all()
    for before, after, inside in zip(original, patches, acquired, strict=True):
        columns = (
            [(before[inside].ravel(), after[inside].ravel())]
            if scale == "patch"
            else list(zip(before[inside].T, after[inside].T, strict=True))
        )
        for old, new in columns:
            if len(old) and old.max() > old.min():
                assert (new.min(), new.max()) == (0, 1)
            else:
                assert (new == 0).all()


def test_a_nan_stays_visible() -> None:
    patches = np.ones((1, 2, 2, 1), np.float32)
    patches[0, 0, 0] = np.nan
    scale_patches(patches, np.ones((1, 2, 2), bool), "patch")
    assert np.isnan(patches).all()


def test_the_order_is_that_of_seed_and_epoch_alone(make: Make) -> None:
    first = list(make(threads=1))
    assert all_same(make(threads=4, memory="64 MiB"), first)
    tight = make(memory="2 MiB")
    assert tight.budget.ahead == tight.budget.cache // 2**20 == 0
    assert all_same(tight, first)
    order = [places(batch) for batch in first]
    assert [places(batch) for batch in make(seed=6)] != order
    stream = make()
    stream.set_epoch(1)
    assert [places(batch) for batch in stream] != order


def test_ranks_together_take_what_one_takes(make: Make) -> None:
    alone = [places(batch) for batch in make(batch_size=12)]
    ranks = [[places(batch) for batch in make(batch_size=4, rank=rank, world_size=3)] for rank in range(3)]
    assert [a + b + c for a, b, c in zip(*ranks, strict=True)] == alone


@pytest.mark.parametrize("remainder", ["pad", "drop", "repeat"])
def test_the_rest_is_padded_dropped_or_repeated(make: Make, remainder: str) -> None:
    batches = list(make(remainder=remainder, batch_size=20))
    n = make().n_samples
    counts = Counter(counted(batches))
    assert n % 20
    assert {len(batch["weight"]) for batch in batches} == {20}
    assert {"pad": n, "drop": n // 20 * 20, "repeat": -(-n // 20) * 20}[remainder] == counts.total()
    assert len(counts) == min(n, counts.total())


def test_a_state_goes_on_with_the_next_batch(make: Make) -> None:
    stream = make(balance="label", batch_size=4)
    stream.set_epoch(3)
    seen = [next(iterator) for iterator in [iter(stream)] for _ in range(5)]
    state = stream.state_dict()
    assert (state["epoch"], state["step"]) == (3, 5)
    again = make(balance="label", batch_size=2, rank=0, world_size=2)
    other = make(balance="label", batch_size=2, rank=1, world_size=2)
    again.load_state_dict(state)
    other.load_state_dict(state)
    rest = [places(a) + places(b) for a, b in zip(again, other, strict=True)]
    assert [*map(places, seen), *rest] == [places(batch) for batch in stream]


@pytest.mark.parametrize(
    "change", [{"size": 9}, {"stride": 8}, {"scale": "channel"}, {"limit": 20}, {"seed": 0}]
)
def test_a_state_of_something_else_is_refused(make: Make, change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(
        UsageError, match=f"the state was made with {name}=.*, this stream has {name}={value!r}"
    ):
        make(**change).load_state_dict(make().state_dict())


def test_balanced_classes_take_turns(make: Make, study: Study) -> None:
    stream = make(balance="label", slides=study.slides[:3])
    sizes = stream.patches["label"].value_counts()
    assert sizes.min() < sizes.max()
    used: Counter[tuple[int, ...]] = Counter()
    for epoch in range(-(-sizes.max() // sizes.min())):
        stream.set_epoch(epoch)
        batches = list(stream)
        labels = Counter(int(x) for b in batches for x, w in zip(b["label"], b["weight"], strict=True) if w)
        assert set(labels.values()) == {sizes.min()}
        used.update(counted(batches))
    assert len(used) == len(stream.patches)


def test_a_limit_is_kept_and_balanced(make: Make) -> None:
    stream = make(balance="label", limit=11)
    batches = list(stream)
    labels = Counter(int(x) for b in batches for x, w in zip(b["label"], b["weight"], strict=True) if w)
    assert labels == {0: 5, 1: 5}
    assert stream.n_samples == 10


def test_without_shuffle_every_epoch_has_the_order_of_the_table(make: Make) -> None:
    stream = make(shuffle=False)
    first = list(stream)
    stream.set_epoch(2)
    assert all_same(stream, first)
    table = stream.patches
    assert counted(first) == list(zip(table["slide"].cat.codes, table["y"], table["x"], strict=True))


def test_features_of_a_pipeline_come_in_patches(make: Make, study: Study) -> None:
    pipeline = mc.Pipeline([mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.PCA(3)]).fit(study)
    expected = [pipeline.transform(study)[name]["features"].to_numpy() for name in study.slides]
    stream = make(pipeline=pipeline, scale=None)
    for batch in stream:
        assert batch["patches"].shape[1:] == (3, 10, 10)
        wanted = np.stack([expected[s][y : y + 10, x : x + 10] for s, y, x in places(batch)])
        np.testing.assert_allclose(
            batch["patches"].numpy(), np.nan_to_num(wanted).transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5
        )
    assert stream.describe()["cache"] == sum(e.nbytes for e in expected)


def test_threads_end_when_the_loop_is_left(make: Make) -> None:
    for batch in make():
        assert len(batch["weight"]) == 8
        assert stream_threads()
        break
    assert stream_threads() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"stride": 0}, "stride=0"),
        ({"min_coverage": 50}, "min_coverage=50"),
        ({"scale": "slide"}, "scale='slide' is not known"),
        ({"size": 60}, "6 slides hold no patch of 60 x 60 pixels"),
        ({"limit": 1, "balance": "label"}, "limit=1 leaves no sample"),
        ({"balance": "grade"}, "no column 'grade'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Make, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make(**arguments)


def test_too_little_memory_is_refused_with_what_is_needed(make: Make) -> None:
    with pytest.raises(
        MemoryLimitError, match=r'memory="1 MiB" does not hold two batches of .* raise it to "2 MiB"'
    ):
        make(memory="1 MiB")
