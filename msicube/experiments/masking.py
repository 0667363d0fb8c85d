"""Which part of a sample is masked: a pure function of the seed, the epoch and the sample's place. Without torch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_STEP, _FIRST, _SECOND = (
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
#: Set the draws of where a sample's first span begins, and of how its share is rounded, apart from those of its spans.
_PHASE, _ROUND = np.uint64(0x5BA9), np.uint64(0x407D)


def sample_keys(
    seed: int,
    epoch: int,
    slides: Sequence[str],
    slide: NDArray[np.int64],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
) -> Keys:
    """Return a number for each sample, from which its mask is drawn.

    Parameters
    ----------
    seed, epoch
        Equal ones give equal numbers, on any machine, in any order and any batch.
    slides
        Names of the slides that ``slide`` counts: a sample has the same mask whichever other slides there are.
    slide, y, x
        ``(n,)``: the place of each sample.
    """
    names = np.array([zlib.crc32(name.encode()) for name in slides], np.uint64)
    keys = np.zeros(len(slide), np.uint64)
    for part in (np.full(1, seed), np.full(1, epoch), names[slide], y, x):
        keys = mix(keys ^ part.astype(np.uint64))
    return keys


def mix(values: Keys) -> Keys:
    """Return well-mixed bits: one step of SplitMix64.

    References
    ----------
    Steele, Lea and Flood, OOPSLA (2014) 453.
    """
    mixed = values + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def masked_spans(keys: Keys, n_channels: int, *, share: float, span: int) -> NDArray[np.bool_]:
    """Return which channels of each sample are masked, ``(n, n_channels)``.

    The axis is cut into spans of ``span`` channels from a random place on, and ``share`` of the spans are masked,
    rounded up or down, at least one and not all. Neighbouring ones make a longer span; those at the ends are shorter.

    Parameters
    ----------
    keys
        Of :func:`sample_keys`.
    n_channels
        More than ``span``.
    share, span
        Of the spans that are masked, and channels of a span.
    """
    phase = (mix(keys ^ _PHASE) % np.uint64(span)).astype(np.int64)
    number = (np.arange(n_channels) + phase[:, None]) // span
    chosen = _chosen(keys, number[:, -1] + 1, share)
    return np.take_along_axis(chosen, number, axis=1)


def masked_blocks(keys: Keys, size: int, *, share: float, block: int) -> NDArray[np.bool_]:
    """Return which pixels of each patch are masked, ``(n, size, size)``: square blocks of a grid, in all channels.

    Parameters
    ----------
    keys
        Of :func:`sample_keys`.
    size
        Pixels of a patch's edge, more than ``block``.
    share, block
        Of the blocks that are masked, rounded up or down, at least one and not all, and pixels of a block's edge.
    """
    edge = -(-size // block)
    chosen = _chosen(keys, np.full(len(keys), edge**2), share).reshape(-1, edge, edge)
    return chosen.repeat(block, axis=1).repeat(block, axis=2)[:, :size, :size]


def _chosen(keys: Keys, n_pieces: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Return which of each sample's first ``n_pieces`` pieces are masked."""
    numbers = np.arange(int(n_pieces.max()))
    draws = mix(keys[:, None] ^ mix(numbers.astype(np.uint64)))
    draws = np.where(numbers < n_pieces[:, None], draws, np.uint64(2**64 - 1))
    # Rounded up or down by chance, so that the share is kept over all samples.
    chance = (mix(keys ^ _ROUND) >> np.uint64(11)).astype(np.float64) / 2**53
    n_chosen = np.clip(np.floor(share * n_pieces + chance), 1, n_pieces - 1).astype(np.int64)
    place = draws.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return place < n_chosen[:, None]
