"""Collect what came of the runs into one document of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.experiments.commands import receipt
from benchmarks.experiments.running import ExperimentPlace
from benchmarks.experiments.studies import StudyPlace
from benchmarks.experiments.table import Table, Task
from benchmarks.experiments.truth import limit, populations, telling
from msicube.experiments.explaining import ATTRIBUTIONS, EXPLANATION
from msicube.experiments.metrics import aggregate, table_metrics
from msicube.experiments.run import Run
from msicube.experiments.uncertainty import LEVEL, N_RESAMPLES, patient_draws, resampled_metrics
from msicube.store import open_study

LEVELS = ("samples", "slides", "patients")
#: Metrics of which differences are taken.
COMPARED = ("accuracy", "roc_auc")


def collect(
    table: Table, studies: Mapping[str, StudyPlace], places: Mapping[str, ExperimentPlace]
) -> dict[str, Any]:
    """Return the results of finished experiments.

    Parameters
    ----------
    table
        What was run.
    studies, places
        By name.
    """
    from benchmarks.harness import machine

    rows = [
        _experiment(places[one.name], table.task(one.task), studies[table.study_of(one).name])
        for one in table.experiments
    ]
    return {
        "machine": machine(),
        "versions": next(iter(places.values())).run.info["versions"],
        "studies": [_study(spec.name, spec.commands, studies[spec.name]) for spec in table.studies],
        "tasks": [_task(task, table, studies[task.study], places) for task in table.tasks],
        "experiments": rows,
        "differences": [
            _difference(places[one.name].run, places[other].run, one.name, other)
            for one in table.experiments
            for other in one.against
        ],
    }


def _study(name: str, commands: tuple[str, ...], place: StudyPlace) -> dict[str, Any]:
    study, found = open_study(place.study), receipt(place.receipt)
    patients = study.samples["patient"]
    return {
        "name": name,
        "commands": [line.format(files=name, study=f"{name}.zarr") for line in commands],
        "slides": len(study.slides),
        "patients": int(patients.nunique()),
        "spectra": int(sum(study.acquired(slide).sum() for slide in study.slides)),
        "channels": len(study.axis(study.slides[0])),
        "bytes": sum(path.stat().st_size for path in place.folder.rglob("*") if path.is_file()),
        **{key: found[key] for key in ("cost", "commit", "finished")},
    }


def _classes(task: Task, place: StudyPlace) -> pd.Series:
    """Return the class of each slide that a task is about, indexed by its label in the simulator."""
    samples = open_study(place.study).samples
    named = samples[task.label].notna() & (samples[task.label] != "")
    return samples.loc[named].set_index("label", drop=False)[task.label]


def _task(
    task: Task, table: Table, study: StudyPlace, places: Mapping[str, ExperimentPlace]
) -> dict[str, Any]:
    first = next(one for one in table.experiments if one.task == task.name)
    info, classes = places[first.name].run.info, _classes(task, study)
    best = limit(populations(study.truth), classes, info["classes"], info["positive"])
    return {
        "name": task.name,
        "title": task.title,
        "study": task.study,
        "classes": {name: int((classes == name).sum()) for name in info["classes"]},
        "limit": best,
    }


def _experiment(place: ExperimentPlace, task: Task, study: StudyPlace) -> dict[str, Any]:
    one, run, found = place.experiment, place.run, receipt(place.receipt)
    info, summary = run.info, run.summary
    return {
        "name": one.name,
        "task": one.task,
        "recipe": one.recipe,
        "shows": one.shows,
        "seed": one.seed,
        "sample": "patch" if run.recipe.patches else "pixel",
        "network": run.recipe.model.name,
        "split": run.recipe.data.split,
        "shuffled": info["shuffled_labels"],
        "patients_held_out": len({row["patient"] for row in info["split"]["test"]}),
        "epochs": run.recipe.train.epochs,
        "figures": list(one.figures),
        **{
            level: {key: summary[level][key] for key in ("n", "chance", "metrics", "intervals")}
            for level in LEVELS
        },
        "calibration": summary["samples"]["calibration"]["ece"],
        "folds": _folds(summary),
        "explanation": _explanation(place, task, study),
        **{key: found[key] for key in ("commands", "cost", "commit", "finished")},
    }


def _folds(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return mean and deviation over folds of each metric by slide."""
    if "folds" not in summary:
        return None
    return {key: summary["folds"]["slides"][key] for key in ("mean", "deviation")}


def _difference(run: Run, other: Run, name: str, against: str) -> dict[str, Any]:
    """Return what a run adds to another's results, with bootstrap intervals over the patients that both were tested on.

    Every draw takes the same patients of both runs, so that what is hard about a patient does not count.
    """
    classes, positive = run.info["classes"], run.info["positive"]
    tables = [_levels(one.predictions, classes) for one in (run, other)]
    found: dict[str, Any] = {"of": name, "against": against}
    for level in LEVELS:
        found[level] = _level_difference(*(one[level] for one in tables), classes, positive)
    return found


def _levels(predictions: pd.DataFrame, classes: list[str]) -> dict[str, pd.DataFrame]:
    return {
        "samples": predictions,
        "slides": aggregate(predictions, classes, unit="slide"),
        "patients": aggregate(predictions, classes, unit="patient"),
    }


def _level_difference(
    one: pd.DataFrame, other: pd.DataFrame, classes: list[str], positive: int
) -> dict[str, Any]:
    shared = set(one["patient"]) & set(other["patient"])
    one, other = (table[table["patient"].isin(shared)] for table in (one, other))
    draws = patient_draws(one["patient"], n_resamples=N_RESAMPLES, seed=0)
    values = [table_metrics(table, classes, positive) for table in (one, other)]
    found: dict[str, Any] = {"patients": len(shared)}
    drawn = None
    if draws is not None:
        drawn = [resampled_metrics(table, classes, positive, draws) for table in (one, other)]
    for metric in COMPARED:
        first, second = (value[metric] for value in values)
        if first is None or second is None:
            found[metric] = None
            continue
        interval = None if drawn is None else _interval(drawn[0][metric] - drawn[1][metric])
        found[metric] = {"value": first - second, "interval": interval}
    return found


def _interval(values: NDArray[np.float64]) -> list[float] | None:
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return None
    return [float(edge) for edge in np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])]


def _explanation(place: ExperimentPlace, task: Task, study: StudyPlace) -> dict[str, Any] | None:
    """Return the share of each method's attribution in the channels that tell the classes apart, means over runs."""
    if not place.experiment.explain:
        return None
    opened = open_study(study.study)
    axis = opened.axis(opened.slides[0])
    tells = telling(study.truth, axis, _classes(task, study))
    parts = [
        _shares(pd.read_csv(path / EXPLANATION / ATTRIBUTIONS), axis, tells) for path in place.explained()
    ]
    methods = [key for key in parts[0] if key not in ("seen", "seen_telling")]
    return {
        "runs": len(parts),
        "axis": float(tells.mean()),
        "channels_seen": float(np.mean([part["seen"] for part in parts])),
        "seen": float(np.mean([part["seen_telling"] for part in parts])),
        "methods": {
            method: {
                "mean": float(np.mean([part[method] for part in parts])),
                "low": float(np.min([part[method] for part in parts])),
                "high": float(np.max([part[method] for part in parts])),
            }
            for method in methods
        },
    }


def _shares(table: pd.DataFrame, axis: NDArray[np.float64], tells: NDArray[np.bool_]) -> dict[str, float]:
    """Return, of one explanation, how many channels the network sees, which of them tell, and what they are given.

    A class's attribution is taken without its sign; classes count alike.
    """
    position = table.columns[1]
    nearest = np.abs(axis[:, None] - table[position].to_numpy()).argmin(axis=0)
    inside = tells[nearest]
    per_class = len(table) / table["class"].nunique()
    found = {"seen": float(per_class), "seen_telling": float(inside.mean())}
    for method in table.columns[3:]:
        size = table[method].abs()
        shares = size[inside].groupby(table["class"][inside]).sum() / size.groupby(table["class"]).sum()
        found[method] = float(shares.mean())
    return found
