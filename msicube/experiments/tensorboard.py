"""The course of a training for TensorBoard, beside ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from msicube.errors import MissingDependency

FOLDER = "tensorboard"
#: Points of an epoch's curve of losses, at the most.
_POINTS = 100


def check_tensorboard() -> None:
    """Refuse a run that wants TensorBoard where it is not installed.

    Raises
    ------
    MissingDependency
        It is not.
    """
    try:
        import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise MissingDependency(
            "[train] tensorboard = true needs tensorboard, which is not installed: pip install 'msicube[tensorboard]'"
        ) from error


class EventWriter:
    """Writes the losses of steps and the metrics of epochs, all by the number of steps since the beginning.

    Parameters
    ----------
    run
        The run's folder; the events lie in ``tensorboard`` in it.
    first_step
        Steps that are done. What an earlier process wrote of later ones is left out when the events are read.
    """

    def __init__(self, run: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / FOLDER), purge_step=first_step + 1)

    def step(self, loss: float, *, step: int, done: int, steps: int) -> None:
        """Write the mean loss of a step, unless the epoch has so many that another point would show nothing."""
        if done % max(1, steps // _POINTS) == 0:
            self._writer.add_scalar("step/loss", loss, step)

    def epoch(self, entry: Mapping[str, Any], *, step: int) -> None:
        """Write what ``metrics.jsonl`` has of an epoch."""
        for part in ("train", "validation", "test"):
            for name, value in entry.get(part, {}).items():
                if value is not None:
                    self._writer.add_scalar(f"{part}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
