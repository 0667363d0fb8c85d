"""The order of an epoch, with no disk: who gets what, and when."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.budget import Demand
from msicube.stream.plan import EpochPlan, check_lanes, lanes_for, plan_epoch

counts_of_cells = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(lambda c: np.array(c, np.int64))
batches = st.sampled_from([1, 2, 6, 8, 24, 32])
remainders = st.sampled_from(["pad", "drop", "repeat"])


class Case(NamedTuple):
    """A plan and what it was made of."""

    plan: EpochPlan
    counts: NDArray[np.int64]
    deck: int


@st.composite
def plans(draw: st.DrawFn) -> Case:
    batch, remainder = draw(batches), draw(remainders)
    least = batch if remainder == "drop" else lanes_for(batch)
    counts = draw(counts_of_cells.filter(lambda c: c.sum() >= least))
    deck = draw(st.integers(1, 300))
    plan = plan_epoch(
        counts,
        global_batch=batch,
        deck=deck,
        seed=draw(st.integers(0, 9)),
        epoch=draw(st.integers(0, 3)),
        remainder=remainder,
        shuffle=draw(st.booleans()),
    )
    return Case(plan, counts, deck)


def samples_of_deck(plan: EpochPlan, lane: int, index: int) -> list[tuple[int, int]]:
    """Return the samples of a deck, ``(cell, k)``, in the order in which they are dealt."""
    deck = plan.deck(lane, index)
    found: list[tuple[int, int]] = [(-1, -1)] * len(deck.positions)
    for part in deck.parts:
        for k in range(part.start, part.stop):
            found[deck.positions[part.offset + k - part.start]] = (part.cell, k)
    return found


def dealt(plan: EpochPlan, steps: range, lanes: range) -> list[list[tuple[int, int, float]]]:
    """Return each step's samples with their weights, looked up piece by piece."""
    decks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    found = []
    for step in steps:
        batch = []
        for lane in lanes:
            for piece in plan.pieces(step, lane):
                key = (lane, piece.deck)
                if key not in decks:
                    decks[key] = samples_of_deck(plan, *key)
                batch += [(*sample, piece.weight) for sample in decks[key][piece.start : piece.stop]]
        found.append(batch)
    return found


def everything(plan: EpochPlan) -> list[list[tuple[int, int, float]]]:
    return dealt(plan, range(plan.n_steps), plan.of_rank(0, 1))


@given(plans())
def test_every_sample_comes_exactly_once(case: Case) -> None:
    plan = case.plan
    assert all(0 <= k < case.counts[cell] for batch in everything(plan) for cell, k, _ in batch)
    seen = Counter(sample[:2] for batch in everything(plan) for sample in batch)
    batch = plan.share * len(plan.lanes)
    if plan.remainder == "drop":
        assert max(seen.values()) == 1
        assert len(seen) == plan.n_steps * batch > plan.n_samples - batch
        return
    assert len(seen) == plan.n_samples
    weighted = Counter(sample[:2] for batch in everything(plan) for sample in batch if sample[2] == 1)
    extra = plan.n_steps * batch - plan.n_samples
    assert 0 <= extra < batch
    if plan.remainder == "pad":
        assert set(weighted.values()) == {1}
        assert seen.total() - weighted.total() == extra
    else:
        assert weighted.total() == plan.n_samples + extra


@given(plans())
def test_batches_are_full(case: Case) -> None:
    plan = case.plan
    assert {len(batch) for batch in everything(plan)} == {plan.share * len(plan.lanes)}


@given(plans())
def test_ranks_together_take_what_one_takes(case: Case) -> None:
    plan = case.plan
    alone = everything(plan)
    for world_size in (w for w in (2, 3, 4, 8) if len(plan.lanes) % w == 0):
        ranks = [
            dealt(plan, range(plan.n_steps), plan.of_rank(rank, world_size)) for rank in range(world_size)
        ]
        for step, batch in enumerate(alone):
            assert sorted(batch) == sorted(sample for rank in ranks for sample in rank[step])
            assert len({len(rank[step]) for rank in ranks}) == 1


@given(plans(), st.data())
def test_what_is_read_is_what_is_needed(case: Case, data: st.DataObject) -> None:
    """For any first step and any stride: the schedule and the masks hold just the places that the pieces take."""
    plan = case.plan
    start = data.draw(st.integers(0, plan.n_steps))
    steps = range(start, plan.n_steps, data.draw(st.integers(1, 3)))
    taken: dict[tuple[int, int], set[int]] = {}
    first: dict[tuple[int, int], tuple[int, int]] = {}
    for step in steps:
        for lane in plan.of_rank(0, 1):
            for piece in plan.pieces(step, lane):
                taken.setdefault((lane, piece.deck), set()).update(range(piece.start, piece.stop))
                first.setdefault((lane, piece.deck), (step, lane))
    schedule = plan.schedule(plan.of_rank(0, 1), steps)
    assert set(schedule) == set(taken)
    assert [first[key] for key in schedule] == sorted(first[key] for key in schedule)
    for key in schedule:
        needed = set(np.flatnonzero(plan.needed(*key, steps)).tolist())
        kept = range(
            plan.lanes[key[0]].tail - plan.lanes[key[0]].edges[key[1]], len(plan.deck(*key).positions)
        )
        assert taken[key] <= needed
        # What fills the last step may be kept whole, which is less than one step's share.
        assert needed - taken[key] <= set(kept)


@given(plans())
def test_lanes_are_balanced_to_one_sample(case: Case) -> None:
    plan = case.plan
    sizes = [lane.n_samples for lane in plan.lanes]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == plan.n_samples


@given(plans(), st.integers(1, 8))
def test_memory_is_enough_to_read_in_the_order_of_need(case: Case, world_size: int) -> None:
    """With the rows that the budget allows, the deck that is waited for fits beside what is still to be dealt."""
    plan = case.plan
    if len(plan.lanes) % world_size:
        world_size = 1
    demand = Demand(
        n_samples=plan.n_samples,
        largest_cell=int(case.counts.max()),
        n_channels=1,
        thread_bytes=1,
        batch=plan.share * len(plan.lanes),
        lanes=len(plan.lanes),
    ).of_rank(world_size)
    allowed = demand.rows(case.deck, ahead=0)
    for rank in range(world_size):
        assert _most_rows(plan, plan.of_rank(rank, world_size)) <= allowed


def _most_rows(plan: EpochPlan, lanes: range) -> int:
    """Play an epoch, reading each deck when it is first needed, and return the most samples held."""
    held: dict[tuple[int, int], int] = {}
    most = 0
    for step in range(plan.n_steps):
        for lane in lanes:
            edges, tail = plan.lanes[lane].edges, plan.lanes[lane].tail
            for piece in plan.pieces(step, lane):
                key = (lane, piece.deck)
                if key not in held:
                    held[key] = edges[piece.deck + 1] - edges[piece.deck]
                    most = max(most, sum(held.values()))
                freed = min(piece.stop, max(piece.start, tail - edges[piece.deck])) - piece.start
                held[key] -= freed
    return most


def test_epochs_and_seeds_differ() -> None:
    counts = np.full(20, 30, np.int64)
    orders = {
        (seed, epoch): str(everything(plan_epoch(counts, global_batch=8, deck=60, seed=seed, epoch=epoch)))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4


def test_the_order_is_the_one_of_version_1() -> None:
    """A change of this order, by us or by NumPy, is a new ORDER_VERSION: old states would be misread."""
    plan = plan_epoch(np.array([5, 0, 7, 3], np.int64), global_batch=6, deck=5, lanes=2, seed=3, epoch=1)
    assert [" ".join(f"{cell}.{k}" for cell, k, _ in batch) for batch in everything(plan)] == [
        "0.3 0.1 0.2 2.5 2.3 2.6",
        "0.4 0.0 3.0 3.2 2.2 2.1",
        "3.1 0.0 3.0 2.4 2.0 2.1",
    ]


def test_without_shuffle_cells_keep_their_order() -> None:
    plan = plan_epoch(np.array([3, 2, 4], np.int64), global_batch=3, deck=9, lanes=1, epoch=5, shuffle=False)
    cells = [sample[0] for batch in everything(plan) for sample in batch]
    assert cells == [0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_a_deck_mixes_its_cells() -> None:
    plan = plan_epoch(np.full(64, 100, np.int64), global_batch=8, deck=800)
    first = everything(plan)[0]
    assert len({cell for cell, *_ in first}) == 8
    assert len({cell for batch in everything(plan)[:8] for cell, *_ in batch}) > 20


@pytest.mark.parametrize(("batch", "lanes"), [(256, 8), (32, 8), (96, 24), (12, 12), (7, 1), (1, 1)])
def test_lanes_follow_from_the_global_batch(batch: int, lanes: int) -> None:
    assert lanes_for(batch) == lanes


def test_lanes_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UsageError, match="3 ranks cannot share 8 lanes"):
        check_lanes(8, 256, 3)
    with pytest.raises(UsageError, match="does not divide"):
        check_lanes(5, 256)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="7 samples cannot be dealt by 8 lanes"):
        plan_epoch(np.array([7], np.int64), global_batch=8, deck=10)
    with pytest.raises(UsageError, match="no step"):
        plan_epoch(np.array([9], np.int64), global_batch=16, deck=10, remainder="drop")
