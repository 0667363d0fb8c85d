"""Train a network by a recipe on a study, and leave a run's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msicube.errors import CorruptStore, UsageError
from msicube.experiments.classical import with_one_epoch
from msicube.experiments.events import OnEvent, TrainingEvent
from msicube.experiments.features import Features, prepare_features
from msicube.experiments.illustration import draw_network, draw_results, draw_study
from msicube.experiments.masks import load_masks
from msicube.experiments.pretrained import check_pretrained, describe_pretrained, first_network
from msicube.experiments.ranks import Ranks, failures_of_others, process_group
from msicube.experiments.recipe import Recipe
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.record import describe_model, file_digest, first_info, writing
from msicube.experiments.resuming import differences, start_run
from msicube.experiments.run import INFO, PIPELINE, WEIGHTS, Run
from msicube.experiments.session import Session
from msicube.experiments.split import Split, resolve_split, shuffled_labels
from msicube.experiments.tensorboard import check_tensorboard
from msicube.experiments.torch_settings import choose_device, torch_settings
from msicube.models import find_model
from msicube.preprocess import Pipeline
from msicube.preprocess.recipes import build_pipeline
from msicube.scheduling import SchedulerLike
from msicube.store import Study, open_study


def train(
    recipe: str | Path | Recipe,
    study: str | os.PathLike[str] | Study,
    out: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    shuffle_labels: bool = False,
    seed: int = 0,
    scheduler: SchedulerLike = "threads",
    overwrite: bool = False,
    resume: bool = False,
    figures: bool = True,
    progress: OnEvent | None = None,
) -> Run:
    """Train a network and evaluate it on held-out patients after every epoch.

    With ``data.split = "folds"`` that is done for each fold, with a pipeline and a network of its own; see
    :func:`~msicube.experiments.folds.cross_validate`.

    Parameters
    ----------
    recipe
        A recipe, its path, or the name of a built-in one.
    study
        A study or where it is.
    out
        The run's folder; :mod:`msicube.experiments.run` says what it holds. It is written as the run goes on.
    overrides
        Values of the recipe by dotted key.
    shuffle_labels
        Train on labels that say nothing of the truth, and evaluate on the true ones: the control that shows what is
        reached without learning. The pipeline is then fitted in the run, on the shuffled labels as well.
    seed
        Of the network's first weights, the order of the samples, a split that is drawn, and shuffled labels. On one
        machine with one number of threads a seed gives the same run on the CPU.
    scheduler
        Where the pipeline is fitted.
    overwrite
        Replace a run that is in ``out`` already.
    resume
        Go on with the run that is in ``out``, from its checkpoint, to the same result as if it had never been stopped.
        A run that is finished is left as it is; without a run it is begun.
    figures
        Draw the run's figures. :func:`~msicube.experiments.report` draws those that need only the folder.
    progress
        Called after each step.

    Returns
    -------
    Run
        The finished run. The weights are those after the last epoch or, with ``data.validation_fraction``, after that
        which did best on validation patients: none is ever chosen by its held-out result.

    Raises
    ------
    RecipeError
        The recipe is wrong, or does not fit the study.
    LeakageError
        A patient is in both parts, or is held out and was seen by the pretraining that the run starts from.
    UsageError
        ``out`` holds something else; or what it holds is to be taken up, and is a run of another recipe, seed or study.
    KeyboardInterrupt
        On SIGINT (Ctrl-C) or SIGTERM, after the current step; the folder is a usable run as of the last finished epoch,
        and ``resume`` goes on after the last step.
    """
    recipe = with_one_epoch(_recipe(recipe, overrides))
    if recipe.data.split == "folds" and not recipe.data.fold:
        from msicube.experiments.folds import cross_validate

        return cross_validate(
            recipe,
            study,
            out,
            shuffle_labels=shuffle_labels,
            seed=seed,
            scheduler=scheduler,
            overwrite=overwrite,
            resume=resume,
            figures=figures,
            progress=progress,
        )
    study = study if isinstance(study, Study) else open_study(study)
    device = choose_device(recipe.train.device)
    split = resolve_split(recipe.data, study.samples, seed=seed)
    labels = shuffled_labels(split, seed=seed) if shuffle_labels else None
    _check(recipe, study, split, seed=seed, shuffled=shuffle_labels)
    wanted = first_info(study, split, labels, seed, device)
    with process_group(device) as ranks:
        ranks.batch_size(recipe.train.batch_size)
        report = progress if progress and ranks.leads else _silent
        run, info = ranks.first(lambda: start_run(out, recipe, wanted, overwrite=overwrite, resume=resume))
        if info["state"] == "finished":
            report(TrainingEvent("kept", recipe.train.epochs, recipe.train.epochs))
            return run
        prepare = partial(prepare_features, recipe, study, split, labels, seed=seed, scheduler=scheduler)
        drawn = figures and ranks.leads
        with (
            writing(run, info, ranks) as asked,
            torch_settings(threads=recipe.train.threads, seed=seed, device=device),
        ):
            info |= {"torch_threads": torch.get_num_threads(), "processes": ranks.size}
            features = _shared_features(prepare, run, info, ranks, report)
            model = _first_model(recipe, split, features, info).to(device)
            if ranks.leads:
                run.write_json(INFO, info)
            if drawn:
                draw_study(run, study, split, features)
            session = Session(
                *(run, split, features, model, device),
                labels=labels,
                seed=seed,
                asked=asked,
                report=report,
                ranks=ranks,
            )
            with failures_of_others(ranks):
                session.fit()
            info |= session.outcome | {"weights": file_digest(run.path / WEIGHTS)}
            if drawn:
                draw_network(run, study)
                draw_results(run)
        if ranks.leads:
            session.checkpoints.remove()
    return run


def _check(recipe: Recipe, study: Study, split: Split, *, seed: int, shuffled: bool) -> None:
    """Raise what is wrong with a recipe before anything is written or fitted."""
    find_model(recipe.model.name, recipe.model.options)
    build_pipeline(recipe.pipeline)
    check_pretrained(recipe, study, split, seed=seed, shuffled=shuffled)
    if recipe.train.tensorboard:
        check_tensorboard()


def _first_model(recipe: Recipe, split: Split, features: Features, info: dict[str, Any]) -> nn.Module:
    """Return the network with its first weights, and note in ``info`` what it is and what it sees."""
    model = first_network(recipe, n_channels=len(features.names), n_classes=len(split.classes))
    info |= {
        "pipeline": features.describe(),
        "features": features.names,
        "model": _same_model(describe_model(model), info),
        "started_from": describe_pretrained(recipe),
    }
    return model


def _silent(event: TrainingEvent) -> None:
    """Tell nobody."""


def _shared_features(
    prepare: Callable[..., Features],
    run: Run,
    info: Mapping[str, Any],
    ranks: Ranks,
    report: OnEvent,
) -> Features:
    """Let the first rank find or fit the pipeline and save it; all of them take it as it is saved."""
    path = run.path / PIPELINE

    own: list[Features] = []

    def find() -> bool:
        fitted = _fitted_before(run, info)
        features = prepare(
            fitted=fitted,
            fitted_masks=load_masks(run.path, run.recipe) if fitted else None,
            progress=lambda what, done, total: report(TrainingEvent("fit", done, total, what)),
        )
        if not path.exists():
            features.save(path)
        own.append(features)
        return features.in_study

    in_study = ranks.first(find)
    if own:
        return own[0].reloaded(path)
    if in_study:
        return prepare().reloaded(path)
    pipeline = Pipeline.load(path, name=run.recipe.pipeline.name)
    return prepare(fitted=pipeline, fitted_masks=load_masks(run.path, run.recipe)).reloaded(path)


def _fitted_before(run: Run, info: Mapping[str, Any]) -> Pipeline | None:
    """Return the pipeline that a run has fitted before it was stopped, if it came that far."""
    known = info.get("pipeline")
    if known is None:
        for left in (PIPELINE, f"{PIPELINE}.partial"):  # what a killed process was about to save
            shutil.rmtree(run.path / left, ignore_errors=True)
        return None
    if known["in_study"]:
        return None
    pipeline = Pipeline.load(run.path / PIPELINE, name=run.recipe.pipeline.name)
    if pipeline.fingerprint() != known["fingerprint"]:
        raise CorruptStore(
            f"{run.path / PIPELINE} has the fingerprint {pipeline.fingerprint()[:12]}, the run was begun with "
            f"{known['fingerprint'][:12]}: start it anew with overwrite=True (--overwrite)"
        )
    return pipeline


def _same_model(found: dict[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a network, if it is the one that the run was begun with."""
    other = differences(info.get("model", found), found)
    if other:
        raise UsageError(
            f"the network is not the one that the run was begun with: {', '.join(other)}; see that its first weights "
            f"can be had as they were then, or start the run anew with overwrite=True (--overwrite)"
        )
    return found


def _recipe(recipe: str | Path | Recipe, overrides: Mapping[str, Any] | None) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides=overrides)
    if overrides:
        raise UsageError("overrides are for a recipe that is read from a file: change the Recipe itself")
    return recipe
