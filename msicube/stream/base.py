"""What both streams have in common: epochs, steps, ranks, workers, and a state to go on from."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from msicube.bytesize import format_bytes
from msicube.errors import UsageError
from msicube.stream.cells import CellReader
from msicube.stream.lookup import select
from msicube.stream.options import Settings, Source
from msicube.stream.order import ORDER_VERSION, count_steps

if TYPE_CHECKING:
    from msicube.store import Study

Batch = dict[str, torch.Tensor]

_EPOCH, _START, _IN_WORKERS = range(3)


class Stream(IterableDataset[Batch]):
    """A dataset of whole batches, for plain iteration or ``DataLoader(stream, batch_size=None)``.

    Iterating yields the batches of the current epoch, from the beginning or, once, from where a loaded state stopped.

    Attributes
    ----------
    slides, classes : tuple of str
        What the numbers in ``batch["slide"]`` and ``batch["label"]`` stand for.
    n_channels : int
        Values of a spectrum, after the pipeline.
    """

    #: What a stream takes over from a loaded state; everything else must be equal.
    _adopted: frozenset[str] = frozenset()

    def __init__(self, study: Study, source: Source, chosen: Settings) -> None:
        self.settings = chosen
        self._selection = select(study, source)
        self.slides, self.classes = self._selection.slides, self._selection.classes
        self.n_channels = self._selection.n_channels
        # Shared with DataLoader workers, so that persistent ones see the epoch that the main process sets.
        self._shared = torch.zeros(3, dtype=torch.int64)
        self._step = 0
        # Of a DataLoader worker alone: where a state that StatefulDataLoader kept for it stopped.
        self._resume: int | None = None
        self._home = os.getpid()

    @cached_property
    def _cells(self) -> CellReader:
        return CellReader(self._selection, on_error=self.settings.on_error)

    @property
    def skipped(self) -> dict[str, int]:
        """Samples that could not be read so far, by the name of the cell that held them (``on_error="skip"``)."""
        return dict(self._cells.skipped)

    @abstractmethod
    def _count_samples(self, epoch: int) -> int:
        """Return the samples of an epoch."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what an epoch is made of and what it takes."""

    @abstractmethod
    def _batches(self, epoch: int, steps: range) -> Generator[Batch]:
        """Yield the batches of some steps of an epoch."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Return what else decides the order, beside what is in the settings."""

    def _adopt(self, state: Mapping[str, Any]) -> None:
        """Take over from a state what the order depends on but the user did not choose."""

    @property
    def n_samples(self) -> int:
        """Samples of the current epoch, over all ranks."""
        return self._count_samples(self.epoch)

    @property
    def n_steps(self) -> int:
        """Steps of the current epoch, the same on every rank."""
        return self._count_steps(self.epoch)

    def _count_steps(self, epoch: int) -> int:
        return count_steps(self._count_samples(epoch), self.settings.global_batch, self.settings.remainder)

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
        """Return the number of steps in the whole current epoch, the same on every rank."""
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
        first = start + worker.id if self._resume is None else self._resume
        self._resume = None
        return self._follow(self.epoch, range(first, self.n_steps, worker.num_workers))

    def _follow(self, epoch: int, steps: range) -> Iterator[Batch]:
        self._step = steps.start  # now and not with the first batch: a state may be asked for before it
        return self._yield(epoch, steps)

    def _yield(self, epoch: int, steps: range) -> Generator[Batch]:
        with closing(self._batches(epoch, steps)) as batches:
            for step, batch in zip(steps, batches, strict=False):
                self._step = step + steps.step
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
        worker = get_worker_info()
        if worker is not None:  # StatefulDataLoader asks in the worker, which knows what it has given away
            place = {"worker": worker.id, "workers": worker.num_workers}
            return {**self._order(), "epoch": self.epoch, "step": self._step, **place}
        if step is None and self._shared[_IN_WORKERS]:
            raise UsageError(
                "DataLoader workers are reading this stream, and only the training loop knows how many batches it "
                "took: pass state_dict(step=...), take the state of a StatefulDataLoader, or use num_workers=0"
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
        workers = int(state.get("workers", 1))
        if epoch < 0 or not 0 <= step < self._count_steps(epoch) + workers:
            raise UsageError(
                f"the state is at step {step} of epoch {epoch}, which has "
                f"{self._count_steps(max(0, epoch))} steps: it is damaged, start anew without it"
            )
        self._adopt(state)
        if "workers" in state:
            self._resume_worker(state, epoch, step)
        else:
            self._go_to(epoch, step)

    def _resume_worker(self, state: Mapping[str, Any], epoch: int, step: int) -> None:
        """Go on in a worker of a StatefulDataLoader; the place of the others is not its to set."""
        worker = get_worker_info()
        if worker is None or (worker.id, worker.num_workers) != (state["worker"], state["workers"]):
            raise UsageError(
                f"the state is that of DataLoader worker {state['worker']} of {state['workers']}: load it through a "
                f"StatefulDataLoader of {state['workers']} workers, or save stream.state_dict(step=...), which goes "
                f"on with any number"
            )
        self._shared[_EPOCH] = epoch
        self._resume = self._step = step

    def _go_to(self, epoch: int, step: int) -> None:
        self._shared[_EPOCH], self._shared[_START], self._shared[_IN_WORKERS] = epoch, step, 0
        self._step = step

    def _order(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "version": ORDER_VERSION,
            "dataset": self._selection.digest,
            **self.settings.order(),
            **self._identity(),
        }

    def __repr__(self) -> str:
        about = self.describe()
        mixing = f", mixing {about['mixing']:.2f}" if "mixing" in about else ""
        return (
            f"<msicube.{type(self).__name__}: {about['samples']} samples of {self.n_channels} channels in "
            f"{about['steps']} steps of {about['batch_size']}, {format_bytes(about['bytes'])} of "
            f"{format_bytes(about['memory'])}{mixing}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cells"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._home = os.getpid()
