"""Cross-validation by patient: every fold a run of its own, and the predictions of all of them together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from msicube.experiments.events import OnEvent, TrainingEvent
from msicube.experiments.illustration import draw_results
from msicube.experiments.metrics import METRICS
from msicube.experiments.pretrained import check_pretrained
from msicube.experiments.ranks import process_group
from msicube.experiments.recipe import Recipe
from msicube.experiments.record import first_info, writing
from msicube.experiments.resuming import start_run
from msicube.experiments.run import FOLD, INFO, PREDICTIONS, SUMMARY, Run, replacing
from msicube.experiments.split import Split, resolve_split
from msicube.experiments.summary import summarise
from msicube.experiments.torch_settings import choose_device
from msicube.experiments.training import train
from msicube.models import find_model
from msicube.preprocess.recipes import build_pipeline
from msicube.scheduling import SchedulerLike
from msicube.store import Study, open_study


def cross_validate(
    recipe: Recipe,
    study: str | os.PathLike[str] | Study,
    out: str | os.PathLike[str],
    *,
    shuffle_labels: bool = False,
    seed: int = 0,
    scheduler: SchedulerLike = "threads",
    overwrite: bool = False,
    resume: bool = False,
    figures: bool = True,
    progress: OnEvent | None = None,
) -> Run:
    """Train and evaluate once for each fold, and summarise the predictions of all folds.

    Every slide is held out once, by a pipeline and a network that saw no slide of its patient.

    Parameters
    ----------
    recipe
        With ``data.split = "folds"``.
    study, out, shuffle_labels, seed, scheduler, overwrite, resume, figures, progress
        As for :func:`~msicube.experiments.train`.

    Returns
    -------
    Run
        With a run for each fold in :attr:`Run.folds`. In its summary, ``"samples"``, ``"slides"`` and ``"patients"``
        are those of all folds together, and ``"folds"`` has the metrics of each, their mean and their standard
        deviation. Probabilities of different networks are pooled as they are.

    Raises
    ------
    RecipeError
        A class has slides of fewer patients than there are folds; or as :func:`~msicube.experiments.train`.
    """
    study = study if isinstance(study, Study) else open_study(study)
    device = choose_device(recipe.train.device)
    find_model(recipe.model.name, recipe.model.options)
    build_pipeline(recipe.pipeline)
    n = recipe.data.folds
    one_of = [replace(recipe, data=replace(recipe.data, fold=fold)) for fold in range(1, n + 1)]
    splits = [resolve_split(one.data, study.samples, seed=seed) for one in one_of]
    for one, split in zip(one_of, splits, strict=True):
        check_pretrained(one, study, split, seed=seed, shuffled=shuffle_labels)
    wanted = first_info(study, _all_held_out(splits), None, seed, device)
    wanted |= {"n_folds": n, "shuffled_labels": shuffle_labels}
    _number_folds(wanted, splits)
    with process_group(device) as ranks:
        run, info = ranks.first(lambda: start_run(out, recipe, wanted, overwrite=overwrite, resume=resume))
        if info["state"] == "finished":
            if progress is not None and ranks.leads:
                progress(TrainingEvent("kept", n, n))
            return run
        with writing(run, info, ranks):
            runs = []
            for number, one in enumerate(one_of, start=1):
                runs.append(
                    train(
                        one,
                        study,
                        run.path / f"{FOLD}{number}",
                        shuffle_labels=shuffle_labels,
                        seed=seed,
                        scheduler=scheduler,
                        resume=resume,
                        figures=figures,
                        progress=_in_fold(progress, number, n),
                    )
                )
                if ranks.leads:
                    _pool(run, runs, info)
            info |= {key: runs[0].info[key] for key in ("model", "features", "torch_threads")}
            if ranks.leads:
                run.write_json(INFO, info)  # the figures read it
                if figures:
                    draw_results(run)
    return run


def _all_held_out(splits: list[Split]) -> Split:
    """Return a split in which each slide is held out, as it is over all folds."""
    first = splits[0]
    return replace(
        first, train=(), validation=(), test=tuple(sorted(slide for split in splits for slide in split.test))
    )


def _number_folds(info: dict[str, Any], splits: list[Split]) -> None:
    """Tell of each slide which fold holds it out."""
    fold_of = {slide: fold for fold, split in enumerate(splits, start=1) for slide in split.test}
    for row in info["split"]["test"]:
        row["fold"] = fold_of[row["slide"]]


def _pool(run: Run, runs: list[Run], info: Mapping[str, Any]) -> None:
    """Write the predictions of the folds that are finished, and what follows from them."""
    tables = [one.predictions.assign(fold=number) for number, one in enumerate(runs, start=1)]
    predictions = pd.concat(tables, ignore_index=True)
    predictions = predictions.sort_values(["slide", "y", "x"], kind="stable", ignore_index=True)
    with replacing(run.path / PREDICTIONS) as partial:
        predictions.to_csv(partial, index=False, float_format="%.6g")
    summary = summarise(predictions, info["classes"], info["positive"], intervals=True)
    run.write_json(SUMMARY, {**summary, "folds": _by_fold(runs)})


def _by_fold(runs: list[Run]) -> dict[str, Any]:
    """Return the metrics of each fold, their mean and their standard deviation, by sample, slide and patient."""
    found: dict[str, Any] = {}
    for level in ("samples", "slides", "patients"):
        each = [run.summary[level]["metrics"] for run in runs]
        table = np.array([[one[name] for name in METRICS] for one in each], dtype=float)
        whole = np.isfinite(table).all(axis=0)
        spread = table.std(axis=0, ddof=1) if len(runs) > 1 else np.full(len(METRICS), np.nan)
        found[level] = {
            "each": each,
            "mean": _named(table.mean(axis=0), whole),
            "deviation": _named(spread, whole & np.isfinite(spread)),
        }
    return found


def _named(values: Any, known: Any) -> dict[str, float | None]:
    return {
        name: float(value) if there else None
        for name, value, there in zip(METRICS, values, known, strict=True)
    }


def _in_fold(progress: OnEvent | None, fold: int, folds: int) -> OnEvent | None:
    if progress is None:
        return None
    return lambda event: progress(replace(event, fold=fold, folds=folds))
