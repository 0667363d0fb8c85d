"""The order of an epoch of patches, with no disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.patch_plan import Choice, PatchPlan, plan_patches

groups_of_patches = st.lists(st.integers(0, 2), min_size=1, max_size=80).map(lambda g: np.array(g, np.int64))


@st.composite
def plans(draw: st.DrawFn) -> PatchPlan:
    remainder = draw(st.sampled_from(["pad", "drop", "repeat"]))
    choice = Choice.of(draw(groups_of_patches), limit=None)
    most = choice.n_patches if remainder == "drop" else 24
    batch = 4 * draw(st.integers(1, 6)) if most >= 24 else draw(st.integers(1, most))
    return plan_patches(
        choice, seed=draw(st.integers(0, 5)), epoch=1, global_batch=batch, remainder=remainder, shuffle=True
    )


@given(plans())
def test_every_patch_comes_exactly_once(plan: PatchPlan) -> None:
    steps = [plan.step(step, 0, 1) for step in range(plan.n_steps)]
    seen = Counter(int(i) for ids, weight in steps for i in ids[weight == 1])
    assert set(seen) <= set(plan.order.tolist())
    assert {len(ids) for ids, _ in steps} == {plan.global_batch}
    if plan.remainder != "repeat":
        assert set(seen.values()) == {1}
    if plan.remainder == "drop":
        assert len(plan.order) - len(seen) < plan.global_batch
    else:
        assert len(seen) == len(plan.order)


@given(plans(), st.sampled_from([2, 4]))
def test_ranks_together_take_what_one_takes(plan: PatchPlan, world_size: int) -> None:
    if plan.global_batch % world_size:
        return
    for step in range(plan.n_steps):
        alone = plan.step(step, 0, 1)
        shares = [plan.step(step, rank, world_size) for rank in range(world_size)]
        assert np.array_equal(alone[0], np.concatenate([ids for ids, _ in shares]))
        assert np.array_equal(alone[1], np.concatenate([weight for _, weight in shares]))


@given(groups_of_patches, st.none() | st.integers(3, 60), st.integers(0, 5))
def test_every_group_gives_as_many(groups: NDArray[np.int64], limit: int | None, epoch: int) -> None:
    choice = Choice.of(groups, limit=limit)
    drawn = choice.draw(seed=1, epoch=epoch)
    assert len(np.unique(drawn)) == len(drawn) == choice.n_patches <= (limit or 80)
    assert set(np.unique(groups[drawn], return_counts=True)[1].tolist()) == {choice.quota}


def test_all_patches_get_their_turn() -> None:
    groups = np.repeat([0, 1], [10, 33])
    choice = Choice.of(groups, limit=None)
    used = Counter(np.concatenate([choice.draw(seed=0, epoch=epoch) for epoch in range(33)]).tolist())
    assert {used[i] for i in range(10)} == {33}
    assert {used[i] for i in range(10, 43)} == {10}
    assert set(np.concatenate([choice.draw(seed=0, epoch=epoch) for epoch in range(4)])) == set(range(43))


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="limit=1 leaves no sample for each of 2 groups"):
        Choice.of(np.array([0, 1]), limit=1)


def test_epochs_and_seeds_differ() -> None:
    choice = Choice.of(np.zeros(30, np.int64), limit=None)
    orders = {
        tuple(
            plan_patches(
                choice, seed=seed, epoch=epoch, global_batch=5, remainder="pad", shuffle=True
            ).order.tolist()
        )
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_the_order_is_the_one_of_version_1() -> None:
    """A change of this order, by us or by NumPy, is a new ORDER_VERSION: old states would be misread."""
    choice = Choice.of(np.repeat([0, 1], [4, 9]), limit=None)
    plan = plan_patches(choice, seed=3, epoch=1, global_batch=3, remainder="pad", shuffle=True)
    assert plan.order.tolist() == [8, 3, 9, 4, 1, 0, 2, 7]


def test_without_shuffle_patches_keep_their_order() -> None:
    choice = Choice.of(np.zeros(7, np.int64), limit=None)
    plan = plan_patches(choice, seed=0, epoch=0, global_batch=3, remainder="pad", shuffle=False)
    assert plan.order.tolist() == list(range(7))
    ids, weight = plan.step(2, 0, 1)
    assert (ids.tolist(), weight.tolist()) == ([6, 0, 1], [1, 0, 0])
