"""The numbers of a run: metrics by sample, slide and patient, with what is known of their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from msicube.experiments.calibration import calibration
from msicube.experiments.metrics import aggregate, table_metrics
from msicube.experiments.uncertainty import bootstrap_intervals


def summarise(
    predictions: pd.DataFrame, classes: Sequence[str], positive: int, *, intervals: bool = False
) -> dict[str, Any]:
    """Return what ``summary.json`` holds.

    Parameters
    ----------
    predictions
        Columns ``slide``, ``patient``, ``label`` and ``p_<class>``.
    classes, positive
        As for :func:`~msicube.experiments.metrics.classification_metrics`.
    intervals
        Whether to add bootstrap intervals over patients.

    Returns
    -------
    dict
        ``"samples"``, ``"slides"`` and ``"patients"``, each with ``n``, ``chance`` (accuracy of the most frequent
        class), ``metrics`` and ``intervals``. A slide or patient has the mean probability of its samples; under
        ``vote`` are the metrics where each sample has one vote instead. Samples have their ``calibration``.
    """
    found = {"samples": _level(predictions, classes, positive, intervals)}
    found["samples"]["calibration"] = calibration(predictions, classes, positive)
    for level, unit in (("slides", "slide"), ("patients", "patient")):
        mean, vote = (
            _level(aggregate(predictions, classes, unit=unit, rule=rule), classes, positive, intervals)  # type: ignore[arg-type]
            for rule in ("mean", "vote")
        )
        found[level] = {**mean, "vote": {key: vote[key] for key in ("metrics", "intervals") if key in vote}}
    return found


def _level(table: pd.DataFrame, classes: Sequence[str], positive: int, intervals: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": len(table),
        "chance": float(table["label"].value_counts(normalize=True).max()),
        "metrics": table_metrics(table, classes, positive),
    }
    if intervals:
        found["intervals"] = bootstrap_intervals(table, classes, positive)
    return found
