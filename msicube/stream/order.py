"""What every order of samples is made of: seeded draws, and what becomes of the uneven rest."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError

#: Raised when the same arguments give another order, so that an old state is refused rather than misread.
ORDER_VERSION = 2

Remainder = Literal["pad", "drop", "repeat"]
Integers = NDArray[np.int64]


class Draw(IntEnum):
    """What a random generator is for; no two uses share a sequence."""

    CELLS = 1
    DECK = 2
    PIXELS = 3
    BALANCE = 4
    PATCHES = 5
    SELECTION = 6
    PHASE = 7
    CROPS = 8
    POOL = 9


def generator(seed: int, draw: Draw, *key: int) -> np.random.Generator:
    """Return the generator of one draw; equal arguments give equal numbers, on any machine."""
    return np.random.default_rng([seed, draw, *key])


def count_steps(n_samples: int, global_batch: int, remainder: Remainder) -> int:
    """Return the steps of an epoch.

    Raises
    ------
    UsageError
        There would be none.
    """
    n_steps = n_samples // global_batch if remainder == "drop" else -(-n_samples // global_batch)
    if not n_steps:
        raise UsageError(
            f"{n_samples} samples make no step of {global_batch} with remainder={remainder!r}: choose more slides, a "
            f"smaller batch, or remainder='pad'"
        )
    return n_steps


def check_remainder(remainder: str) -> None:
    """Refuse an unknown word for what happens to the uneven rest.

    Raises
    ------
    UsageError
        Not one of the three.
    """
    if remainder not in get_args(Remainder):
        raise UsageError(
            f"remainder={remainder!r} is not known: choose one of {', '.join(get_args(Remainder))}"
        )
