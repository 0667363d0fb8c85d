"""Which samples an epoch takes, with no disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.sampling import Draws, GroupSampler, WeightedSampler, draw_pixels, share_of_group

Integers = NDArray[np.int64]
counts_of_cells = (
    st.lists(st.integers(0, 40), min_size=1, max_size=60)
    .map(lambda c: np.array(c, np.int64))
    .filter(lambda c: c.sum() > 0)
)


def per_cell(draws: Draws, n_cells: int) -> Integers:
    return np.bincount(draws.cells, weights=draws.counts, minlength=n_cells).astype(np.int64)


@given(
    counts_of_cells,
    st.lists(st.integers(0, 2), min_size=60, max_size=60),
    st.none() | st.integers(3, 500),
    st.integers(0, 9),
    st.booleans(),
)
def test_every_group_gives_the_same(
    counts: Integers, groups: list[int], limit: int | None, seed: int, replacement: bool
) -> None:
    names = np.array(groups[: len(counts)], np.int64)
    sampler = GroupSampler(counts, names, limit, replacement)
    draws = sampler.draw(seed=seed, epoch=seed)
    assert (draws.counts <= counts[draws.cells]).all()
    assert (draws.counts >= 0).all()
    assert draws.counts.max() <= sampler.largest
    kept = per_cell(draws, len(counts))
    present = np.unique(names[counts > 0])
    assert {int(kept[names == name].sum()) for name in present} == {sampler.quota}
    sizes = [int(counts[names == name].sum()) for name in present]
    wanted = max(sizes) if replacement else min(sizes)
    assert sampler.quota == min(wanted, (limit or 10**6) // len(present))
    if not replacement:
        assert (draws.rounds == 0).all()
    # A sample comes as often as the others of its group, to within one.
    assert all(
        (kept[names == name] // np.maximum(1, counts[names == name]) <= sampler.quota // size + 1).all()
        for name, size in zip(present, sizes, strict=True)
    )


def test_thinning_is_even_over_epochs() -> None:
    counts, groups = np.array([10, 20, 30, 15], np.int64), np.array([0, 0, 0, 1], np.int64)
    sampler = GroupSampler(counts, groups)
    mean = np.mean([per_cell(sampler.draw(seed=0, epoch=e), 4) for e in range(400)], axis=0)
    np.testing.assert_allclose(mean, [2.5, 5, 7.5, 15], atol=0.1)


@given(
    st.lists(st.integers(0, 2**20 * 256), min_size=1, max_size=50).filter(any),
    st.integers(1, 10_000),
    st.integers(0, 5),
)
def test_weights_give_each_cell_its_share(weights: list[int], n_samples: int, seed: int) -> None:
    sampler = WeightedSampler(np.array(weights, np.int64), n_samples)
    draws = sampler.draw(seed=seed, epoch=1)
    assert draws.counts.sum() == n_samples
    assert draws.counts.max() <= sampler.largest
    share = n_samples * np.array(weights) / sum(weights)
    assert (np.abs(draws.counts - share) < 1 + 1e-9 * n_samples).all()


@given(
    st.lists(st.integers(0, 2**20), min_size=1, max_size=64).filter(any),
    st.integers(1, 300),
    st.integers(0, 20),
)
def test_weighted_pixels_come_as_often_as_their_share_says(
    weights: list[int], n_samples: int, seed: int
) -> None:
    drawn = draw_pixels(np.random.default_rng(seed), len(weights), n_samples, np.array(weights, np.int64))
    times = np.bincount(drawn, minlength=len(weights))
    assert (np.abs(times - n_samples * np.array(weights) / sum(weights)) < 1 + 1e-6).all()
    assert not times[np.array(weights) == 0].any()


def test_pixels_without_weights_come_once() -> None:
    drawn = draw_pixels(np.random.default_rng(3), 50, 20, None)
    assert len(set(drawn.tolist())) == 20
    assert Counter(draw_pixels(np.random.default_rng(3), 50, 50, None).tolist()) == Counter(range(50))


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="limit=2 leaves no sample for each of 3 groups"):
        share_of_group([5, 6, 7], 2)
