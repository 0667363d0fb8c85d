"""Which patch goes where: the order of an epoch of patches, in integers alone.

Patches are read one by one, so their order is one seeded permutation of all of them. A step takes the next
``global_batch`` of it, and each rank its share of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.stream.order import Draw, Integers, Remainder, count_steps, generator
from msicube.stream.sampling import draw_pixels, share_of_group


@dataclass(frozen=True, eq=False)
class Choice:
    """Which patches an epoch takes.

    Every group gives the same number, ``quota``. A group that has more takes turns: the epochs walk round a fixed
    permutation of it, so that all of it is used after ``size / quota`` epochs. A group that has fewer goes round within
    an epoch.

    Attributes
    ----------
    groups : (n_patches,) int64
        The group of each patch.
    quota
        Patches of each group in an epoch.
    """

    groups: Integers
    quota: int

    @classmethod
    def of(cls, groups: Integers, *, limit: int | None, replacement: bool = False) -> Choice:
        """Give every group as many as the smallest has (the largest, with replacement), together at most ``limit``.

        Raises
        ------
        UsageError
            A limit that leaves nothing.
        """
        sizes = np.unique(groups, return_counts=True)[1].tolist()
        return cls(groups, share_of_group(sizes, limit, replacement=replacement))

    @property
    def n_patches(self) -> int:
        """Patches in an epoch."""
        return self.quota * len(np.unique(self.groups))

    def draw(self, *, seed: int, epoch: int) -> Integers:
        """Return the patches of an epoch, ascending."""
        chosen = [self._turn(name, seed, epoch) for name in np.unique(self.groups).tolist()]
        return np.sort(np.concatenate(chosen))

    def _turn(self, name: int, seed: int, epoch: int) -> Integers:
        members = np.flatnonzero(self.groups == name)
        if len(members) == self.quota:
            return members
        members = generator(seed, Draw.SELECTION, name).permutation(members)
        return members[(epoch * self.quota + np.arange(self.quota)) % len(members)]


@dataclass(frozen=True, eq=False)
class WeightedChoice:
    """Takes patches in proportion to their weights; each comes as often as its share says, rounded up or down.

    Attributes
    ----------
    weights : (n_patches,) int64
        Of each patch; only ratios matter.
    n_patches
        Patches in an epoch.
    """

    weights: Integers
    n_patches: int

    def draw(self, *, seed: int, epoch: int) -> Integers:
        """Return the patches of an epoch, ascending."""
        rng = generator(seed, Draw.BALANCE, epoch)
        return np.sort(draw_pixels(rng, len(self.weights), self.n_patches, self.weights))


@dataclass(frozen=True, eq=False)
class PatchPlan:
    """The order of one epoch of patches.

    Attributes
    ----------
    epoch
        Which.
    order : (n_patches,) int64
        The patches, as they are dealt.
    global_batch
        Patches of a step over all ranks.
    n_steps
        Of every rank.
    remainder
        What fills the last step: the epoch's first patches with weight 0 (``"pad"``) or 1 (``"repeat"``).
    """

    epoch: int
    order: Integers
    global_batch: int
    n_steps: int
    remainder: Remainder

    def step(self, step: int, rank: int, world_size: int) -> tuple[Integers, NDArray[np.float32]]:
        """Return the patches of one rank's step and their weights."""
        share = self.global_batch // world_size
        places = step * self.global_batch + rank * share + np.arange(share)
        filling = places >= len(self.order)
        weight = np.where(filling & (self.remainder == "pad"), 0, 1).astype(np.float32)
        return self.order[places % len(self.order)], weight


def plan_patches(
    choice: Choice | WeightedChoice,
    *,
    seed: int,
    epoch: int,
    global_batch: int,
    remainder: Remainder,
    shuffle: bool,
) -> PatchPlan:
    """Deal the patches of an epoch; without ``shuffle`` they keep their order."""
    order = choice.draw(seed=seed, epoch=epoch)
    if shuffle:
        order = generator(seed, Draw.PATCHES, epoch).permutation(order)
    return PatchPlan(epoch, order, global_batch, count_steps(len(order), global_batch, remainder), remainder)
