"""Runs side by side, and what it is worth to have seen the patients that are tested."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msicube.errors import UsageError
from msicube.experiments.metrics import METRICS, aggregate
from msicube.experiments.run import Run, open_run
from msicube.experiments.uncertainty import paired_intervals

if TYPE_CHECKING:
    import pandas as pd

#: How a split is called in a sentence.
SPLITS = {
    "samples": "by patient, as the samples table says",
    "patient": "by patient",
    "folds": "by patient, in folds",
    "patch": "by patch",
}
#: What has to be equal for two runs to differ by their split alone.
_SAME = ("pipeline", "patches", "spectra", "model")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes
    ----------
    rows
        Of each run: ``run``, ``recipe``, ``network``, ``split``, ``labels`` (``true`` or ``shuffled``),
        ``n_patients`` (held out), and ``samples``, ``slides`` and ``patients`` as in its summary.
    differences
        Of each run but the first: ``run``, ``against`` (the first), and for ``samples``, ``slides`` and ``patients``
        how much larger each metric is, ``{"difference": ..., "interval": [low, high]}``, with a bootstrap interval over
        patients who are drawn for both runs alike. A run that was tested on other patients is not among them.
    remarks
        Sentences on pairs of runs: what a split by patch is worth beside one by patient, and runs that are no pair.
    """

    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    remarks: list[str]


def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> Comparison:
    """Put the held-out results of runs side by side.

    Parameters
    ----------
    runs
        Runs or their folders, two at least, whose classes are the same.

    Raises
    ------
    UsageError
        Fewer than two, a folder that holds no run, a run without results, or runs of different classes.
    """
    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    if len(opened) < 2:
        raise UsageError(f"{len(opened)} run was given: give at least two to compare")
    for run in opened:
        if not run.summary:
            raise UsageError(f"{run.path} has no results: its first epoch did not end, so train it again")
        if run.info["classes"] != opened[0].info["classes"]:
            raise UsageError(
                f"{run.path} tells {', '.join(run.info['classes'])} apart and {opened[0].path} "
                f"{', '.join(opened[0].info['classes'])}: compare runs of the same classes"
            )
    pairs = [(one, other) for one in opened for other in opened]
    remarks = [text for pair in pairs if (text := leak_remark(*pair))]
    first, *others = opened
    paired = [run for run in others if _patients(run) == _patients(first)]
    remarks += [
        f"{run.path.name} was tested on other patients than {first.path.name}: their difference has no interval."
        for run in others
        if run not in paired and "patch" not in (run.recipe.data.split, first.recipe.data.split)
    ]
    return Comparison([_row(run) for run in opened], _differences(first, paired), remarks)


def leak_remark(leaky: Run, clean: Run) -> str | None:
    """Return what testing on patches of the training patients adds to a result.

    Parameters
    ----------
    leaky, clean
        Runs of one study, of one pipeline and network.

    Returns
    -------
    str or None
        A sentence; None where the first is not split by patch, the second is, or they differ otherwise.
    """
    recipes = [run.recipe for run in (leaky, clean)]
    if recipes[0].data.split != "patch" or recipes[1].data.split == "patch":
        return None
    if leaky.info["study"]["path"] != clean.info["study"]["path"]:
        return None
    if any(getattr(recipes[0], name) != getattr(recipes[1], name) for name in _SAME):
        return None
    by = clean.info["split"]["by"]
    level = "patches" if recipes[0].patches else "pixels"
    found = []
    for name, text in (("accuracy", "accuracy"), ("roc_auc", "ROC AUC")):
        values = [run.summary["samples"]["metrics"][name] for run in (leaky, clean)]
        if None not in values:
            found.append(f"{text} {values[0] - values[1]:+.3f} ({values[0]:.3f} against {values[1]:.3f})")
    return (
        f"What the leak is worth: split {SPLITS['patch']}, {leaky.path.name} was tested on {level} of the patients "
        f"that it was trained on; beside {clean.path.name}, split {SPLITS[by]}, that adds "
        f"{', '.join(found)}."
    )


def _differences(first: Run, others: Sequence[Run]) -> list[dict[str, Any]]:
    """Return how much larger the metrics of runs are than those of the first, level by level."""
    if not others:
        return []
    classes, positive = first.info["classes"], first.info["positive"]
    base, found = _levels(first, classes), []
    for run in others:
        row: dict[str, Any] = {"run": str(run.path), "against": str(first.path)}
        for level, table in _levels(run, classes).items():
            intervals = paired_intervals(table, base[level], classes, positive)
            values = [run.summary[level]["metrics"], first.summary[level]["metrics"]]
            row[level] = {
                name: {
                    "difference": None if None in (a := values[0][name], b := values[1][name]) else a - b,
                    "interval": intervals[name],
                }
                for name in METRICS
            }
        found.append(row)
    return found


def _levels(run: Run, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the predictions of a run by sample, slide and patient."""
    samples = run.predictions
    return {
        "samples": samples,
        "slides": aggregate(samples, classes, unit="slide"),
        "patients": aggregate(samples, classes, unit="patient"),
    }


def _patients(run: Run) -> set[str]:
    return set(run.predictions["patient"])


def _row(run: Run) -> dict[str, Any]:
    info, summary = run.info, run.summary
    return {
        "run": str(run.path),
        "recipe": run.recipe.name,
        "network": run.recipe.model.name,
        "split": info["split"]["by"],
        "labels": "shuffled" if info["shuffled_labels"] else "true",
        "n_patients": len({row["patient"] for row in info["split"]["test"]}),
        **{level: summary[level] for level in ("samples", "slides", "patients") if level in summary},
    }
