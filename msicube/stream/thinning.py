"""Taking a part of the samples: as many of every group, and no more than a limit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msicube.errors import UsageError
from msicube.stream.order import Draw, Integers, generator


@dataclass(frozen=True, eq=False)
class Thinning:
    """Takes the same number of samples from every group, spread evenly over the group's cells.

    Attributes
    ----------
    counts, groups : (n_cells,) int64
        Samples in each cell, and the group that the cell belongs to.
    limit
        The most samples to take from all groups together.
    """

    counts: Integers
    groups: Integers
    limit: int | None = None

    @cached_property
    def totals(self) -> dict[int, int]:
        """Samples of each group that has any."""
        names = np.unique(self.groups[self.counts > 0]).tolist()
        return {name: int(self.counts[self.groups == name].sum()) for name in names}

    @cached_property
    def quota(self) -> int:
        """Samples that an epoch takes from each group."""
        return share_of_group(list(self.totals.values()), self.limit)

    @property
    def n_samples(self) -> int:
        """Samples of an epoch."""
        return self.quota * len(self.totals)

    @property
    def largest(self) -> int:
        """The most samples that any epoch takes from one cell."""
        return max(
            (-(-int(self.counts[self.groups == n].max()) * self.quota // t) for n, t in self.totals.items()),
            default=0,
        )

    def draw(self, *, seed: int, epoch: int) -> Integers:
        """Return the samples to take from each cell in an epoch; every sample is as likely as every other one."""
        kept = np.zeros_like(self.counts)
        for name, total in self.totals.items():
            inside = self.groups == name
            ends = np.concatenate([[0], np.cumsum(self.counts[inside])])
            phase = generator(seed, Draw.BALANCE, epoch, name).integers(total)
            # Systematic sampling in integers: the shares add up to the quota exactly, whatever the phase.
            kept[inside] = np.diff((ends * self.quota + phase) // total)
        return kept


def share_of_group(sizes: list[int], limit: int | None) -> int:
    """Return how many samples each group gives: as many as the smallest one has, within a limit for all of them.

    Raises
    ------
    UsageError
        A limit that leaves nothing.
    """
    share = min(sizes, default=0)
    if limit is None or not sizes:
        return share
    if limit < len(sizes):
        raise UsageError(f"limit={limit} leaves no sample for each of {len(sizes)} groups: raise it")
    return min(share, limit // len(sizes))
