"""The arguments that every stream takes: checked once, and filled in where they are left to msicube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import torch

from msicube.bytesize import parse_bytes
from msicube.errors import UsageError
from msicube.scheduling import default_workers
from msicube.stream.order import Remainder, check_remainder

if TYPE_CHECKING:
    from msicube.stream.selection import Fitted

OnError = Literal["raise", "skip"]


class StreamOptions(TypedDict, total=False):
    """What both streams take; :class:`~msicube.stream.SpectrumStream` says what each means."""

    slides: Sequence[str] | None
    variable: str
    where: str
    pipeline: Fitted | None
    labels: str | None
    pixel_labels: str | None
    seed: int
    memory: str | int
    remainder: Remainder
    balance: str | None
    replacement: bool
    weights: str | None
    limit: int | None
    shuffle: bool
    on_error: OnError
    threads: int | None
    rank: int | None
    world_size: int | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a stream draws from, as it was asked for; the fields are those of :class:`StreamOptions`."""

    slides: Sequence[str] | None = None
    variable: str = "intensity"
    where: str = "acquired"
    pipeline: Fitted | None = None
    labels: str | None = "label"
    pixel_labels: str | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a stream is dealt, whatever it holds.

    Attributes
    ----------
    batch_size
        Samples of a step on this rank.
    seed, shuffle, remainder
        Of the order.
    balance, replacement, weights, limit
        Which samples an epoch takes.
    on_error
        What becomes of samples that cannot be read.
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
    balance: str | None
    replacement: bool
    weights: str | None
    limit: int | None
    on_error: OnError
    memory: int
    threads: int
    rank: int
    world_size: int

    @property
    def global_batch(self) -> int:
        """Samples of a step over all ranks."""
        return self.batch_size * self.world_size

    def order(self) -> dict[str, Any]:
        """Return what decides the order."""
        names = ("seed", "shuffle", "remainder", "global_batch", "balance", "replacement", "weights", "limit")
        return {name: getattr(self, name) for name in names}


def resolve(batch_size: int, options: StreamOptions) -> tuple[Source, Settings]:
    """Check the arguments that both streams take, and fill in what was left to msicube.

    Raises
    ------
    UsageError
        A number out of its range, or arguments that contradict each other.
    TypeError
        An argument that no stream knows.
    """
    given = dict(options)
    source = Source(**{name: given.pop(name) for name in Source.__dataclass_fields__ if name in given})  # type: ignore[arg-type]
    return source, _settings(batch_size=batch_size, weights=source.weights, **given)  # type: ignore[arg-type]


def _settings(
    *,
    batch_size: int,
    weights: str | None,
    seed: int = 0,
    shuffle: bool = True,
    remainder: Remainder = "pad",
    balance: str | None = None,
    replacement: bool = False,
    limit: int | None = None,
    on_error: OnError = "raise",
    memory: str | int = "256 MiB",
    threads: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> Settings:
    check_remainder(remainder)
    _check_sampling(balance, replacement, weights)
    if on_error not in get_args(OnError):
        raise UsageError(f"on_error={on_error!r} is not known: choose one of {', '.join(get_args(OnError))}")
    rank, world_size = _place(rank, world_size)
    threads = default_workers() if threads is None else threads
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("threads", threads, 1)):
        if value < least:
            raise UsageError(f"{name}={value}: it must be at least {least}")
    return Settings(
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        remainder=remainder,
        balance=balance,
        replacement=replacement,
        weights=weights,
        limit=limit,
        on_error=on_error,
        memory=parse_bytes(memory),
        threads=threads,
        rank=rank,
        world_size=world_size,
    )


def _check_sampling(balance: str | None, replacement: bool, weights: str | None) -> None:
    if balance is not None and weights is not None:
        raise UsageError(
            f"balance={balance!r} and weights={weights!r} both say how often a sample comes: give one of them"
        )
    if replacement and balance is None:
        raise UsageError(
            "replacement=True repeats the samples of small groups: say which groups with balance="
        )


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
