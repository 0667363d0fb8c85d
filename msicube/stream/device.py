"""Batches on a GPU before the step asks for them: copied through pinned, reused memory, and transformed there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from msicube.errors import UsageError
from msicube.stream.base import Batch, Stream

#: What of a batch a transform is applied to, whichever it has.
KEYS = ("spectra", "patches")


def on_device(
    stream: Stream,
    device: str | torch.device,
    *,
    transform: Callable[[Tensor], Tensor] | None = None,
    ahead: int = 2,
) -> DeviceStream:
    """Return a stream whose batches are on a device.

    Parameters
    ----------
    stream
        Of spectra or patches.
    device
        ``"cuda"``, ``"cuda:1"`` or ``"cpu"``; on a CPU nothing is pinned or copied, and all else is the same.
    transform
        Applied to the spectra or patches on the device, such as ``pipeline.to_torch()``. A module is moved there.
    ahead
        Batches that are on their way while one is used.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    return DeviceStream(stream, device, transform=transform, ahead=ahead)


class DeviceStream:
    """Batches of a stream, on a device; made by :func:`on_device`.

    Iterating starts where the stream is. The copy and the transform run on a CUDA stream of their own, so they overlap
    with the training step; a batch is handed over when the step's CUDA stream waits for its copy.
    """

    def __init__(
        self,
        stream: Stream,
        device: str | torch.device,
        *,
        transform: Callable[[Tensor], Tensor] | None,
        ahead: int,
    ) -> None:
        if ahead < 1:
            raise UsageError(f"ahead={ahead}: it must be at least 1")
        self.stream, self.ahead = stream, ahead
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(
                f"device={device!r} cannot be used here ({str(error).splitlines()[0]}): use 'cpu'"
            ) from error
        if isinstance(transform, torch.nn.Module):
            transform = transform.to(self.device).eval()
        self.transform = transform
        self._step = 0

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return len(self.stream)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; see :meth:`msicube.stream.base.Stream.set_epoch`."""
        self.stream.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the training loop is, whatever is on its way."""
        return self.stream.state_dict(step=self._step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken."""
        self.stream.load_state_dict(state)
        self._step = int(state["step"])

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches."""
        source = iter(self.stream)
        self._step = self.stream.state_dict()["step"]
        return self._follow(source)

    def _follow(self, source: Iterator[Batch]) -> Iterator[Batch]:
        copier = _CudaCopier(self.device, self.ahead + 1) if self.device.type == "cuda" else None
        waiting: deque[tuple[Batch, Any]] = deque()
        with closing(cast(Any, source)):
            for batch in source:
                waiting.append(self._send(batch, copier))
                if len(waiting) > self.ahead:
                    yield self._receive(*waiting.popleft())
            while waiting:
                yield self._receive(*waiting.popleft())

    def _send(self, batch: Batch, copier: _CudaCopier | None) -> tuple[Batch, Any]:
        with copier.sending() if copier else nullcontext(), torch.no_grad():
            sent = copier.copy(batch) if copier else dict(batch)
            for key in KEYS:
                if self.transform is not None and key in sent:
                    sent[key] = self.transform(sent[key])
            return sent, copier.mark() if copier else None

    def _receive(self, batch: Batch, sent: Any) -> Batch:
        self._step += 1
        if sent is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(sent)
            for tensor in batch.values():
                # Its memory was taken on the other CUDA stream, and must not go back there before this one is done.
                tensor.record_stream(current)
        return batch


class _CudaCopier:
    """Copies batches to a GPU through a ring of pinned buffers, on a CUDA stream of its own."""

    def __init__(self, device: torch.device, depth: int) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self._buffers: list[dict[str, Tensor]] = [{} for _ in range(depth)]
        self._done: list[Any] = [None] * depth
        self._next = 0

    def sending(self) -> Any:
        """Return a context in which work is put on the own CUDA stream."""
        return torch.cuda.stream(self.stream)

    def copy(self, batch: Batch) -> Batch:
        """Begin to copy a batch; a buffer is filled again only when the copy out of it is over."""
        number = self._next = (self._next + 1) % len(self._buffers)
        if self._done[number] is not None:
            self._done[number].synchronize()
        buffers, sent = self._buffers[number], {}
        for name, tensor in batch.items():
            layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            if name not in buffers or buffers[name].shape != tensor.shape:
                buffers[name] = torch.empty(
                    tensor.shape, dtype=tensor.dtype, pin_memory=True, memory_format=layout
                )
            sent[name] = buffers[name].copy_(tensor).to(self.device, non_blocking=True)
        self._done[number] = self.mark()
        return sent

    def mark(self) -> Any:
        """Return an event that happens when all that was put on the CUDA stream so far is done."""
        event = torch.cuda.Event()
        event.record(self.stream)
        return event
