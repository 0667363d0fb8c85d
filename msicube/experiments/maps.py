"""Predictions back on the tissue: from a table of samples to pictures of slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.experiments.examples import short
from msicube.experiments.figures import Picture
from msicube.experiments.run import TISSUE, Run, replacing
from msicube.experiments.thumbnails import MAX_EDGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from msicube.experiments.relabelled import RelabelledStudy

#: What a pixel of a tissue map is: measured, and of those that the experiment looks at.
MEASURED, LOOKED_AT = 1, 2


def save_tissue(run: Run, study: RelabelledStudy, slides: Iterable[str]) -> None:
    """Write which pixels of slides were measured and are looked at, thinned as pictures are."""
    found: dict[str, NDArray[Any]] = {}
    for number, slide in enumerate(names := list(slides)):
        measured = study.measured(slide)
        step = thinning(measured.shape)
        values = measured.astype(np.uint8) * MEASURED
        values[study.acquired(slide)] = LOOKED_AT
        found[f"tissue_{number}"] = values[::step, ::step]
    with replacing(run.path / TISSUE) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, slides=np.array(names), **found)


def read_tissue(run: Run) -> dict[str, NDArray[np.uint8]]:
    """Return the maps that :func:`save_tissue` wrote, by slide; of folds, those of all of them."""
    found: dict[str, NDArray[np.uint8]] = {}
    for one in run.folds or [run]:
        if (one.path / TISSUE).is_file():
            with np.load(one.path / TISSUE) as arrays:
                found |= {str(name): arrays[f"tissue_{i}"] for i, name in enumerate(arrays["slides"])}
    return found


def probability_picture(
    row: Mapping[str, Any],
    table: pd.DataFrame,
    *,
    classes: Sequence[str],
    positive: str,
    size: int,
    tissue: NDArray[np.uint8] | None,
) -> Picture:
    """Return a slide's map of the probability of a class.

    Parameters
    ----------
    row
        The slide, as in ``run.json``: ``slide``, ``label``, ``shape``, ``pixel_size``.
    table
        The predictions of the slide.
    classes, positive
        All classes, and the one whose probability is drawn.
    size
        Pixels of a sample's edge. A pixel has the mean of the samples that cover it.
    tissue
        As of :func:`read_tissue`; None where it is not known: samples are then drawn whole.
    """
    values = _mean_map(table, f"p_{positive}", row["shape"], size)
    step = thinning(row["shape"])
    measured = None
    if tissue is not None:
        values[tissue < LOOKED_AT] = np.nan
        measured = tissue >= MEASURED
    mean = table[[f"p_{name}" for name in classes]].mean()
    told = classes[int(mean.to_numpy().argmax())]
    title = f"{row['slide']} ({row['label']})\nas {short(told)}, mean {mean[f'p_{positive}']:.2f}"
    return Picture(title, values, row["pixel_size"] * step if row["pixel_size"] else None, measured)


def thinning(shape: Sequence[int]) -> int:
    """Return ``n``, where a picture keeps every n-th row and column of a slide."""
    return max(1, ceil(max(shape[:2]) / MAX_EDGE))


def _mean_map(table: pd.DataFrame, column: str, shape: Sequence[int], size: int) -> NDArray[np.float32]:
    """Return the mean of the samples that cover a pixel, at every n-th pixel; NaN where there is none."""
    y, x, p = (table[name].to_numpy() for name in ("y", "x", column))
    step = thinning(shape)
    total, count = (np.zeros([-(-n // step) for n in shape], np.float32) for _ in range(2))
    for dy in range(size):
        for dx in range(size):
            kept = ((y + dy) % step == 0) & ((x + dx) % step == 0)
            at = (y[kept] + dy) // step, (x[kept] + dx) // step
            np.add.at(total, at, p[kept])
            np.add.at(count, at, 1)
    return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)
