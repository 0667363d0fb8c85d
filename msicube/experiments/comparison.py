"""Runs side by side, and what it is worth to have seen the patients that are tested."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msicube.errors import UsageError
from msicube.experiments.run import Run, open_run

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
    remarks
        Sentences on pairs of runs: what a split by patch is worth beside one by patient.
    """

    rows: list[dict[str, Any]]
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
    return Comparison([_row(run) for run in opened], [text for pair in pairs if (text := leak_remark(*pair))])


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
