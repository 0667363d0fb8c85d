"""How a memory budget is spent."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msicube.errors import MemoryLimitError
from msicube.stream.budget import MIB, Demand, spend, spend_on_patches

demands = st.builds(
    Demand,
    n_samples=st.integers(100, 10**7),
    largest_cell=st.integers(1, 1024),
    n_channels=st.integers(1, 5000),
    thread_bytes=st.integers(1, 20 * MIB),
    batch=st.sampled_from([8, 64, 256]),
    lanes=st.just(8),
)


@given(demands, st.integers(1, 600), st.integers(1, 16), st.sampled_from([1, 2, 4, 8]))
def test_a_budget_is_kept_or_refused(demand: Demand, memory: int, threads: int, world_size: int) -> None:
    try:
        budget = spend(memory * MIB, demand, threads=threads, world_size=world_size)
    except MemoryLimitError as error:
        named = re.search(r'raise it to "(\d+) MiB"', str(error))
        assert named is not None
        needed = int(named[1])
        assert needed > memory
        assert spend(needed * MIB, demand, threads=threads, world_size=world_size).n_bytes <= needed * MIB
        return
    own = demand.of_rank(world_size)
    assert budget.n_bytes <= memory * MIB
    assert budget.rows >= own.rows(budget.deck)
    assert 1 <= budget.threads <= threads
    assert 1 <= budget.deck <= demand.n_samples


@given(demands, st.integers(64, 600), st.integers(1, 16), st.sampled_from([1, 2, 4, 8]))
def test_decks_do_not_depend_on_threads_and_ranks(
    demand: Demand, memory: int, threads: int, world_size: int
) -> None:
    try:
        alone = spend(memory * MIB, demand, threads=1)
    except MemoryLimitError:
        return
    assert spend(memory * MIB, demand, threads=threads, world_size=world_size).deck == alone.deck


def test_more_memory_gives_larger_decks_and_in_the_end_one() -> None:
    demand = Demand(10**6, 1024, 1000, 12 * MIB, 256, 8)
    decks = [spend(size * MIB, demand, threads=2).deck for size in (80, 128, 256, 1024, 8192)]
    assert decks == sorted(set(decks))
    assert decks[-1] == 10**6


@given(
    st.integers(1, 600),
    st.integers(1, 200 * MIB),
    st.integers(1, 50 * MIB),
    st.integers(0, 10**9),
    st.integers(1, 16),
)
def test_a_budget_of_patches_is_kept_or_refused(
    memory: int, batch_bytes: int, thread_bytes: int, all_cells: int, threads: int
) -> None:
    sizes = {
        "batch_bytes": batch_bytes,
        "thread_bytes": thread_bytes,
        "all_cells": all_cells,
        "threads": threads,
    }
    try:
        budget = spend_on_patches(memory * MIB, **sizes)
    except MemoryLimitError as error:
        named = re.search(r'raise it to "(\d+) MiB"', str(error))
        assert named is not None
        assert int(named[1]) > memory
        assert spend_on_patches(int(named[1]) * MIB, **sizes).n_bytes <= int(named[1]) * MIB
        with pytest.raises(MemoryLimitError):
            spend_on_patches((int(named[1]) - 1) * MIB, **sizes)
        return
    assert budget.n_bytes <= memory * MIB
    assert budget.ahead >= 0
    assert 1 <= budget.threads <= threads
    assert 0 <= budget.cache <= all_cells
