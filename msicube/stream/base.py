"""What both streams have in common: epochs, steps, ranks, workers, and a state to go on from."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from msicube.bytesize import parse_bytes
from msicube.errors import UsageError
from msicube.scheduling import default_workers
from msicube.stream.order import ORDER_VERSION, Remainder, check_remainder, count_steps

Batch = dict[str, torch.Tensor]

_EPOCH, _START, _IN_WORKERS = range(3)


@dataclass(frozen=True)
class Settings:
    """How a stream is dealt, whatever it holds.

    Attributes
    ----------
    batch_size
        Samples of a step on this rank.
    seed, shuffle, remainder
        Of the order.
    memory
        Budget of each process, in bytes.
    threads
        Reading threads, at the most.
    rank, world_size
        Which of how many processes train together.
    """

    batch_size: int
    seed: int
    shuffle: bool
    remainder: Remainder
    memory: int
    threads: int
    rank: int
    world_size: int

    @property
    def global_batch(self) -> int:
        """Samples of a step over all ranks."""
        return self.batch_size * self.world_size


def settings(
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    remainder: Remainder,
    memory: str | int,
    threads: int | None,
    rank: int | None,
    world_size: int | None,
) -> Settings:
    """Check the arguments that both streams take, and fill in what was left to msicube.

    Raises
    ------
    UsageError
        A number out of its range.
    """
    check_remainder(remainder)
    rank, world_size = _place(rank, world_size)
    threads = default_workers() if threads is None else threads
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("threads", threads, 1)):
        if value < least:
            raise UsageError(f"{name}={value}: it must be at least {least}")
    return Settings(batch_size, seed, shuffle, remainder, parse_bytes(memory), threads, rank, world_size)


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise UsageError(f"rank={rank} and world_size={world_size}: give both or neither")
    if rank is None or world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
    if not 0 <= rank < world_size:
        raise UsageError(f"rank={rank} of world_size={world_size}: ranks count from 0 to world_size - 1")
    return rank, world_size


class Stream(IterableDataset[Batch]):
    """A dataset of whole batches, for plain iteration or ``DataLoader(stream, batch_size=None)``.

    Iterating yields the batches of the current epoch, from the beginning or, once, from where a loaded state stopped.

    Attributes
    ----------
    n_samples
        Samples of an epoch, over all ranks.
    n_steps
        Steps of an epoch, the same on every rank.
    """

    n_samples: int
    n_steps: int
    #: What a stream takes over from a loaded state; everything else must be equal.
    _adopted: frozenset[str] = frozenset()

    def __init__(self, chosen: Settings) -> None:
        self.settings = chosen
        # Shared with DataLoader workers, so that persistent ones see the epoch that the main process sets.
        self._shared = torch.zeros(3, dtype=torch.int64)
        self._step = 0
        self._home = os.getpid()

    @abstractmethod
    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        """Yield the batches of some steps of an epoch."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Return what else decides the order, beside what is in the settings."""

    def _adopt(self, state: Mapping[str, Any]) -> None:
        """Take over from a state what the order depends on but the user did not choose."""

    def _count_steps(self) -> int:
        return count_steps(self.n_samples, self.settings.global_batch, self.settings.remainder)

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._shared[_EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration yields.

        Call it before each epoch: without it every epoch has the order of the last one. It also reaches persistent
        DataLoader workers. Setting the epoch of a loaded state keeps the place in it.

        Raises
        ------
        UsageError
            A negative number.
        """
        if epoch < 0:
            raise UsageError(f"epoch={epoch}: epochs count from 0")
        if epoch != self.epoch:
            self._go_to(epoch, 0)

    def __len__(self) -> int:
        """Return the number of steps in a whole epoch, the same on every rank."""
        return self.n_steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches."""
        if os.getpid() != self._home:
            raise UsageError(
                "this stream came here by fork, which its threads do not survive: use num_workers=0 (reading runs in "
                "threads anyway), or DataLoader(..., multiprocessing_context='spawn')"
            )
        worker, start = get_worker_info(), int(self._shared[_START])
        self._shared[_IN_WORKERS] = worker is not None
        if worker is None:
            self._shared[_START] = 0
            return self._follow(self.epoch, range(start, self.n_steps))
        return self._follow(self.epoch, range(start + worker.id, self.n_steps, worker.num_workers))

    def _follow(self, epoch: int, steps: range) -> Iterator[Batch]:
        self._step = steps.start
        with closing(self._batches(epoch, steps)) as batches:
            for step, batch in zip(steps, batches, strict=False):
                self._step = step + 1
                yield batch

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Return where the stream is: after the batches yielded so far, whatever was read ahead.

        Parameters
        ----------
        step
            Number of batches of this epoch that were taken. Needed where DataLoader workers iterate, because they
            are ahead of the training loop and the main process does not see them.

        Raises
        ------
        UsageError
            ``step`` is needed and missing.
        """
        if step is None and self._shared[_IN_WORKERS]:
            raise UsageError(
                "DataLoader workers are reading this stream, and only the training loop knows how many batches it "
                "took: pass state_dict(step=...), or use num_workers=0"
            )
        return {**self._order(), "epoch": self.epoch, "step": self._step if step is None else step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, on any number of ranks and workers.

        The next iteration starts with the first batch that was not yielded then; what came before is not read. Further
        iterations are whole again; under DataLoader workers, which cannot tell the main process that they have begun,
        only from the next :meth:`set_epoch` on.

        Raises
        ------
        UsageError
            The state is of another dataset, seed, version, batch size or other setting that decides the order.
        MemoryLimitError
            The order was made with more memory than this stream has.
        """
        for name, ours in self._order().items():
            theirs = state.get(name)
            if theirs != ours and not (name in self._adopted and name in state):
                raise UsageError(
                    f"the state was made with {name}={theirs!r}, this stream has {name}={ours!r}: make the stream as "
                    f"it was made then, or start anew without the state"
                )
        epoch, step = int(state.get("epoch", -1)), int(state.get("step", -1))
        if epoch < 0 or not 0 <= step <= self.n_steps:
            raise UsageError(
                f"the state is at step {step} of epoch {epoch}, an epoch has {self.n_steps} steps: it is damaged, "
                f"start anew without it"
            )
        self._adopt(state)
        self._go_to(epoch, step)

    def _go_to(self, epoch: int, step: int) -> None:
        self._shared[_EPOCH], self._shared[_START], self._shared[_IN_WORKERS] = epoch, step, 0
        self._step = step

    def _order(self) -> dict[str, Any]:
        chosen = self.settings
        return {
            "kind": type(self).__name__,
            "version": ORDER_VERSION,
            "seed": chosen.seed,
            "shuffle": chosen.shuffle,
            "remainder": chosen.remainder,
            "global_batch": chosen.global_batch,
            **self._identity(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._home = os.getpid()
