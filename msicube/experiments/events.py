"""What a training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainingEvent:
    """How far a run is.

    Attributes
    ----------
    stage
        ``"fit"`` (the pipeline), ``"train"`` (steps of an epoch), ``"epoch"`` (one is over, with its metrics),
        ``"resumed"`` (a run is taken up at ``epoch``, after ``done`` of its steps) or ``"kept"`` (it was finished
        already, and nothing was done).
    done, total
        Of the stage: pieces of a pass, steps, epochs.
    what
        What is being done, where a stage has several parts.
    epoch, epochs
        Counted from 1; 0 before training.
    fold, folds
        Counted from 1; 0 where there are no folds.
    metrics
        As in ``metrics.jsonl``, at the end of an epoch.
    """

    stage: str
    done: int
    total: int
    what: str = ""
    epoch: int = 0
    epochs: int = 0
    fold: int = 0
    folds: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)


OnEvent = Callable[[TrainingEvent], None]
