"""How a memory budget is spent: on decks of spectra or a cache of cells, on reading ahead, threads and batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msicube.bytesize import format_bytes
from msicube.errors import MemoryLimitError

MIB = 2**20
#: Beside the first reading thread, all but this part of a budget holds samples; it is for batches and further threads.
#: Fixed, so that the size of a deck, and with it the order, does not depend on the number of threads.
PART = 8
#: Bytes of one sample beside its values: where it is from, and its places in the deck and in memory.
ROW_OVERHEAD = 3 * 8 + 2 * 8
#: One batch with the training loop, one ready, one being put together.
BATCHES_HELD = 3
LEAST_CELLS_AHEAD = 2
READ_AHEAD_SHARE = 16
MAX_BATCHES_AHEAD = 8


@dataclass(frozen=True)
class Demand:
    """What the memory is for.

    Attributes
    ----------
    n_samples, largest_cell
        Samples of the epoch, and the most that one cell gives.
    n_channels
        Values of a sample, 4 bytes each.
    thread_bytes
        Memory of one reading thread.
    batch, lanes
        Samples of a step, and the lanes that deal them.
    """

    n_samples: int
    largest_cell: int
    n_channels: int
    thread_bytes: int
    batch: int
    lanes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample in memory."""
        return 4 * self.n_channels + ROW_OVERHEAD

    @property
    def batch_bytes(self) -> int:
        """Bytes of the batches that are held at a time."""
        return BATCHES_HELD * self.batch * self.row_bytes

    def of_rank(self, world_size: int) -> Demand:
        """Return one rank's share."""
        lanes = self.lanes // world_size
        n_samples = min(self.n_samples, -(-self.n_samples // self.lanes) * lanes)
        return replace(self, n_samples=n_samples, batch=self.batch // world_size, lanes=lanes)

    def base_rows(self) -> int:
        """Return the samples held beside full decks: a deck ends with a whole cell, a step is given back late."""
        return self.lanes * (self.largest_cell + 1) + 2 * self.batch

    def rows(self, deck: int, ahead: int | None = None) -> int:
        """Return the most samples held at a time, which is all of them at the most.

        The lanes' decks end at places ``deck / lanes`` apart, so when one deck is full the next is short of it by
        that much, and so on: ``deck * (lanes + 1) / 2`` together.
        """
        ahead = LEAST_CELLS_AHEAD * self.largest_cell if ahead is None else ahead
        return min(self.n_samples, self.base_rows() + ahead - (-deck * (self.lanes + 1) // 2))


@dataclass(frozen=True)
class Budget:
    """How the memory of one rank is spent.

    Attributes
    ----------
    deck
        Samples of a deck, to within a cell; the same on all ranks.
    rows
        Samples held at a time on this rank, at the most.
    read_ahead
        How many of these are there only to be early.
    threads
        Reading threads.
    n_bytes
        Estimate of all that the stream holds.
    """

    deck: int
    rows: int
    read_ahead: int
    threads: int
    n_bytes: int


def spend(
    memory: int, demand: Demand, *, threads: int, world_size: int = 1, deck: int | None = None
) -> Budget:
    """Choose the decks that fit into a budget.

    Parameters
    ----------
    memory
        Bytes, of each process.
    demand
        Of all ranks together.
    threads
        The most to use; fewer are where memory is short.
    world_size
        Number of ranks.
    deck
        Samples of a deck where the order is given, as by a loaded state.

    Raises
    ------
    MemoryLimitError
        It does not fit; the message has what is needed and what was given.
    """
    free = max(0, memory - demand.thread_bytes)
    room = (free - free // PART) // demand.row_bytes
    base = demand.base_rows()
    ahead = max(LEAST_CELLS_AHEAD * demand.largest_cell, (room - base) // READ_AHEAD_SHARE)
    own = demand.of_rank(world_size)
    if deck is not None:
        least = own.rows(deck)
    elif room >= demand.n_samples:
        deck, least = demand.n_samples, own.n_samples
    else:
        # Chosen for all lanes together, whatever part of them this rank has, so that the order is the same.
        deck = max(1, 2 * (room - base - ahead) // (demand.lanes + 1))
        least = demand.rows(deck)
    _check(memory, own, least, room)
    rows = max(own.rows(deck), min(own.rows(deck, ahead), room))
    threads = min(threads, 1 + (free // PART - own.batch_bytes) // own.thread_bytes)
    n_bytes = rows * own.row_bytes + threads * own.thread_bytes + own.batch_bytes
    return Budget(deck, rows, ahead, threads, n_bytes)


def _check(memory: int, demand: Demand, rows: int, room: int) -> None:
    for_rows = -(-rows * demand.row_bytes * PART // (PART - 1)) + PART
    for_batches = PART * demand.batch_bytes
    if rows > room or demand.thread_bytes + for_batches > memory:
        needed = -(-(demand.thread_bytes + max(for_rows, for_batches)) // MIB)
        raise MemoryLimitError(
            f'memory="{format_bytes(memory)}" is too little to shuffle {rows} spectra of '
            f"{format_bytes(demand.row_bytes)} at a time, with a reading thread of {format_bytes(demand.thread_bytes)} "
            f'and batches of {format_bytes(demand.batch_bytes)}: raise it to "{needed} MiB", take smaller batches, or '
            f"fewer lanes with lanes="
        )


@dataclass(frozen=True)
class PatchBudget:
    """How the memory of a stream of patches is spent.

    Attributes
    ----------
    ahead
        Batches that are assembled before they are asked for; two more are in memory while one is handed over.
    cache
        Bytes of cells that are kept.
    threads
        Reading threads.
    n_bytes
        Estimate of all that the stream holds.
    """

    ahead: int
    cache: int
    threads: int
    n_bytes: int


def spend_on_patches(
    memory: int, *, batch_bytes: int, thread_bytes: int, all_cells: int, threads: int
) -> PatchBudget:
    """Divide a budget among batches, threads and a cache of cells.

    Parameters
    ----------
    memory
        Bytes of each process.
    batch_bytes, thread_bytes
        Of one batch, of one reading thread.
    all_cells
        Bytes of all cells together: more cache is of no use.
    threads
        The most to use.

    Raises
    ------
    MemoryLimitError
        Two batches and one thread do not fit; the message has what is needed and what was given.
    """
    needed = 2 * batch_bytes + thread_bytes
    if needed > memory:
        raise MemoryLimitError(
            f'memory="{format_bytes(memory)}" does not hold two batches of {format_bytes(batch_bytes)} and one reading '
            f'thread with {format_bytes(thread_bytes)}: raise it to "{-(-needed // MIB)} MiB" or take smaller batches'
        )
    threads = max(1, min(threads, (memory - 2 * batch_bytes) // thread_bytes))
    spare = memory - 2 * batch_bytes - threads * thread_bytes
    # One batch early is worth more than any cache, further ones share what is left with it.
    ahead = min(MAX_BATCHES_AHEAD, max(spare // 2 // batch_bytes, min(1, spare // batch_bytes)))
    cache = min(spare - ahead * batch_bytes, all_cells)
    return PatchBudget(ahead, cache, threads, (2 + ahead) * batch_bytes + threads * thread_bytes + cache)
