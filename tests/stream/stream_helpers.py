"""What the tests of the streams share."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Batch = dict[str, torch.Tensor]


def places(batch: Batch) -> list[tuple[int, ...]]:
    """Return where each sample of a batch is from: slide, y, x."""
    return list(zip(*(batch[key].tolist() for key in ("slide", "y", "x")), strict=True))


def counted(batches: Iterable[Batch]) -> list[tuple[int, ...]]:
    """Return the places of all samples that count."""
    return [place for b in batches for place, w in zip(places(b), b["weight"].tolist(), strict=True) if w]


def same(first: Batch, second: Batch) -> bool:
    """Return whether two batches are equal bit for bit."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[key].numpy(), second[key].numpy()) for key in first
    )


def all_same(first: Iterable[Any], second: Iterable[Any]) -> bool:
    """Return whether two sequences of batches are equal bit for bit."""
    first, second = list(first), list(second)
    return len(first) == len(second) and all(map(same, first, second))


def stream_threads() -> list[str]:
    """Return the reading threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("msicube-stream")]


def left_in_shared_memory() -> list[str]:
    """Return the tensors in shared memory whose process is gone: other tests have theirs while they run."""
    names = (path.name.split("_") for path in Path("/dev/shm").glob("torch_*"))
    return ["_".join(parts) for parts in names if not Path(f"/proc/{parts[1]}").exists()]
