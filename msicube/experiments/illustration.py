"""Drawing the figures of a run, from the study and from the run's folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.experiments.examples import (
    patch_rows,
    read_examples,
    single_rows,
    spectral_axis,
    spectrum_panels,
)
from msicube.experiments.figures import (
    SlideRow,
    colour_figure,
    confusion_figure,
    embedding_figure,
    ion_image_figure,
    patch_channel_figure,
    patch_figure,
    probability_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    slide_figure,
    spectrum_figure,
    training_figure,
)
from msicube.experiments.maps import probability_picture, read_tissue, save_tissue
from msicube.experiments.metrics import by_slide
from msicube.experiments.run import EMBEDDING, FIGURES, PREDICTIONS, Run
from msicube.experiments.thumbnails import thumbnail

if TYPE_CHECKING:
    from msicube.experiments.features import Features
    from msicube.experiments.split import Split
    from msicube.store import Study

_log = logging.getLogger(__name__)
#: Columns of a table that are text, whatever they look like.
TEXT = dict.fromkeys(("slide", "patient", "label", "predicted"), str)
#: Slides shown in a figure of pictures, and channels shown of each.
N_SLIDES, N_ION_SLIDES, N_CHANNELS = 8, 4, 4
AXIS_TEXT = {"msi": "$m/z$ {:.3f}", "ftir": "{:.1f} cm$^{{-1}}$"}


def draw_study(run: Run, study: Study, split: Split, features: Features) -> None:
    """Draw the figures that show the data: ion images, and principal components as colour."""
    folder = run.path / FIGURES
    save_tissue(run, features.study, split.test)
    columns, titles = features.top_channels(N_CHANNELS)
    shown = pick_slides(split, (*split.test, *split.train), N_ION_SLIDES)
    pictures = [
        thumbnail(study, slide, title=f"{slide}\n({split.labels[slide]})", channels=columns)
        for slide in shown
    ]
    text = AXIS_TEXT[study.modality]
    save_figure(
        ion_image_figure(pictures, [text.format(value) for value in titles], unit="intensity (a.u.)"),
        folder,
        "ion_images",
    )
    if not features.has_components:
        return
    shown = pick_slides(split, (*split.test, *split.train), N_SLIDES)
    pictures = [features.picture(slide, title=f"{slide} ({split.labels[slide]})") for slide in shown]
    save_figure(colour_figure(pictures, names=features.names[:3]), folder, "pca")


def draw_network(run: Run, study: Study) -> None:
    """Lay held-out samples out by the network's penultimate layer, for the figure that :func:`draw_results` draws.

    A network of a user's own may have no such layer, and a small study too few samples: a line says so, and the run is
    none the worse.
    """
    from msicube.experiments.embedding import embed

    try:
        embed(run, study=study, seed=run.info["seed"])
    except UsageError as error:
        _log.warning("no figure of t-SNE: %s", error)


def draw_results(run: Run) -> None:
    """Draw the figures that follow from the run's folder, as far as the run came."""
    folder = run.path / FIGURES
    if run.metrics:
        chance = run.summary["samples"]["chance"]
        save_figure(training_figure(run.history, chance=chance), folder, "training")
    if not (run.path / PREDICTIONS).is_file():
        return
    predictions = run.predictions
    _draw_scores(run, predictions)
    _draw_slides(run, predictions)
    _draw_examples(run)
    if tables := _embeddings(run):
        save_figure(embedding_figure(tables, run.info["classes"]), folder, "embedding")


def n_embedded(run: Run) -> int:
    """Return how many samples the figure of t-SNE shows."""
    return sum(map(len, _embeddings(run)))


def _embeddings(run: Run) -> list[pd.DataFrame]:
    paths = [one.path / EMBEDDING for one in run.folds or [run]]
    return [pd.read_csv(path, dtype=TEXT) for path in paths if path.is_file()]


def _draw_scores(run: Run, predictions: pd.DataFrame) -> None:
    """Draw confusion matrices, ROC and calibration."""
    info, folder = run.info, run.path / FIGURES
    classes, positive = info["classes"], info["positive"]
    samples = "patches" if run.recipe.patches else "pixels"
    tables = {samples: predictions, "slides": by_slide(predictions, classes)}
    counts = {name: confusion(table, classes) for name, table in tables.items()}
    save_figure(confusion_figure(counts, classes), folder, "confusion")
    save_figure(roc_figure(_scores(tables, classes, positive)), folder, "roc")
    found = run.summary["samples"]["calibration"]
    of = classes[positive] if len(classes) == 2 else "the predicted class"
    figure = reliability_figure(found["bins"], of=of, ece=found["ece"], brier=found["brier"])
    save_figure(figure, folder, "calibration")


def _draw_slides(run: Run, predictions: pd.DataFrame) -> None:
    """Draw predictions on the tissue, and how the samples of a slide become one probability."""
    info, folder = run.info, run.path / FIGURES
    classes, positive = info["classes"], info["classes"][info["positive"]]
    size = run.recipe.patches.size if run.recipe.patches else 1
    rows = {row["slide"]: row for row in info["split"]["test"]}
    of_slide = {str(slide): table for slide, table in predictions.groupby("slide")}
    tissue = read_tissue(run)
    scored = [slide for slide in rows if slide in of_slide]
    pictures = [
        probability_picture(
            rows[slide],
            of_slide[slide],
            classes=classes,
            positive=positive,
            size=size,
            tissue=tissue.get(slide),
        )
        for slide in spread(scored, {slide: rows[slide]["label"] for slide in scored}, classes, N_SLIDES)
    ]
    save_figure(probability_figure(pictures, positive=positive), folder, "probability")
    two = len(classes) == 2
    slides = [
        SlideRow(slide, classes.index(label), of_slide[slide][f"p_{positive if two else label}"].to_numpy())
        for slide, label in ((slide, rows[slide]["label"]) for slide in scored)
    ]
    of = positive if two else "the true class"
    save_figure(
        slide_figure(slides, classes=classes, of=of, threshold=0.5 if two else None), folder, "slides"
    )


def _draw_examples(run: Run) -> None:
    """Draw the samples worth a look."""
    info, folder = run.info, run.path / FIGURES
    examples = read_examples(run)
    if not examples:
        return
    # Of folds that were interrupted, only those that are finished know what they saw.
    features = info.get("features") or run.folds[0].info["features"]
    if run.recipe.patches:
        save_figure(patch_figure(patch_rows(examples, info), names=features[:3]), folder, "patches")
        single = single_rows(examples, info)
        save_figure(patch_channel_figure(single, names=features), folder, "patch_channels")
    else:
        kind, axis = spectral_axis(features)
        panels = spectrum_panels(examples, info)
        figure = spectrum_figure(panels, kind=kind, axis=axis, classes=info["classes"])
        save_figure(figure, folder, "spectra")


def confusion(table: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return counts ``(true class, predicted class)`` of a table with ``label`` and ``p_<class>``."""
    code = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    predicted = table[[f"p_{name}" for name in classes]].to_numpy().argmax(axis=1)
    np.add.at(counts, (table["label"].map(code).to_numpy(np.int64), predicted), 1)
    return counts


def pick_slides(split: Split, slides: Sequence[str], n: int) -> list[str]:
    """Return the first ``n`` slides, taking the classes in turn, in the order of the classes."""
    queues = [[slide for slide in slides if split.labels[slide] == name] for name in split.classes]
    turns = [
        slide for turn in range(max(map(len, queues))) for queue in queues for slide in queue[turn : turn + 1]
    ]
    return sorted(turns[:n], key=lambda slide: split.classes.index(split.labels[slide]))


def spread(slides: Sequence[str], labels: Mapping[str, str], classes: Sequence[str], n: int) -> list[str]:
    """Return at most ``n`` slides, evenly taken from them in the order of their classes."""
    ordered = sorted(slides, key=lambda slide: (classes.index(labels[slide]), slide))
    return ordered[:: max(1, -(-len(ordered) // n))]


def _scores(tables: Mapping[str, pd.DataFrame], classes: Sequence[str], positive: int) -> dict[str, Any]:
    """Return what the ROC figure draws: of two classes the positive one, of more each against the rest."""
    if len(classes) == 2:
        name = classes[positive]
        return {
            key: ((table["label"] == name).to_numpy(), table[f"p_{name}"].to_numpy())
            for key, table in tables.items()
        }
    table = next(iter(tables.values()))
    return {name: ((table["label"] == name).to_numpy(), table[f"p_{name}"].to_numpy()) for name in classes}
