"""Spectra from a real study, pixel by pixel against what is stored."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stream_helpers import all_same, counted, places, same, stream_threads

import msicube as mc
from msicube.errors import CorruptStore, MemoryLimitError, StoreError, UsageError
from msicube.preprocess.chain import Chain
from msicube.store import CubeArray, Study
from msicube.stream import SpectrumStream
from msicube.tiling import Window

Make = Callable[..., SpectrumStream]


@pytest.fixture
def make(study: Study) -> Make:
    """Makes streams with so little memory that the six slides pass through in several decks."""

    def make(**arguments: Any) -> SpectrumStream:
        return SpectrumStream(study, **{"batch_size": 64, "memory": "3 MiB", "seed": 5, **arguments})

    return make


def test_each_spectrum_comes_once_and_is_the_stored_one(
    make: Make, study: Study, stored: list[NDArray[np.float32]]
) -> None:
    stream = make()
    batches = list(stream)
    assert len(batches) == len(stream) == stream.describe()["steps"]
    assert max(lane.n_decks for lane in stream.plan.lanes) > 3
    acquired = [
        (slide, y, x)
        for slide, name in enumerate(study.slides)
        for y, x in np.argwhere(study.acquired(name)).tolist()
    ]
    assert sorted(counted(batches)) == acquired
    assert stream.n_samples == len(acquired)
    for batch in batches:
        expected = np.stack([stored[slide][y, x] for slide, y, x in places(batch)])
        assert np.array_equal(batch["spectra"].numpy(), expected)
        labels = [study.samples["label"][stream.slides[slide]] for slide in batch["slide"].tolist()]
        assert [stream.classes[label] for label in batch["label"].tolist()] == labels


def test_a_batch_has_the_shapes_and_types_that_are_promised(make: Make) -> None:
    batch = next(iter(make()))
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "spectra": ((64, 160), torch.float32),
        "label": ((64,), torch.int64),
        "weight": ((64,), torch.float32),
        "slide": ((64,), torch.int64),
        "y": ((64,), torch.int64),
        "x": ((64,), torch.int64),
    }


def test_the_order_is_that_of_seed_and_epoch_alone(make: Make) -> None:
    first = [places(batch) for batch in make(threads=1)]
    assert [places(batch) for batch in make(threads=4)] == first
    assert [places(batch) for batch in make(seed=6)] != first
    stream = make()
    stream.set_epoch(1)
    assert [places(batch) for batch in stream] != first
    stream.set_epoch(0)
    assert [places(batch) for batch in stream] == first


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_take_what_one_takes(make: Make, world_size: int) -> None:
    alone = [sorted(places(batch)) for batch in make()]
    ranks = [
        make(batch_size=64 // world_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {len(alone)}
    shares = [[places(batch) for batch in rank] for rank in ranks]
    assert [sorted(chain(*step)) for step in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("remainder", ["pad", "drop", "repeat"])
def test_the_rest_is_padded_dropped_or_repeated(make: Make, remainder: str) -> None:
    batches = list(make(remainder=remainder, batch_size=128))
    n = make().n_samples
    counts = Counter(counted(batches))
    assert n % 128
    assert {len(batch["weight"]) for batch in batches} == {128}
    assert {"pad": n, "drop": n // 128 * 128, "repeat": -(-n // 128) * 128}[remainder] == counts.total()
    assert len(counts) == min(n, counts.total())


@pytest.mark.parametrize("step", [0, 1, 37, 89, 90])
def test_a_state_goes_on_with_the_next_batch(make: Make, step: int) -> None:
    batches = list(make())
    state = {**make().state_dict(), "step": step}
    again = make()
    again.load_state_dict(state)
    assert all_same(again, batches[step:])


def test_a_state_counts_what_was_yielded_not_what_was_read(make: Make) -> None:
    stream = make()
    stream.set_epoch(2)
    seen = [batch for batch, _ in zip(stream, range(7), strict=False)]
    # zip took one batch more than it gave away.
    state = stream.state_dict()
    assert (state["epoch"], state["step"]) == (2, 8)
    assert stream.state_dict(step=7)["step"] == 7
    again = make()
    again.load_state_dict(stream.state_dict(step=7))
    again.set_epoch(2)
    rest = list(again)
    stream.set_epoch(2)
    assert all_same([*seen, *rest], stream)
    assert len(str(state)) < 500


def test_after_a_resumed_epoch_the_next_one_is_whole(make: Make) -> None:
    stream = make()
    stream.load_state_dict({**stream.state_dict(), "step": 80})
    assert len(list(stream)) == len(stream) - 80
    assert len(list(stream)) == len(stream)
    stream.load_state_dict({**stream.state_dict(), "step": 80})
    stream.set_epoch(1)
    assert len(list(stream)) == len(stream)


def test_a_state_goes_on_on_other_ranks_and_with_other_memory(make: Make) -> None:
    batches = [sorted(places(batch)) for batch in make()]
    state = {**make().state_dict(), "step": 41}
    ranks = [make(batch_size=32, rank=rank, world_size=2, memory="64 MiB", threads=1) for rank in (0, 1)]
    for rank in ranks:
        assert rank.budget.deck != state["deck"]
        rank.load_state_dict(state)
    rest = [sorted(places(a) + places(b)) for a, b in zip(*ranks, strict=True)]
    assert rest == batches[41:]


def test_what_was_consumed_is_not_read_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, Window]] = []
    original = CubeArray.read_cell

    def record(self: CubeArray, window: Window, *rest: Any) -> None:
        read.append((self.slide, window))
        original(self, window, *rest)

    monkeypatch.setattr(CubeArray, "read_cell", record)
    stream = make()
    batches = list(stream)
    whole = len(read)
    read.clear()
    stream.load_state_dict({**stream.state_dict(), "step": 80})
    rest = list(stream)
    cell_y, cell_x = stream._selection.cubes[0].cell
    needed = {
        (stream.slides[slide], y // cell_y, x // cell_x)
        for batch in batches[80:]
        for slide, y, x in places(batch)
    }
    assert len(rest) == 10
    assert {(slide, window.y0 // cell_y, window.x0 // cell_x) for slide, window in read} == needed
    assert len(read) < whole / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed=5, this stream has seed=6"),
        ({"slides": ["slide_001", "slide_002"]}, "the state was made with dataset='"),
        ({"batch_size": 32}, "global_batch=64, this stream has global_batch=32"),
        ({"remainder": "drop"}, "remainder='pad', this stream has remainder='drop'"),
        ({"lanes": 4}, "lanes=8, this stream has lanes=4"),
    ],
)
def test_a_state_of_something_else_is_refused(make: Make, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**change).load_state_dict(make().state_dict())


def test_a_state_of_another_version_or_kind_is_refused(make: Make, study: Study) -> None:
    state = make().state_dict()
    with pytest.raises(UsageError, match=r"version=0, this stream has version=2"):
        make().load_state_dict({**state, "version": 0})
    with pytest.raises(UsageError, match="kind='PatchStream', this stream has kind='SpectrumStream'"):
        make().load_state_dict(mc.PatchStream(study, size=8, stride=8, memory="8 MiB").state_dict())
    with pytest.raises(UsageError, match="deck=None, this stream has deck="):
        make().load_state_dict({name: value for name, value in state.items() if name != "deck"})
    with pytest.raises(UsageError, match="step 5000 of epoch 0, which has 90 steps"):
        make().load_state_dict({**state, "step": 5000})


def test_a_state_that_needs_more_memory_is_refused(make: Make) -> None:
    state = make(memory="64 MiB").state_dict()
    with pytest.raises(MemoryLimitError, match='memory="3 MiB" is too little to shuffle 5725 spectra'):
        make().load_state_dict(state)


def test_too_little_memory_is_refused_with_what_is_needed(make: Make) -> None:
    with pytest.raises(MemoryLimitError, match=r'memory="1 MiB" .* raise it to "3 MiB"'):
        make(memory="1 MiB")
    with pytest.raises(MemoryLimitError, match='raise it to "3 MiB"'):
        make(memory="2 MiB")
    assert make(memory="3 MiB").describe()["bytes"] <= 3 * 2**20


def test_a_pipeline_is_applied_in_the_threads(make: Make, study: Study) -> None:
    pipeline = mc.Pipeline([mc.TICNormalize(), mc.Log1p(), mc.Standardize(), mc.PCA(3)]).fit(study)
    expected = [pipeline.transform(study)[name]["features"].to_numpy() for name in study.slides]
    stream = make(pipeline=pipeline)
    batches = list(stream)
    assert stream.n_channels == 3
    for batch in batches:
        wanted = np.stack([expected[slide][y, x] for slide, y, x in places(batch)])
        np.testing.assert_allclose(batch["spectra"].numpy(), wanted, rtol=1e-5, atol=1e-5)
    again = make(pipeline=pipeline)
    again.load_state_dict({**again.state_dict(), "step": 33})
    assert all_same(again, batches[33:])
    with pytest.raises(UsageError, match="dataset="):
        make().load_state_dict(stream.state_dict())


def test_a_pipeline_that_fails_names_the_place(make: Make) -> None:
    @dataclass(frozen=True)
    class Broken(Chain):
        def map(self, block: NDArray[Any]) -> NDArray[Any]:
            raise ValueError("not today")

    @dataclass(frozen=True)
    class Pipeline:
        chain: Chain

        def fingerprint(self) -> str:
            return "broken"

    with pytest.raises(
        mc.MSICubeError, match=r"the pipeline failed on slide slide_00\d, rows \d+ to \d+, columns"
    ):
        list(make(pipeline=Pipeline(Broken(160, 3, ()))))


@pytest.mark.parametrize("limit", [None, 500])
def test_balanced_classes_give_the_same_number(make: Make, study: Study, limit: int | None) -> None:
    slides = study.slides[:3]
    stream = make(balance="label", slides=slides, limit=limit)
    seen = [counted(stream)]
    labels = stream._selection.labels
    counts = Counter(int(labels[slide]) for slide, *_ in seen[0])
    sizes = Counter(dict.fromkeys(counts, 0))
    for slide, name in enumerate(slides):
        sizes[int(labels[slide])] += int(study.acquired(name).sum())
    assert len(set(counts.values())) == 1
    assert counts.total() == stream.n_samples == 2 * min(min(sizes.values()), (limit or 10**9) // 2)
    assert len(set(seen[0])) == len(seen[0])
    stream.set_epoch(1)
    assert set(counted(stream)) != set(seen[0])


def test_without_shuffle_every_epoch_is_the_same(make: Make) -> None:
    stream = make(shuffle=False, lanes=1)
    first = list(stream)
    stream.set_epoch(3)
    assert all_same(stream, first)
    order = counted(first)
    assert [slide for slide, *_ in order] == sorted(slide for slide, *_ in order)


def test_labels_may_be_left_out(make: Make) -> None:
    stream = make(labels=None)
    assert stream.classes == ()
    assert set(next(iter(stream))["label"].tolist()) == {-1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: it must be at least 1"),
        ({"seed": -1}, "seed=-1"),
        ({"remainder": "wrap"}, "remainder='wrap' is not known"),
        ({"rank": 0}, "give both or neither"),
        ({"rank": 2, "world_size": 2}, "rank=2 of world_size=2"),
        ({"batch_size": 32, "rank": 0, "world_size": 5}, "5 ranks cannot share 8 lanes"),
        ({"lanes": 5}, "lanes=5 does not divide"),
        ({"limit": 7}, "7 samples cannot be dealt by 8 lanes"),
        ({"limit": 60, "remainder": "drop"}, "60 samples make no step of 64"),
        ({"memory": "much"}, "is not a size"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Make, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make(**arguments)


def test_negative_epochs_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="epoch=-1"):
        make().set_epoch(-1)


def test_threads_end_when_the_loop_is_left(make: Make) -> None:
    for batch in make():
        assert len(batch["weight"]) == 64
        assert stream_threads()
        break
    assert stream_threads() == []
    iterator = iter(make())
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert stream_threads() == []
    with pytest.raises(RuntimeError, match="stop"):
        _stop_in_the_middle(make())
    assert stream_threads() == []


def _stop_in_the_middle(stream: SpectrumStream) -> None:
    for _ in stream:
        raise RuntimeError("stop")


def test_two_iterations_at_a_time_do_not_disturb_each_other(make: Make) -> None:
    stream = make()
    assert all(same(a, b) for a, b in zip(stream, stream, strict=True))


@pytest.fixture
def damaged(study: Study, tmp_path: Path) -> Path:
    """A copy of the study, to be damaged."""
    copy = tmp_path / "damaged.zarr"
    shutil.copytree(study.path, copy)
    return copy


def test_a_damaged_shard_stops_the_loop_and_is_named(damaged: Path) -> None:
    shard = damaged / "slide_003/intensity/c/1/1/0"
    data = bytearray(shard.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    shard.write_bytes(data)
    stream = SpectrumStream(mc.open_study(damaged), batch_size=64, memory="3 MiB")
    with pytest.raises(
        CorruptStore, match=r"cannot read slide slide_003, rows \d+ to \d+, columns \d+ to \d+: "
    ):
        list(stream)
    assert stream_threads() == []


def test_a_missing_shard_stops_the_loop_and_is_named(damaged: Path) -> None:
    (damaged / "slide_003/intensity/c/1/1/0").unlink()
    stream = SpectrumStream(mc.open_study(damaged), batch_size=64, memory="3 MiB")
    with pytest.raises(StoreError, match="slide slide_003, rows"):
        list(stream)
    fine = SpectrumStream(mc.open_study(damaged), slides=["slide_001"], batch_size=64, memory="3 MiB")
    assert len(list(fine)) == len(fine)
