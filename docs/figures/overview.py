"""Draw the README's figure from what ``make demo`` leaves: ``python docs/figures/overview.py demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import msicube as mc
from msicube.experiments import open_run
from msicube.experiments.figures.style import scale_bar
from msicube.models import build_model
from msicube.store import Study
from msicube.tiling import Window

N_SLIDES = 4


def whole(study: Study, slide: str, variable: str = "intensity") -> NDArray[np.float32]:
    cube = study.cube(slide, variable)
    return cube.read(Window(0, cube.shape[0], 0, cube.shape[1]))


def tumour_probability(study: Study, slides: list[str], folder: Path) -> list[NDArray[np.float32]]:
    """Predict every pixel of held-out slides with the per-pixel network of a run."""
    run = open_run(folder)
    classes = run.info["classes"]
    pipeline = mc.Pipeline.load(study, name=run.recipe.pipeline.name)
    model = build_model("cnn1d", n_channels=pipeline.n_features_out_, n_classes=len(classes))
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    model.eval()
    maps = []
    for slide in slides:
        spectra, mask = whole(study, slide), study.acquired(slide)
        with torch.inference_mode():
            logits = model(torch.from_numpy(pipeline.transform_block(spectra[mask])))
        image = np.full(mask.shape, np.nan, np.float32)
        image[mask] = logits.softmax(1)[:, classes.index("tumour")].numpy()
        maps.append(image)
    return maps


def main(demo: Path) -> None:
    study = mc.open_study(demo / "study.zarr")
    held_out = study.samples[study.samples.split == "test"]
    slides = [
        slide
        for label in ("normal", "tumour")
        for slide in held_out.index[held_out.label == label][: N_SLIDES // 2]
    ]
    run = open_run(demo / "runs" / "colorectal-cnn1d")
    selected = mc.Pipeline.load(study, name=run.recipe.pipeline.name).steps_[-1]
    channel = int(selected.indices_[np.argmax(selected.scores_[selected.indices_])])
    mz = study.axis(slides[0])[channel]
    ions = [whole(study, s)[..., channel] for s in slides]
    scores = [whole(study, s, "colorectal_pca") for s in slides]
    masks = [study.acquired(s) for s in slides]
    inside = np.concatenate([score[mask] for score, mask in zip(scores, masks, strict=True)])
    low, high = np.percentile(inside, [1, 99], axis=0)
    maps = tumour_probability(study, slides, run.path)

    figure = Figure(figsize=(9, 6.6), layout="constrained", dpi=130)
    grid = figure.subplots(3, N_SLIDES)
    top = np.percentile(np.concatenate([i[m] for i, m in zip(ions, masks, strict=True)]), 99)
    for column, slide in enumerate(slides):
        grid[0, column].set_title(f"{slide} ({held_out.label[slide]})", fontsize=10)
        empty = ~masks[column]
        ion = grid[0, column].imshow(np.where(empty, np.nan, ions[column]), cmap="viridis", vmin=0, vmax=top)
        colours = np.clip((scores[column] - low) / (high - low), 0, 1)
        grid[1, column].imshow(np.where(empty[..., None], 0.85, colours))
        tumour = grid[2, column].imshow(maps[column], cmap="RdBu_r", vmin=0, vmax=1)
        pixel = study.slide_attrs[slide]["pixel_size"]["x"]
        for axes in grid[:, column]:
            axes.set(xticks=[], yticks=[], facecolor="0.85")
        scale_bar(grid[2, column], masks[column].shape[1], pixel)
    for axes, text in zip(
        grid[:, 0], (f"m/z {mz:.2f}", "PC 1, 2, 3\nas red, green, blue", "1D CNN"), strict=True
    ):
        axes.set_ylabel(text, fontsize=10)
    figure.colorbar(ion, ax=grid[0, :], label="intensity", shrink=0.8)
    figure.colorbar(tumour, ax=grid[2, :], label="probability of tumour", shrink=0.8)
    figure.savefig(Path(__file__).with_name("overview.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
