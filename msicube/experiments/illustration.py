"""Which figures a run has, and drawing them from the study and from the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.experiments.figures import (
    ImageRow,
    Picture,
    colour_figure,
    confusion_figure,
    ion_image_figure,
    patch_figure,
    probability_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    training_figure,
)
from msicube.experiments.metrics import by_slide
from msicube.experiments.run import EXAMPLES, FIGURES, PREDICTIONS, Run
from msicube.experiments.thumbnails import thumbnail

if TYPE_CHECKING:
    from msicube.experiments.features import Features
    from msicube.experiments.split import Split
    from msicube.store import Study

#: Slides shown in a figure of pictures, and channels shown of each.
N_SLIDES, N_ION_SLIDES, N_CHANNELS = 8, 4, 4
AXIS_TEXT = {"msi": "m/z {:.3f}", "ftir": "{:.1f} cm$^{{-1}}$"}


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a run: its file, what it is called, what it shows, and how a page should treat it."""

    name: str
    title: str
    caption: str
    vector: bool = False
    wide: bool = True


FIGURES_OF_A_RUN = (
    FigureSpec(
        "training",
        "Training",
        "Loss (a), accuracy (b) and ROC AUC (c) after each epoch. Training values are running means over the epoch, "
        "with dropout; held-out values are those of all scored {samples} of held-out patients.",
        vector=True,
    ),
    FigureSpec(
        "confusion",
        "Confusion matrix",
        "Held-out {samples} and slides by true and predicted class: share of the true class, and number.",
        vector=True,
    ),
    FigureSpec(
        "roc",
        "Receiver operating characteristic",
        "By {samples}, and by slide with the mean probability of its {samples}.",
        vector=True,
        wide=False,
    ),
    FigureSpec(
        "calibration",
        "Calibration",
        "Held-out {samples} by their predicted probability, in ten bins: how often it was so, and how many there are.",
        vector=True,
        wide=False,
    ),
    FigureSpec(
        "explanation",
        "What the network looks at",
        "By class, held-out spectra that were told right. Above: their mean as the network sees it (black), and that "
        "less the mean of the other classes (orange). Below: the mean attribution to each channel, by Grad-CAM, "
        "integrated gradients from the mean spectrum, and occlusion by it; where a line is negative, a channel speaks "
        "against the class.",
        vector=True,
    ),
    FigureSpec(
        "ion_images",
        "Ion images",
        "Intensity as measured, of the channels that tell the classes of the training slides best apart. The scale of "
        "each channel ends at its 99th percentile. Slides are drawn at one scale; grey was not measured.",
    ),
    FigureSpec(
        "pca",
        "Principal components as colour",
        "The first three features of the pipeline as red, green and blue, each stretched alike in all slides. Grey was "
        "not measured.",
    ),
    FigureSpec(
        "probability",
        "Predictions on the tissue",
        "Predicted probability on held-out slides, {samples} at their place. Grey was not measured or not predicted.",
    ),
    FigureSpec(
        "patches",
        "Example patches",
        "Held-out patches of which the network was most certain, as it sees them: right ones above, wrong ones below, "
        "with the slide, its true class, and the predicted class with its probability.",
    ),
)


def draw_study(run: Run, study: Study, split: Split, features: Features) -> None:
    """Draw the figures that show the data: ion images, and principal components as colour."""
    folder = run.path / FIGURES
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


def draw_results(run: Run) -> None:
    """Draw the figures that follow from the run's folder, as far as the run came."""
    info, folder = run.info, run.path / FIGURES
    classes, positive = info["classes"], info["positive"]
    if run.metrics:
        chance = run.summary["samples"]["chance"]
        save_figure(training_figure(run.history, chance=chance), folder, "training")
    if not (run.path / PREDICTIONS).is_file():
        return
    samples = "patches" if run.recipe.patches else "pixels"
    predictions = run.predictions
    tables = {samples: predictions, "slides": by_slide(predictions, classes)}
    save_figure(
        confusion_figure({name: confusion(table, classes) for name, table in tables.items()}, classes),
        folder,
        "confusion",
    )
    save_figure(roc_figure(_scores(tables, classes, positive)), folder, "roc")
    found = run.summary["samples"]["calibration"]
    of = classes[positive] if len(classes) == 2 else "the predicted class"
    save_figure(
        reliability_figure(found["bins"], of=of, ece=found["ece"], brier=found["brier"]),
        folder,
        "calibration",
    )
    pictures = _probability_pictures(info, predictions, run.recipe.patches.size if run.recipe.patches else 1)
    save_figure(probability_figure(pictures, positive=classes[positive]), folder, "probability")
    if (run.path / EXAMPLES).is_file():
        with np.load(run.path / EXAMPLES) as examples:
            rows = _example_rows(examples)
        save_figure(patch_figure(rows, names=info["features"][:3]), folder, "patches")


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


def _probability_pictures(info: Mapping[str, Any], predictions: pd.DataFrame, size: int) -> list[Picture]:
    """Return a map for some held-out slides, from the predictions at their places."""
    positive = info["classes"][info["positive"]]
    rows = {row["slide"]: row for row in info["split"]["test"]}
    by_class = sorted(rows, key=lambda slide: (info["classes"].index(rows[slide]["label"]), slide))
    step = max(1, -(-len(by_class) // N_SLIDES))
    pictures = []
    for slide in by_class[::step]:
        row, table = rows[slide], predictions[predictions["slide"] == slide]
        values = np.full(row["shape"], np.nan, np.float32)
        for y, x, p in zip(table["y"], table["x"], table[f"p_{positive}"], strict=True):
            values[y : y + size, x : x + size] = p
        thin = max(1, -(-max(values.shape) // 512))
        pixel = row["pixel_size"] * thin if row["pixel_size"] else None
        pictures.append(Picture(f"{slide} ({row['label']})", values[::thin, ::thin], pixel))
    return pictures


def _example_rows(examples: Mapping[str, NDArray[Any]]) -> list[ImageRow]:
    rows = []
    for kind in ("right", "wrong"):
        if f"{kind}_sample" in examples:
            columns = (examples[f"{kind}_{name}"] for name in ("slide", "label", "predicted", "confidence"))
            captions = [
                f"{slide} ({label})\nas {predicted}, p = {confidence:.2f}"
                for slide, label, predicted, confidence in zip(*columns, strict=True)
            ]
            rows.append(ImageRow(kind, examples[f"{kind}_sample"], captions))
    return rows
