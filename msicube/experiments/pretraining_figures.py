"""Which figures a pretraining has, drawn from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures import (
    PatchRow,
    masked_loss_figure,
    masked_spectra_figure,
    patch_figure,
    save_figure,
)
from msicube.experiments.run import EXAMPLES, FIGURES, Run
from msicube.preprocess.channels import Channels

AXIS_LABELS = {"mz": "m/z", "wavenumber": "wavenumber (cm$^{-1}$)"}
PARTS = {"validation": "slides not trained on", "training": "training slides, masked anew"}


def draw_pretraining(run: Run, channels: Channels) -> None:
    """Draw the loss by epoch, and masked samples: as they were measured, and as they were reconstructed.

    Parameters
    ----------
    run
        A pretraining that has finished an epoch.
    channels
        What the features stand for.
    """
    folder = run.path / FIGURES
    save_figure(masked_loss_figure(run.history, part=PARTS[run.summary["part"]]), folder, "training")
    with np.load(run.path / EXAMPLES) as stored:
        examples = {name: stored[name] for name in stored.files}
    if run.recipe.patches:
        parts = run.info["split"]
        pixel_sizes = {
            row["slide"]: row["pixel_size"] for part in ("train", "validation") for row in parts[part]
        }
        figure = patch_figure(_rows(examples, pixel_sizes), names=run.info["features"][:3])
    else:
        on_axis = channels.on_axis
        axis = channels.values if on_axis else np.arange(channels.n, dtype=float)
        label = AXIS_LABELS.get(channels.kind, channels.kind) if on_axis else "feature"
        figure = masked_spectra_figure(examples, axis, label=label)
    save_figure(figure, folder, "reconstruction")


def _rows(examples: Mapping[str, NDArray[Any]], pixel_sizes: Mapping[str, float | None]) -> list[PatchRow]:
    """Return rows of patches: measured, masked, reconstructed, interpolated."""
    hidden = np.broadcast_to(examples["masked"], examples["truth"].shape)
    places = zip(*(examples[name].tolist() for name in ("slide", "y", "x")), strict=True)
    rows = {
        "measured": examples["truth"],
        "masked": np.where(hidden, 0.5, examples["truth"]),
        "reconstructed": examples["reconstructed"],
        "interpolated": examples["interpolated"],
    }
    captions = [f"{slide}\ny = {y}, x = {x}" for slide, y, x in places]
    sizes = [pixel_sizes.get(slide) for slide in examples["slide"].tolist()]
    return [
        PatchRow(name, patches, captions if name == "measured" else [""] * len(captions), sizes)
        for name, patches in rows.items()
    ]
