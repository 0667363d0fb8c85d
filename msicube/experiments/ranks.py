"""The processes that train one network together, as ``torchrun`` starts them, and what they tell one another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from msicube.errors import MSICubeError, RecipeError

Value = TypeVar("Value")

#: A rank waits as long as the first one fits a pipeline or scores; that a rank has died is noticed by torchrun.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """One of the processes of a training; without ``torchrun`` there is one.

    Attributes
    ----------
    rank
        Of this process. The first one, 0, fits the pipeline, scores, and writes the run's folder.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the first one."""
        return self.rank == 0

    def batch_size(self, of_all: int) -> int:
        """Return this rank's part of a batch.

        Raises
        ------
        RecipeError
            The batch cannot be divided evenly.
        """
        if of_all % self.size:
            raise RecipeError(
                f"[train] batch_size = {of_all} is that of all processes together, and {self.size} cannot share it "
                f"evenly: take a multiple of {self.size}"
            )
        return of_all // self.size

    def total(self, values: Sequence[float]) -> list[float]:
        """Return sums over all ranks."""
        if self.size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor([float(value) for value in values], dtype=torch.float64)
        distributed.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Value) -> list[Value]:
        """Return what each rank has, in order."""
        found: list[Any] = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(found, value)
        return found

    def first(self, make: Callable[[], Value]) -> Value:
        """Let the first rank do something, and return on every rank what came of it.

        Raises
        ------
        MSICubeError
            It failed; on the first rank, and where it was one of our errors on all of them, as it did there.
        """
        if self.size == 1:
            return make()
        if not self.leads:
            with _default_signals():
                return self._told()
        try:
            value = make()
        except BaseException as error:
            with suppress(RuntimeError):  # the others may be gone by now
                self._tell(error if isinstance(error, MSICubeError | KeyboardInterrupt) else _failed(), None)
            raise
        self._tell(None, value)
        return value

    def _tell(self, error: BaseException | None, value: Any) -> None:
        distributed.broadcast_object_list([error, value], src=0)

    def _told(self) -> Any:
        found: list[Any] = [None, None]
        distributed.broadcast_object_list(found, src=0)
        if found[0] is not None:
            raise found[0]
        return found[1]

    def together(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return a network whose gradients are the means over all ranks; alone, the network itself."""
        if self.size == 1:
            return model
        devices = [device] if device.type == "cuda" else None
        if devices:
            synchronise_statistics(model)
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes, where ``torchrun`` or the caller has started some.

    Parameters
    ----------
    device
        Of this process: gradients go by NCCL between GPUs and by Gloo between CPUs.
    """
    if distributed.is_available() and distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    yield Ranks(distributed.get_rank(), distributed.get_world_size())
    distributed.destroy_process_group()  # not after an error: it would wait for ranks that have failed


@contextmanager
def failures_of_others(ranks: Ranks) -> Iterator[None]:
    """Say in our words that another rank has gone, which a backend reports as one of its own errors.

    Raises
    ------
    MSICubeError
        It has.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if ranks.size == 1 or not any(word in text for word in ("gloo", "NCCL", "Connection closed by peer")):
            raise
        raise MSICubeError(
            f"process {ranks.rank} of {ranks.size} lost the others: one of them has failed or was stopped, see its "
            f"message; --resume goes on from the last checkpoint"
        ) from error


def synchronise_statistics(model: nn.Module) -> nn.Module:
    """Let batch normalisation that is trained see the batches of all GPUs together; frozen statistics stay as they are.

    There is no such thing for CPUs, where each rank normalises its own part of a batch.
    """
    for name, child in model.named_children():
        norm = isinstance(child, nn.modules.batchnorm._BatchNorm)
        if norm and all(parameter.requires_grad for parameter in child.parameters()):
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        elif not norm:
            synchronise_statistics(child)
    return model


def _failed() -> MSICubeError:
    return MSICubeError("the first process has failed: see its message")


@contextmanager
def _default_signals() -> Iterator[None]:
    """Let signals end this process at once while it waits in the backend, where Python cannot handle them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
