"""Score a finished run on slides that it has not seen: of another study, or others of the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from msicube.errors import LeakageError, RecipeError, UnknownSlide, UsageError
from msicube.experiments.evaluation import score_samples
from msicube.experiments.features import Features
from msicube.experiments.masks import make_masks
from msicube.experiments.prediction import load_network
from msicube.experiments.recipe import Recipe
from msicube.experiments.record import now, slide_rows, versions
from msicube.experiments.relabelled import relabel
from msicube.experiments.run import PREDICTIONS, SUMMARY, Run, open_run, replacing
from msicube.experiments.split import Split, labelled
from msicube.experiments.summary import summarise
from msicube.experiments.torch_settings import choose_device
from msicube.preprocess.channels import Channels
from msicube.schema import AXIS_NAME
from msicube.store import Study, open_study

FOLDER, INFO = "evaluation", "evaluation.json"


@dataclass(frozen=True)
class ExternalEvaluation:
    """What a run is worth on slides that it has not seen.

    Attributes
    ----------
    path
        The folder that holds ``predictions.csv``, ``summary.json`` and ``evaluation.json``.
    predictions
        One row per sample, as in a run.
    summary
        Metrics with confidence intervals by sample, slide and patient, as in a run.
    info
        Run, study, slides with their digests, and the training patients that are among them.
    """

    path: Path
    predictions: pd.DataFrame
    summary: dict[str, Any]
    info: dict[str, Any]


def evaluate(
    run: Run | str | os.PathLike[str],
    study: Study | str | os.PathLike[str],
    *,
    slides: Iterable[str] | None = None,
    where: str | None = None,
    out: str | os.PathLike[str] | None = None,
    allow_seen: bool = False,
    device: str = "auto",
) -> ExternalEvaluation:
    """Score a run, with its pipeline and its weights as they are, on labelled slides.

    Nothing is fitted. A step that works by slide learns of each slide what that slide alone is transformed with.

    Parameters
    ----------
    run
        A run or its folder; of a run of folds, that of one fold.
    study
        With the spectral axis of the run's, and a samples table with its columns of labels and patients.
    slides
        Names; by default all that have a label.
    where
        Which pixels; by default those that the run's recipe takes.
    out
        Folder for what comes of it, which is replaced; by default ``evaluation/<name of the study>`` in the run's.
    allow_seen
        Score slides of patients that were trained on as well. The results are then no measure of anything new, and
        ``evaluation.json`` names these patients.
    device
        Where the network runs: ``"auto"``, ``"cpu"``, ``"cuda"``, ...

    Raises
    ------
    LeakageError
        A patient of the training or validation part is among these slides, or a slide of it under another patient.
    RecipeError
        The samples table lacks a column, or has a class that the network does not know.
    UsageError
        No weights, or weights or a pipeline that are not those that the run has recorded.
    AxisMismatch
        The study has another spectral axis.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if run.folds:
        raise UsageError(
            f"{run.path} is a run of folds and has no network: evaluate a fold's, such as {run.folds[0].path}"
        )
    study = study if isinstance(study, Study) else open_study(study)
    network = load_network(run, choose_device(device))
    recipe = replace(run.recipe, data=replace(run.recipe.data, where=where or run.recipe.data.where))
    split = _held_out(run, recipe, study, slides)
    rows = slide_rows(study, split, split.test)
    seen = _seen(run.info, rows)
    if seen and not allow_seen:
        raise LeakageError(
            f"{seen[0]}{f' (and {len(seen) - 1} more)' if seen[1:] else ''}, so {run.path} has seen what it would be "
            f"scored on: name other slides with slides= (--slide), or say allow_seen=True (--allow-seen)"
        )
    for slide in split.test:
        axis = Channels(AXIS_NAME[study.modality], study.axis(slide))
        network.pipeline.channels_in.require(axis, where=f"slide {slide}")
    own = relabel(study, split, recipe.data, masks=make_masks(network.masks, study, split.test))
    network.pipeline.add_slides(own, slides=split.test)
    features = Features(recipe, own, network.pipeline, None, "Of the run.", masks=network.masks)
    stream = features.stream(split.test, seed=run.info["seed"], training=False)
    found = score_samples(
        network.model,
        features.batches(stream, training=False),
        key=features.key,
        slides=stream.slides,
        labels=split.indices(stream.slides),
        patients=[split.patients[slide] for slide in stream.slides],
        classes=split.classes,
        device=network.device,
    )
    summary = summarise(found.predictions, split.classes, split.positive, intervals=True)
    info = {
        "run": str(run.path.absolute()),
        "recipe": recipe.name,
        "weights": network.digest,
        "pipeline": network.pipeline.fingerprint(),
        "study": {"path": study.path, "modality": study.modality},
        "where": recipe.data.where,
        "classes": list(split.classes),
        "positive": split.positive,
        "slides": rows,
        "unused": list(split.unused),
        "seen": seen,
        "loss": found.loss,
        "at": now(),
        "versions": versions(),
    }
    folder = Path(out) if out is not None else run.path / FOLDER / study.location.name.removesuffix(".zarr")
    return _written(ExternalEvaluation(folder, found.predictions, summary, info))


def _held_out(run: Run, recipe: Recipe, study: Study, slides: Iterable[str] | None) -> Split:
    """Return the slides to score, all of them held out, under the classes of the run."""
    samples = study.samples
    if slides is not None:
        names = list(dict.fromkeys(slides))
        if unknown := [name for name in names if name not in study]:
            raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {len(study.slides)} slides")
        samples = samples.loc[names]
    labels, patients = labelled(recipe.data, samples)
    classes = tuple(run.info["classes"])
    if strange := sorted(set(labels) - set(classes)):
        raise RecipeError(
            f"slide {labels.index[labels == strange[0]][0]!r} has the {recipe.data.label} {strange[0]!r}, and "
            f"{run.path} tells {', '.join(classes)} apart: name the slides to score with slides= (--slide)"
        )
    if labels.empty:
        raise RecipeError(
            f"none of {len(samples)} slides of {study.path} has a {recipe.data.label!r}: nothing to score"
        )
    test = tuple(sorted(labels.index))
    unused = tuple(sorted(set(samples.index) - set(test)))
    label_of, patient_of = ({name: str(column[name]) for name in test} for column in (labels, patients))
    return Split(classes, run.info["positive"], (), test, unused, label_of, patient_of)


def _seen(info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what of some slides a run was trained on or chosen by, as clauses."""
    known = [*info["split"]["train"], *info["split"]["validation"]]
    patients, slides = {row["patient"] for row in known}, {row["digest"]: row["slide"] for row in known}
    found = dict.fromkeys(
        f"patient {row['patient']!r} was in training" for row in rows if row["patient"] in patients
    )
    found |= dict.fromkeys(
        f"slide {row['slide']!r} holds the spectra of {slides[row['digest']]!r}, which was in training"
        for row in rows
        if row["digest"] in slides and row["patient"] not in patients
    )
    return list(found)


def _written(found: ExternalEvaluation) -> ExternalEvaluation:
    result = Run(found.path)
    if found.path.exists() and any(found.path.iterdir()) and not (found.path / INFO).is_file():
        raise UsageError(f"{found.path} is not empty and holds no evaluation: choose another folder")
    found.path.mkdir(parents=True, exist_ok=True)
    with replacing(found.path / PREDICTIONS) as partial:
        found.predictions.to_csv(partial, index=False, float_format="%.6g")
    result.write_json(SUMMARY, found.summary)
    result.write_json(INFO, found.info)
    return found
