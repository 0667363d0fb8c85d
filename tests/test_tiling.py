from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msicube.errors import MemoryLimitError, UsageError
from msicube.tiling import Window, plan_tiles, windows

shapes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 20_000))


@given(shapes, st.sampled_from([1, 2, 4, 8]), st.sampled_from([2**20, 2**22, 2**26]))
def test_a_plan_holds_its_bound_and_covers_the_cube(
    shape: tuple[int, int, int], itemsize: int, bound: int
) -> None:
    plan = plan_tiles(shape, itemsize, shard_bytes=bound)
    assert all(s % c == 0 for s, c in zip(plan.shard_shape, plan.chunk_shape, strict=True))
    assert plan.shard_shape[2] >= shape[2]
    # Whole chunks of channels may pad the last one; nothing else may pass the bound.
    assert plan.tile[0] * plan.tile[1] * shape[2] * itemsize <= bound
    covered = np.zeros(shape[:2], int)
    for window in plan.tiles():
        covered[window.slices] += 1
    assert (covered == 1).all()


def test_the_measured_layout_is_chosen_for_the_measured_cube() -> None:
    plan = plan_tiles((512, 512, 1024), 4)
    assert plan.shard_shape == (128, 128, 1024)
    assert plan.chunk_shape == (16, 16, 128)


def test_a_wide_axis_shrinks_the_tile_not_the_bound() -> None:
    plan = plan_tiles((100, 100, 100_000), 4)
    assert np.prod(plan.tile) * 100_000 * 4 <= 64 * 2**20


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        plan_tiles((0, 4, 4), 4)
    with pytest.raises(MemoryLimitError, match="one spectrum"):
        plan_tiles((4, 4, 1000), 4, shard_bytes=1000)


def test_windows_meet() -> None:
    assert Window(0, 4, 0, 4).intersect(Window(2, 6, 3, 9)) == Window(2, 4, 3, 4)
    assert Window(0, 4, 0, 4).intersect(Window(4, 6, 0, 4)) is None
    assert windows((3, 5), (2, 4)) == [(0, 2, 0, 4), (0, 2, 4, 5), (2, 3, 0, 4), (2, 3, 4, 5)]
