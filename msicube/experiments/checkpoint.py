"""Where a training is: everything that decides what comes next, in one file."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from msicube.errors import UsageError
from msicube.experiments.run import CHECKPOINT, Run, replacing

#: Raised when the same file means something else, so that an old one is refused rather than misread.
VERSION = 1


@dataclass
class Place:
    """How far a training has come, beside the network and its optimizer.

    Attributes
    ----------
    epoch
        The current one, counted from 1.
    step
        Steps of it that are done. All of them may be, and the epoch still to be evaluated.
    sums
        Over these steps: weighted loss, weight of the samples told right, weight.
    seconds
        That they took.
    best_epoch, best
        The epoch that did best on validation patients, and its loss or metric; 0 and None before the first, and where
        there are no such patients.
    """

    epoch: int = 1
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    best_epoch: int = 0
    best: float | None = None

    def next_epoch(self) -> None:
        """Go on to the beginning of the next epoch."""
        self.epoch, self.step, self.sums, self.seconds = self.epoch + 1, 0, [0.0, 0.0, 0.0], 0.0


class Checkpoints:
    """The checkpoint of a run, of which there is one: the newest.

    Parameters
    ----------
    run
        Whose folder holds it.
    every
        Seconds between one and the next, within an epoch.
    """

    def __init__(self, run: Run, *, every: float) -> None:
        self.path: Path = run.path / CHECKPOINT
        self._every = every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last one is old enough for the next."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: Mapping[str, Any]) -> None:
        """Put a state in the place of the last one."""
        write_state(self.path, {"version": VERSION, **state})
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the state, on the CPU; None where there is none yet.

        Raises
        ------
        UsageError
            It cannot be read, or was written by another version.
        """
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise UsageError(
                f"{self.path} cannot be read ({str(error).splitlines()[0]}): start the run anew with overwrite=True "
                f"(--overwrite)"
            ) from error
        if state.get("version") != VERSION:
            raise UsageError(
                f"{self.path} has version {state.get('version')}, this msicube goes on from version {VERSION}: start "
                f"the run anew with overwrite=True (--overwrite)"
            )
        return state

    def remove(self) -> None:
        """Remove it, once the run is finished."""
        self.path.unlink(missing_ok=True)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what holds tensors in the place of a file, whole or not at all.

    ``torch.save`` would write to the file itself, and say of a full disk that a position was unexpected.

    Raises
    ------
    OSError
        It cannot be written; what was in the file still is.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())
