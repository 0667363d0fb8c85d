"""Where patches lie: random grids, edges, overlap, random crops, weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import all_same, counted, places

from msicube.errors import UsageError
from msicube.store import Study
from msicube.stream import PatchStream
from msicube.stream.patch_table import Layout, window_sums


def of(study: Study, **arguments: Any) -> PatchStream:
    defaults = {"size": 10, "stride": 10, "batch_size": 8, "memory": "8 MiB", "seed": 5, "scale": None}
    return PatchStream(study, **{**defaults, **arguments})


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 25),
    st.sampled_from(["drop", "shift", "pad"]),
    st.data(),
)
def test_starts_are_a_stride_apart_and_as_the_edges_say(
    length: int, size: int, stride: int, edges: Any, data: st.DataObject
) -> None:
    phase = data.draw(st.integers(0, stride - 1))
    starts = Layout(size=size, stride=stride, min_coverage=0, edges=edges).starts(length, phase)
    inside = starts[(starts >= 0) & (starts + size <= length)]
    if edges != "pad":
        assert len(inside) == len(starts)
    grid = [start for start in starts.tolist() if start % stride == phase % stride]
    assert (np.diff(grid) == stride).all()
    if edges == "shift" and length >= size:
        assert starts[0] == 0
        assert starts[-1] == length - size
    if edges == "pad" and size >= stride:
        covered = {pixel for start in starts.tolist() for pixel in range(start, start + size)}
        assert set(range(length)) <= covered


@pytest.mark.parametrize("layout", [{"phase": "random"}, {"crops": 7}, {"phase": "random", "edges": "pad"}])
def test_every_epoch_has_patches_of_its_own_and_the_right_pixels(
    study: Study, layout: dict[str, Any]
) -> None:
    stream = of(study, **layout, min_coverage=0.3)
    stored = [study.cube(name)[...] for name in study.slides]
    epochs = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        batches = list(stream)
        assert len(batches) == len(stream)
        epochs.append(batches)
        seen = counted(batches)
        assert len(set(seen)) == len(seen) == stream.n_samples == len(stream.patches)
        for batch in batches:
            for patch, (slide, y, x) in zip(batch["patches"].numpy(), places(batch), strict=True):
                padded = np.pad(stored[slide], ((10, 10), (10, 10), (0, 0)))
                assert np.array_equal(patch, padded[y + 10 : y + 20, x + 10 : x + 20].transpose(2, 0, 1))
    assert set(counted(epochs[0])) != set(counted(epochs[1]))
    assert all_same(epochs[0], epochs[2])
    assert all_same(of(study, **layout, min_coverage=0.3, threads=1), epochs[0])


def test_ranks_and_states_agree_on_random_grids(study: Study) -> None:
    alone = of(study, phase="random", batch_size=12)
    alone.set_epoch(3)
    ranks = [of(study, phase="random", batch_size=4, rank=rank, world_size=3) for rank in range(3)]
    state = {**alone.state_dict(), "step": 2}
    for rank in ranks:
        rank.load_state_dict(state)
    together = [places(a) + places(b) + places(c) for a, b, c in zip(*ranks, strict=True)]
    assert together == [places(batch) for batch in alone][2:]


def test_crops_reach_all_places_that_are_covered_well_enough(study: Study) -> None:
    stream = of(study, slides=study.slides[:1], size=8, crops=40, min_coverage=0.6)
    acquired = study.acquired(study.slides[0])
    sums = np.lib.stride_tricks.sliding_window_view(acquired, (8, 8)).sum(axis=(2, 3))
    good = {tuple(place) for place in np.argwhere(sums >= 0.6 * 64).tolist()}
    seen: set[tuple[int, ...]] = set()
    for epoch in range(120):
        stream.set_epoch(epoch)
        table = stream.patches
        assert len(table) == 40
        seen |= set(zip(table["y"], table["x"], strict=True))
    assert seen <= good
    assert len(seen) > 0.95 * len(good)
    few = of(study, slides=study.slides[:1], size=8, crops=len(good) + 30, min_coverage=0.6)
    assert len(few.patches) == len(good) + 30


def test_a_slide_smaller_than_a_patch_needs_padding(study: Study) -> None:
    with pytest.raises(UsageError, match="hold no patch of 48 x 48"):
        of(study, size=48, stride=48, min_coverage=0.1)
    stream = of(study, size=48, stride=48, min_coverage=0.1, edges="pad", memory="64 MiB")
    assert len(stream.patches) == len(study.slides)
    for patch, (slide, _, _) in zip(
        next(iter(stream))["patches"].numpy(), places(next(iter(stream))), strict=True
    ):
        ny, nx, _ = study.cube(study.slides[slide]).shape
        assert not patch[:, ny:].any()
        assert not patch[:, :, nx:].any()


def test_replacement_repeats_patches_of_the_rarer_class(study: Study) -> None:
    stream = of(study, slides=study.slides[:3], balance="label", replacement=True)
    sizes = stream.patches["label"].value_counts()
    seen = Counter(counted(stream))
    labels: Counter[int] = Counter()
    for (slide, _, _), n in seen.items():
        labels[int(stream._selection.labels[slide])] += n
    assert set(labels.values()) == {sizes.max()}
    assert len(seen) == len(stream.patches)


def test_weights_say_how_often_patches_come(study: Study) -> None:
    stream = of(study, weights="total_ion_current", size=8, stride=8)
    table = stream.patches
    weight = []
    for row in table.itertuples():
        image = study.small(row.slide, "total_ion_current") * study.acquired(row.slide)
        weight.append(image[row.y : row.y + 8, row.x : row.x + 8].sum())
    share = stream.n_samples * np.array(weight) / np.sum(weight)
    times = Counter(counted(stream))
    found = [
        times[code, row.y, row.x]
        for code, row in zip(table["slide"].cat.codes, table.itertuples(), strict=True)
    ]
    assert (np.abs(np.array(found) - share) < 1 + 1e-3).all()


@given(st.integers(1, 8), st.integers(0, 6))
def test_sums_over_windows(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 9, (12, 9))
    y, x = rng.integers(-3, 11, 20), rng.integers(-3, 8, 20)
    padded = np.pad(image, 20)
    expected = [
        padded[a + 20 : a + 20 + size, b + 20 : b + 20 + size].sum() for a, b in zip(y, x, strict=True)
    ]
    assert window_sums(image, y, x, size).tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phase": "late"}, "phase='late' is not known: choose one of fixed, random"),
        ({"edges": "wrap"}, "edges='wrap' is not known"),
        ({"crops": 0}, "crops=0: at least 1"),
        ({"crops": 5, "phase": "random"}, "without phase= and edges="),
    ],
)
def test_layouts_that_make_no_sense_are_refused(
    study: Study, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        of(study, **arguments)
