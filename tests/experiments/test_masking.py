from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msicube.experiments.masking import masked_blocks, masked_spans, mix, sample_keys


def keys(n: int, *, seed: int = 0, epoch: int = 1) -> np.ndarray:
    places = np.arange(n)
    return sample_keys(seed, epoch, ["one"], np.zeros(n, np.int64), places // 50, places % 50)


def splitmix(state: int) -> int:
    """The published generator, in Python's integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return state ^ (state >> 31)


def test_bits_are_mixed_as_published() -> None:
    # The first number of SplitMix64 from state 1234567, as in its reference code.
    assert int(mix(np.array([1234567], np.uint64))[0]) == 6457827717110365317
    values = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    assert mix(values).tolist() == [splitmix(value) for value in values.tolist()]


def test_a_mask_depends_on_seed_epoch_and_place_alone() -> None:
    slide, y, x = np.array([0, 1, 1]), np.array([3, 3, 4]), np.array([5, 5, 5])
    found = sample_keys(7, 2, ["a", "b"], slide, y, x)
    assert len(set(found.tolist())) == 3
    # In another order, in another batch, beside other slides.
    again = sample_keys(7, 2, ["c", "b", "a"], np.array([1, 2]), np.array([4, 3]), np.array([5, 5]))
    assert again.tolist() == found[[2, 0]].tolist()
    for seed, epoch in ((8, 2), (7, 3)):
        assert not set(sample_keys(seed, epoch, ["a", "b"], slide, y, x).tolist()) & set(found.tolist())
    masks = masked_spans(found, 60, share=0.4, span=5)
    assert np.array_equal(masked_spans(again, 60, share=0.4, span=5), masks[[2, 0]])


@given(
    n_channels=st.integers(2, 200),
    share=st.floats(0.01, 0.99),
    span=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_spans_are_whole_and_never_all(n_channels: int, share: float, span: int, seed: int) -> None:
    span = min(span, n_channels - 1)
    masks = masked_spans(keys(20, seed=seed), n_channels, share=share, span=span)
    assert masks.shape == (20, n_channels)
    assert masks.any(axis=1).all()
    assert not masks.all(axis=1).any()
    for mask in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]]).astype(int)))
        inside = [b - a for a, b in edges.reshape(-1, 2) if a > 0 and b < n_channels]
        assert all(length % span == 0 for length in inside), "only the ends cut a span"


def test_the_share_is_kept_and_every_channel_is_masked_as_often() -> None:
    masks = masked_spans(keys(20_000), 100, share=0.5, span=8)
    often = masks.mean(axis=0)
    assert masks.mean() == pytest.approx(0.5, abs=0.02)
    assert often.min() > 0.45
    assert often.max() < 0.55


def test_blocks_are_squares_of_a_grid() -> None:
    masks = masked_blocks(keys(4000), 16, share=0.5, block=4)
    grid = masks.reshape(-1, 4, 4, 4, 4)
    assert (grid.all(axis=(2, 4)) | ~grid.any(axis=(2, 4))).all()
    assert (masks.sum(axis=(1, 2)) == 8 * 16).all(), "half of 16 squares, exactly"
    assert np.abs(masks.mean(axis=0) - 0.5).max() < 0.05
    assert masked_blocks(keys(3), 10, share=0.3, block=4).shape == (3, 10, 10)
