"""Which samples an epoch takes of each cell: all, as many of every group, or in proportion to weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from math import floor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.order import Draw, Integers, generator


class Draws(NamedTuple):
    """What an epoch takes, one entry for each time that it comes to a cell.

    Attributes
    ----------
    cells : (n_entries,) int64
        Of which cell; a cell whose samples are repeated has several entries.
    rounds : (n_entries,) int64
        The how manieth time, from 0.
    counts : (n_entries,) int64
        How many samples.
    """

    cells: Integers
    rounds: Integers
    counts: Integers


class Sampler(Protocol):
    """Decides how many samples an epoch takes from each cell."""

    @property
    def n_samples(self) -> int:
        """Samples of an epoch."""

    @property
    def largest(self) -> int:
        """The most samples that any epoch takes from one cell at a time."""

    def draw(self, *, seed: int, epoch: int) -> Draws:
        """Return what an epoch takes."""


@dataclass(frozen=True, eq=False)
class GroupSampler:
    """Takes the same number of samples from every group, spread evenly over the group's cells.

    Attributes
    ----------
    counts, groups : (n_cells,) int64
        Samples in each cell, and the group that the cell belongs to.
    limit
        The most samples to take from all groups together.
    replacement
        Whether groups give as many as the largest one has, the samples of smaller ones coming again, each as often as
        the others to within one; otherwise as many as the smallest one has.
    """

    counts: Integers
    groups: Integers
    limit: int | None = None
    replacement: bool = False

    @cached_property
    def totals(self) -> dict[int, int]:
        """Samples of each group that has any."""
        names = np.unique(self.groups[self.counts > 0]).tolist()
        return {name: int(self.counts[self.groups == name].sum()) for name in names}

    @cached_property
    def quota(self) -> int:
        """Samples that an epoch takes from each group."""
        return share_of_group(list(self.totals.values()), self.limit, replacement=self.replacement)

    @property
    def n_samples(self) -> int:
        """Samples of an epoch."""
        return self.quota * len(self.totals)

    @property
    def largest(self) -> int:
        """The most samples that any epoch takes from one cell at a time."""
        return max(
            (
                -(-int(self.counts[self.groups == n].max()) * min(self.quota, t) // t)
                for n, t in self.totals.items()
            ),
            default=0,
        )

    def draw(self, *, seed: int, epoch: int) -> Draws:
        """Return what an epoch takes; every sample of a group is as likely as every other one."""
        parts: list[tuple[Integers, int, Integers]] = []
        for name, total in self.totals.items():
            inside = np.flatnonzero(self.groups == name)
            counts = self.counts[inside]
            whole, rest = divmod(self.quota, total)
            parts += [(inside, number, counts) for number in range(whole)]
            if rest:
                ends = np.concatenate([[0], np.cumsum(counts)])
                phase = generator(seed, Draw.BALANCE, epoch, name).integers(total)
                # Systematic sampling in integers: the shares add up to the rest exactly, whatever the phase.
                parts.append((inside, whole, np.diff((ends * rest + phase) // total)))
        if not parts:
            return Draws(*repeat(np.empty(0, np.int64), 3))
        cells, rounds, taken = zip(*parts, strict=True)
        return Draws(np.concatenate(cells), np.repeat(rounds, [len(c) for c in cells]), np.concatenate(taken))


@dataclass(frozen=True, eq=False)
class WeightedSampler:
    """Takes samples in proportion to their weights, by systematic sampling.

    A sample comes as often as its share of the weights says, rounded up or down.

    Attributes
    ----------
    weights : (n_cells,) int64
        Sum of the weights of each cell's samples; only ratios matter.
    n_samples
        Of an epoch.
    """

    weights: Integers
    n_samples: int

    @property
    def largest(self) -> int:
        """The most samples that any epoch takes from one cell."""
        return floor(int(self.weights.max(initial=0)) * self.n_samples / max(1, int(self.weights.sum()))) + 1

    def draw(self, *, seed: int, epoch: int) -> Draws:
        """Return what an epoch takes."""
        phase = generator(seed, Draw.BALANCE, epoch).random()
        # Whole numbers below 2**53, so that the one product and the one sum round alike on every machine.
        ends = np.cumsum(self.weights) * (self.n_samples / int(self.weights.sum()))
        edges = np.minimum(np.floor(ends + phase), self.n_samples).astype(np.int64)
        edges[np.flatnonzero(self.weights)[-1] :] = self.n_samples
        counts = np.diff(edges, prepend=0)
        cells = np.arange(len(counts))
        return Draws(cells, np.zeros_like(cells), counts)


def draw_pixels(
    rng: np.random.Generator, n_pixels: int, n_samples: int, weights: NDArray[np.int64] | None
) -> Integers:
    """Return which pixels of a cell its samples are.

    Parameters
    ----------
    rng
        Of this cell in this epoch.
    n_pixels, n_samples
        How many there are, and how many are taken.
    weights : (n_pixels,) int64
        How much each pixel counts; None where all count alike, and none is taken twice.

    Returns
    -------
    (n_samples,) int64
        In random order.
    """
    drawn = rng.permutation(n_pixels)
    if weights is None:
        return drawn[:n_samples]
    ends = np.cumsum(weights[drawn])
    marks = (np.arange(n_samples) + rng.random()) * (ends[-1] / n_samples)
    return rng.permutation(drawn[np.minimum(np.searchsorted(ends, marks, side="right"), n_pixels - 1)])


def share_of_group(sizes: list[int], limit: int | None, *, replacement: bool = False) -> int:
    """Return how many samples each group gives, within a limit for all of them.

    Parameters
    ----------
    sizes
        Samples of each group.
    limit
        The most of all groups together.
    replacement
        As many as the largest group has, instead of as many as the smallest one has.

    Raises
    ------
    UsageError
        A limit that leaves nothing.
    """
    share = (max if replacement else min)(sizes, default=0)
    if limit is None or not sizes:
        return share
    if limit < len(sizes):
        raise UsageError(f"limit={limit} leaves no sample for each of {len(sizes)} groups: raise it")
    return min(share, limit // len(sizes))
