"""Which spectrum goes where: the order of an epoch, in integers alone.

The samples of an epoch are dealt by a fixed number of *lanes*. The seeded permutation of all cells is cut into lanes
of equal length (to one sample); a lane is a sequence of *decks*, each a few cells whose samples are shuffled
together; a step takes the same number of samples from every lane. Rank ``r`` of ``W`` holds lanes ``r, r + W, ...``.

From this follows what a training run relies on: every sample comes exactly once an epoch, all ranks take the same
number of steps, step ``i`` of any number of ranks taken together holds the same samples, neither threads nor worker
processes change anything, and the place of step ``i`` is found by arithmetic, without what came before it.

Nothing here knows of pixels, files or threads. A *sample* is the k-th of the ``counts[cell]`` samples that an epoch
takes from a cell; the stream turns it into a pixel.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.stream.order import Draw, Integers, Remainder, count_steps, generator

MAX_LANES = 24


def lanes_for(global_batch: int) -> int:
    """Return the number of lanes for a global batch: a divisor of it that most numbers of ranks divide."""
    return gcd(global_batch, MAX_LANES)


class Part(NamedTuple):
    """Samples ``start`` to ``stop`` of a cell; in their deck they are samples ``offset`` onwards."""

    cell: int
    start: int
    stop: int
    offset: int


@dataclass(frozen=True)
class Deck:
    """A few cells whose samples are shuffled together.

    Attributes
    ----------
    lane, index
        Where the deck belongs.
    parts
        The cells it is made of, in the order in which they are read.
    positions : (n_samples,) int64
        For each sample, in the order of ``parts``, its place in the shuffled deck.
    """

    lane: int
    index: int
    parts: tuple[Part, ...]
    positions: Integers


class Piece(NamedTuple):
    """Places ``start`` to ``stop`` of a shuffled deck, and the weight with which they count."""

    deck: int
    start: int
    stop: int
    weight: float


@dataclass(frozen=True, eq=False)
class Lane:
    """One of the independent sequences of samples that an epoch is dealt from.

    Attributes
    ----------
    cells, starts, stops : (n_cells,) int64
        The cells in order, and which samples of each belong to this lane (all, but for the first and the last cell).
    first : list of int, n_decks + 1
        Where each deck begins in ``cells``.
    edges : list of int, n_decks + 1
        Where each deck begins in the lane's samples.
    tail
        From where on the lane's samples are kept until the end, because they fill its last step.
    """

    cells: Integers
    starts: Integers
    stops: Integers
    first: list[int]
    edges: list[int]
    tail: int

    @property
    def n_samples(self) -> int:
        """Samples in the lane."""
        return self.edges[-1]

    @property
    def n_decks(self) -> int:
        """Decks in the lane."""
        return len(self.edges) - 1

    def together(self) -> float:
        """Return, summed over the lane's samples, the share of the sample's deck that comes from its own cell."""
        counts = (self.stops - self.starts).astype(np.float64)
        sizes = np.diff(np.asarray(self.edges)).astype(np.float64)
        squares = np.add.reduceat(counts * np.maximum(counts - 1, 0), self.first[:-1])
        return float((squares / np.maximum(sizes - 1, 1)).sum())

    def parts(self, deck: int) -> tuple[Part, ...]:
        """Return the cells of a deck."""
        inside = slice(self.first[deck], self.first[deck + 1])
        starts, stops = self.starts[inside], self.stops[inside]
        offsets = np.cumsum(stops - starts) - (stops - starts)
        table = np.stack([self.cells[inside], starts, stops, offsets], axis=1)
        return tuple(Part(*row) for row in table.tolist())

    def pieces(self, start: int, stop: int, weight: float = 1.0) -> list[Piece]:
        """Return samples ``start`` to ``stop`` of the lane as pieces of its decks."""
        found = []
        deck = bisect_right(self.edges, start) - 1
        while start < stop:
            end = min(stop, self.edges[deck + 1])
            found.append(Piece(deck, start - self.edges[deck], end - self.edges[deck], weight))
            start, deck = end, deck + 1
        return found


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The order of one epoch.

    Attributes
    ----------
    seed, epoch, shuffle
        What the order is drawn from; without ``shuffle`` cells and samples keep their order.
    remainder
        What fills the last step: samples of weight 0 (``"pad"``), samples that came before (``"repeat"``), or
        nothing, the step being left out (``"drop"``).
    n_samples, n_steps
        Samples of the epoch, and steps of every rank.
    share
        Samples that one step takes from one lane.
    lanes
        The sequences that the epoch is dealt from.
    """

    seed: int
    epoch: int
    shuffle: bool
    remainder: Remainder
    n_samples: int
    n_steps: int
    share: int
    lanes: tuple[Lane, ...]

    def of_rank(self, rank: int, world_size: int) -> range:
        """Return the lanes of one rank."""
        return range(rank, len(self.lanes), world_size)

    def deck(self, lane: int, index: int) -> Deck:
        """Return a deck and its shuffle, which is drawn here and not before."""
        n = self.lanes[lane].edges[index + 1] - self.lanes[lane].edges[index]
        if self.shuffle:
            positions = generator(self.seed, Draw.DECK, self.epoch, lane, index).permutation(n)
        else:
            positions = np.arange(n)
        return Deck(lane, index, self.lanes[lane].parts(index), positions)

    def pieces(self, step: int, lane: int) -> list[Piece]:
        """Return what a step takes from a lane: ``share`` samples, the filling ones last."""
        dealt = self.lanes[lane]
        start, stop = step * self.share, (step + 1) * self.share
        found = dealt.pieces(start, min(stop, dealt.n_samples))
        missing = stop - max(start, dealt.n_samples)
        weight = 0.0 if self.remainder == "pad" else 1.0
        while missing > 0:
            filling = min(missing, dealt.n_samples - dealt.tail)
            found += dealt.pieces(dealt.tail, dealt.tail + filling, weight)
            missing -= filling
        return found

    def needed(self, lane: int, deck: int, steps: range) -> NDArray[np.bool_]:
        """Return which places of a deck any of ``steps`` takes: those already consumed need no memory."""
        edges = self.lanes[lane].edges
        places = np.arange(edges[deck], edges[deck + 1])
        step = places // self.share
        wanted = (step >= steps.start) & (step < self.n_steps) & ((step - steps.start) % steps.step == 0)
        if self.n_steps - 1 in steps:
            wanted |= places >= self.lanes[lane].tail
        return wanted

    def schedule(self, lanes: Iterable[int], steps: range) -> list[tuple[int, int]]:
        """Return the decks that ``steps`` need, as ``(lane, deck)`` in the order in which they are needed."""
        needs = [need for lane in lanes for need in self._needs(lane, steps)]
        return [(lane, deck) for _, lane, deck in sorted(needs)]

    def _needs(self, lane: int, steps: range) -> list[tuple[int, int, int]]:
        if not steps:
            return []
        edges = np.asarray(self.lanes[lane].edges)
        last = np.minimum((edges[1:] - 1) // self.share, steps[-1])
        skipped = np.maximum(edges[:-1] // self.share - steps.start, 0)
        first = steps.start + -(-skipped // steps.step) * steps.step
        if self.n_steps - 1 in steps:  # what fills the last step stays needed until then
            last[edges[1:] > self.lanes[lane].tail] = self.n_steps - 1
        return [(int(first[deck]), lane, int(deck)) for deck in np.flatnonzero(first <= last)]


def plan_epoch(
    counts: Integers,
    *,
    global_batch: int,
    deck: int,
    lanes: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    remainder: Remainder = "pad",
    shuffle: bool = True,
) -> EpochPlan:
    """Deal the samples of an epoch.

    Parameters
    ----------
    counts : (n_cells,) int64
        Samples that the epoch takes from each cell.
    global_batch
        Samples of one step, over all ranks.
    deck
        Samples of a deck, to within one cell; from the memory budget.
    lanes
        Independent sequences, a divisor of ``global_batch``. The default, :func:`lanes_for`, serves 1, 2, 4 and 8
        ranks at the usual batch sizes.
    seed, epoch, remainder, shuffle
        As in :class:`EpochPlan`.

    Raises
    ------
    UsageError
        Fewer samples than lanes, no step at all, or lanes that do not divide the batch.
    """
    lanes = lanes_for(global_batch) if lanes is None else lanes
    check_lanes(lanes, global_batch)
    order = np.flatnonzero(counts)
    if shuffle:
        order = generator(seed, Draw.CELLS, epoch).permutation(order)
    n_samples = int(counts.sum())
    check_samples(n_samples, lanes)
    n_steps = count_steps(n_samples, global_batch, remainder)
    share = global_batch // lanes
    ends = np.cumsum(counts[order])
    cuts = [n_samples * lane // lanes for lane in range(lanes + 1)]
    dealt = []
    for lane, (start, stop) in enumerate(pairwise(cuts)):
        n = stop - start
        tail = n - min(share, n) if n_steps * share > n else n
        dealt.append(_cut_lane(order, ends, start, stop, deck=deck, stagger=deck * lane // lanes, tail=tail))
    return EpochPlan(seed, epoch, shuffle, remainder, n_samples, n_steps, share, tuple(dealt))


def _cut_lane(
    order: Integers, ends: Integers, start: int, stop: int, *, deck: int, stagger: int, tail: int
) -> Lane:
    """Cut samples ``start`` to ``stop`` of the epoch into decks.

    The decks end near fixed places, ``deck`` apart, and each lane's places are shifted against the others' by
    ``stagger``: the lanes then run out one after the other, so that on average they are half full, and reading goes
    on evenly.
    """
    cells = slice(np.searchsorted(ends, start, side="right"), np.searchsorted(ends, stop, side="left") + 1)
    chosen = order[cells]
    begins = np.concatenate([[0], ends])[cells]
    starts = np.maximum(start - begins, 0)
    stops = np.minimum(ends[cells], stop) - begins
    places = np.maximum(begins - start, 0)
    names = (places + stagger) // deck
    first = np.flatnonzero(np.diff(names, prepend=-1))
    edges = [*places[first].tolist(), stop - start]
    return Lane(chosen, starts, stops, [*first.tolist(), len(chosen)], edges, tail)


def check_lanes(lanes: int, global_batch: int, world_size: int = 1) -> None:
    """Refuse lanes that cannot be dealt evenly.

    Raises
    ------
    UsageError
        The lanes do not divide the global batch, or the ranks do not divide the lanes.
    """
    if lanes < 1 or global_batch % lanes:
        raise UsageError(
            f"lanes={lanes} does not divide the global batch of {global_batch}: choose a divisor of it"
        )
    if lanes % world_size:
        raise UsageError(
            f"{world_size} ranks cannot share {lanes} lanes evenly: pass lanes= with a number that {world_size} "
            f"divides and that divides the global batch of {global_batch}"
        )


def check_samples(n_samples: int, lanes: int) -> None:
    """Refuse fewer samples than lanes: a lane without any has nothing to fill its last step with.

    Raises
    ------
    UsageError
        There are fewer.
    """
    if n_samples < lanes:
        raise UsageError(
            f"{n_samples} samples cannot be dealt by {lanes} lanes, of which each needs one: choose more slides, or "
            f"fewer lanes with lanes="
        )
