"""From an epoch's plan to batches of spectra: decks are read ahead into one arena, batches are cut from it.

The arena is one array of samples. A cell's spectra take any free rows of it, a batch is gathered from the rows that
the shuffle names, and the rows are free again. So a deck that is half dealt takes half its memory, and the rest
already holds what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from msicube.stream.cells import CellReader
from msicube.stream.crew import Ahead, Crew, Ticket
from msicube.stream.order import Draw, Integers, generator
from msicube.stream.plan import EpochPlan, Part, Piece
from msicube.stream.sampling import Draws, draw_pixels
from msicube.stream.selection import Cell

T = TypeVar("T")


class SpectrumBatch(NamedTuple):
    """One step's samples on this rank.

    Attributes
    ----------
    spectra : (n, n_channels) float32
    places : (n, 3) int64
        Slide, y and x of each.
    weight : (n,) float32
        0 for samples that only fill the last step, and for those that could not be read.
    """

    spectra: NDArray[np.float32]
    places: Integers
    weight: NDArray[np.float32]


class Arena:
    """Rows of memory for samples, taken and given back in any order; not thread-safe but for filling taken rows."""

    def __init__(self, rows: int, channels: int) -> None:
        self.spectra = np.empty((rows, channels), np.float32)
        self.places = np.empty((rows, 3), np.int64)
        self.weight = np.ones(rows, np.float32)
        self._free = np.arange(rows)
        self.n_free = rows

    def take(self, n: int) -> Integers | None:
        """Return ``n`` free rows, or None when there are not so many."""
        if n > self.n_free:
            return None
        self.n_free -= n
        return self._free[self.n_free : self.n_free + n].copy()

    def give(self, rows: Integers) -> None:
        """Take rows back."""
        self._free[self.n_free : self.n_free + len(rows)] = rows
        self.n_free += len(rows)


class DeckTicket(Ticket):
    """A deck on its way into memory; ``rows[i]`` is where the sample in place ``i`` is."""

    def __init__(self, jobs: int, n_samples: int) -> None:
        super().__init__(jobs)
        self.rows = np.full(n_samples, -1, np.int64)


@dataclass(eq=False)
class CellJob:
    """Read the samples of one cell that a deck still needs."""

    ticket: DeckTicket
    part: Part
    samples: Integers
    places: Integers
    rows: Integers = field(default_factory=lambda: np.empty(0, np.int64))


class DeckReader:
    """Reads decks and cuts batches from them.

    Parameters
    ----------
    plan
        The epoch; its cells are the entries of ``draws``.
    draws
        What the epoch takes from the cells.
    reader
        Reads the cells.
    lanes, steps
        What this process yields.
    rows
        Samples in memory at a time.
    """

    def __init__(
        self,
        plan: EpochPlan,
        draws: Draws,
        reader: CellReader,
        *,
        lanes: Sequence[int],
        steps: range,
        rows: int,
    ) -> None:
        self.plan, self.draws, self.lanes, self.steps = plan, draws, lanes, steps
        self.reader = reader
        self.arena = Arena(rows, reader.selection.n_channels)
        self._tickets: dict[tuple[int, int], DeckTicket] = {}
        self._oldest = dict.fromkeys(lanes, 0)
        self._spent: list[Integers] = []

    def jobs(self) -> Iterator[CellJob]:
        """Yield what is to be read, in the order of need."""
        for lane, index in self.plan.schedule(self.lanes, self.steps):
            deck = self.plan.deck(lane, index)
            needed = self.plan.needed(lane, index, self.steps)
            ticket = self._ticket(lane, index)
            for part in deck.parts:
                places = deck.positions[part.offset : part.offset + part.stop - part.start]
                samples = np.flatnonzero(needed[places])
                yield CellJob(ticket, part, samples, places[samples])

    def admit(self, job: CellJob) -> bool:
        """Take the rows that a job needs, if there are so many."""
        rows = self.arena.take(len(job.samples))
        if rows is None:
            return False
        job.rows = rows
        return True

    def read(self, job: CellJob) -> None:
        """Read a cell into its rows."""
        if not len(job.samples):
            return
        cell = self.reader.selection.cell(int(self.draws.cells[job.part.cell]))
        samples = self._drawn(job.part, cell)[job.samples]
        self.arena.weight[job.rows] = self.reader.read(cell, samples, self.arena.spectra, job.rows)
        self.arena.places[job.rows] = self.reader.places(cell, samples)
        job.ticket.rows[job.places] = job.rows

    def batch(self, step: int, crew: Crew[CellJob]) -> SpectrumBatch:
        """Return one step's samples, lane after lane, and free their rows."""
        n = len(self.lanes) * self.plan.share
        batch = SpectrumBatch(
            np.empty((n, self.arena.spectra.shape[1]), np.float32),
            np.empty((n, 3), np.int64),
            np.empty(n, np.float32),
        )
        filling = np.ones(n, np.float32)
        found: list[Integers] = []
        start = gathered = 0
        for lane in self.lanes:
            for piece in self.plan.pieces(step, lane):
                ticket = self._tickets.get((lane, piece.deck)) or self._ticket(lane, piece.deck)
                if ticket.pending:
                    # What was found must be free before the wait: the reading threads may need just this memory.
                    gathered = self._gather(batch, gathered, found)
                    self._release(crew)
                    crew.wait(ticket)
                found.append(ticket.rows[piece.start : piece.stop])
                start += piece.stop - piece.start
                if piece.weight != 1:
                    filling[start - piece.stop + piece.start : start] = piece.weight
                self._spend(lane, piece, found[-1])
            self._forget(lane, step)
        self._gather(batch, gathered, found)
        self._release(crew)
        np.multiply(batch.weight, filling, out=batch.weight)
        return batch

    def _gather(self, batch: SpectrumBatch, start: int, found: list[Integers]) -> int:
        """Copy the rows that were found into the batch, from ``start`` on; return where they end."""
        if not found:
            return start
        rows = np.concatenate(found)
        found.clear()
        stop = start + len(rows)
        # Any mode but "raise" writes straight into `out`.
        np.take(self.arena.spectra, rows, axis=0, out=batch.spectra[start:stop], mode="clip")
        np.take(self.arena.places, rows, axis=0, out=batch.places[start:stop], mode="clip")
        np.take(self.arena.weight, rows, axis=0, out=batch.weight[start:stop], mode="clip")
        return stop

    def _ticket(self, lane: int, index: int) -> DeckTicket:
        # Asked for by the reading threads and by the consumer, whoever comes first.
        dealt = self.plan.lanes[lane]
        n_samples = dealt.edges[index + 1] - dealt.edges[index]
        n_parts = dealt.first[index + 1] - dealt.first[index]
        return self._tickets.setdefault((lane, index), DeckTicket(n_parts, n_samples))

    def _drawn(self, part: Part, cell: Cell) -> Integers:
        """Return which of a cell's pixels the samples of a part are."""
        n_pixels, weights = len(cell.pixels), self.reader.selection.weights_of(cell)
        if weights is None and part.start == 0 and part.stop == n_pixels:
            return np.arange(n_pixels)
        turn = int(self.draws.rounds[part.cell])
        rng = generator(self.plan.seed, Draw.PIXELS, self.plan.epoch, cell.number, turn)
        n_samples = int(self.draws.counts[part.cell])
        return np.sort(draw_pixels(rng, n_pixels, n_samples, weights)[part.start : part.stop])

    def _spend(self, lane: int, piece: Piece, rows: Integers) -> None:
        """Note rows as free, but for those that will fill the lane's last step."""
        kept = self.plan.lanes[lane].tail - self.plan.lanes[lane].edges[piece.deck]
        self._spent.append(rows[: max(0, kept - piece.start)])

    def _forget(self, lane: int, step: int) -> None:
        """Drop the decks that no later step takes from."""
        edges, tail = self.plan.lanes[lane].edges, self.plan.lanes[lane].tail
        dealt = min((step + 1) * self.plan.share, tail)
        while edges[self._oldest[lane] + 1] <= dealt < edges[-1]:
            self._tickets.pop((lane, self._oldest[lane]), None)
            self._oldest[lane] += 1

    def _release(self, crew: Crew[CellJob]) -> None:
        spent, self._spent = self._spent, []
        if spent:
            crew.release(lambda: self.arena.give(np.concatenate(spent)))


def read_batches(decks: DeckReader, *, threads: int, finish: Callable[[SpectrumBatch], T]) -> Generator[T]:
    """Yield the batches of a reader's steps.

    Parameters
    ----------
    decks
        What to read; used once.
    finish
        Makes of a batch what is yielded, ahead of the training loop.
    threads
        Reading threads. One more puts the batches together, so that a training loop is handed one that is ready. All
        are gone when the iteration is over, is closed, or fails.

    Raises
    ------
    StoreError
        A cell cannot be read; the message names slide and window.
    """
    crew: Crew[Any] = Crew(decks.jobs(), admit=decks.admit, work=decks.read, threads=threads)
    ahead = Ahead((finish(decks.batch(step, crew)) for step in decks.steps), depth=1, stop=crew.close)
    try:
        yield from ahead
    finally:
        ahead.close()
