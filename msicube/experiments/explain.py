"""What a run's network looks at: attributions of held-out spectra, averaged by class, with a figure and a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.experiments.attribution import METHODS, Method, attribute
from msicube.experiments.bands import TISSUE_BANDS, Band
from msicube.experiments.features import Features
from msicube.experiments.figures import attribution_figure, save_figure
from msicube.experiments.masks import load_masks, make_masks
from msicube.experiments.relabelled import PatchDraw, relabel
from msicube.experiments.run import FIGURES, PIPELINE, WEIGHTS, Run, open_run, replacing
from msicube.experiments.split import Split, resolve_split
from msicube.experiments.torch_settings import choose_device
from msicube.models import build_model
from msicube.preprocess import Pipeline
from msicube.store import Study, open_study

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTRIBUTIONS, EXPLANATION = "attributions.csv", "explanation"


@dataclass(frozen=True)
class Explanation:
    """Attributions by class.

    Attributes
    ----------
    kind
        ``"wavenumber"`` (cm^-1) or ``"mz"``.
    axis
        ``(n_channels,)``: the position of each channel that the network sees.
    classes
        In the order of the first axis of what follows.
    n_spectra
        Of each class, that were averaged: held out, and told right.
    mean
        ``(n_classes, n_channels)``: mean of these spectra, as the network sees them.
    maps
        Method to ``(n_classes, n_channels)``: mean attribution for the class. Grad-CAM is not negative; the others are
        negative where a channel speaks against the class. They have no unit; compare shapes.
    """

    kind: str
    axis: NDArray[np.float64]
    classes: tuple[str, ...]
    n_spectra: tuple[int, ...]
    mean: NDArray[np.float64]
    maps: dict[str, NDArray[np.float64]]

    def share(self, method: str, intervals: Iterable[tuple[float, float]]) -> NDArray[np.float64]:
        """Return the share of each class's attribution, without its sign, that lies in any of some intervals.

        Beside it stands the share of the channels that these intervals hold: an attribution that knows nothing of them
        would have just that.
        """
        inside = self.inside(intervals)
        size = np.abs(self.maps[method])
        return size[:, inside].sum(axis=1) / np.maximum(size.sum(axis=1), np.finfo(float).tiny)

    def inside(self, intervals: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return which channels lie in any of some intervals."""
        return np.any([(low <= self.axis) & (self.axis <= high) for low, high in intervals], axis=0)

    def table(self) -> pd.DataFrame:
        """Return one row per class and channel: position, mean spectrum, and each attribution."""
        tables = [
            pd.DataFrame(
                {
                    "class": name,
                    self.kind: self.axis,
                    "mean": self.mean[i],
                    **{method: values[i] for method, values in self.maps.items()},
                }
            )
            for i, name in enumerate(self.classes)
        ]
        return pd.concat(tables, ignore_index=True)

    def bands(self, bands: Sequence[Band] = TISSUE_BANDS) -> pd.DataFrame:
        """Return the share of each class's attribution in named bands, beside the share of the channels there."""
        rows = [
            {
                "band": band.name,
                "class": name,
                "channels": float(self.inside([(band.low, band.high)]).mean()),
                **{method: float(self.share(method, [(band.low, band.high)])[i]) for method in self.maps},
            }
            for band in bands
            for i, name in enumerate(self.classes)
        ]
        return pd.DataFrame(rows)


def explain(
    run: Run | str | os.PathLike[str],
    *,
    study: str | os.PathLike[str] | Study | None = None,
    methods: Sequence[Method] = METHODS,
    n_spectra: int = 100,
    seed: int = 0,
) -> Explanation:
    """Explain a run by the channels that its network looks at in held-out spectra that it tells right.

    Attributions by class, table and figure are written into the run's folder; a report made later shows the figure.

    Parameters
    ----------
    run
        A finished run on spectra, or its folder; of a run of folds every fold is explained and the maps are averaged.
    study
        Where the study is now, if it has moved.
    methods
        Some of ``"gradcam"``, ``"integrated_gradients"`` and ``"occlusion"``.
    n_spectra
        The most of each class and fold; they are drawn from all held-out spectra.
    seed
        Of the draw.

    Raises
    ------
    UsageError
        A run on patches, or whose network sees no channels (principal components, say); an unknown method; or a class
        of which no held-out spectrum is told right.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if unknown := sorted(set(methods) - set(METHODS)):
        raise UsageError(f"there is no method {unknown[0]!r}: choose some of {', '.join(METHODS)}")
    if run.recipe.patches:
        raise UsageError(f"{run.path} is a run on patches: attributions to channels need a run on spectra")
    study = study if isinstance(study, Study) else open_study(study or run.info["study"]["path"])
    parts = [_explain_one(one, study, methods, n_spectra, seed) for one in run.folds or [run]]
    found = _average(parts)
    _write(run, found)
    return found


def _explain_one(run: Run, study: Study, methods: Sequence[Method], n_spectra: int, seed: int) -> Explanation:
    recipe, device = run.recipe, choose_device(run.recipe.train.device)
    split = resolve_split(recipe.data, study.samples, seed=run.info["seed"])
    features = _features(run, study, split)
    model = build_model(
        recipe.model.name,
        n_channels=len(features.names),
        n_classes=len(split.classes),
        **recipe.model.options,
    )
    if not (run.path / WEIGHTS).is_file():
        raise UsageError(f"{run.path} has no {WEIGHTS}: its first epoch did not end, so train it again")
    model.load_state_dict(torch.load(run.path / WEIGHTS, map_location="cpu", weights_only=True))
    spectra, labels = _told_right(model.to(device).eval(), features, split, n_spectra, seed, device)
    baseline = torch.stack([spectra[labels == i].mean(dim=0) for i in range(len(split.classes))]).mean(dim=0)
    of_class = [(labels == i).cpu().numpy() for i in range(len(split.classes))]
    maps: dict[str, NDArray[np.float64]] = {}
    for method in methods:
        values = attribute(model, spectra, labels, method=method, baseline=baseline)
        maps[method] = np.stack([values[mask].mean(axis=0, dtype=np.float64) for mask in of_class])
    channels = features.pipeline.channels_out()
    return Explanation(
        channels.kind,
        channels.values,
        split.classes,
        tuple(int(mask.sum()) for mask in of_class),
        np.stack([spectra.cpu().numpy()[mask].mean(axis=0, dtype=np.float64) for mask in of_class]),
        maps,
    )


def _features(run: Run, study: Study, split: Split) -> Features:
    recipe, seed = run.recipe, run.info["seed"]
    pipeline = Pipeline.load(run.path / PIPELINE, name=recipe.pipeline.name)
    if not pipeline.channels_out().on_axis:
        raise UsageError(
            f"the network of {run.path} sees {', '.join(pipeline.get_feature_names_out()[:3])}, ..., which are no "
            f"channels: explain a run whose pipeline ends in channels"
        )
    draw = PatchDraw(1, recipe.data.test_fraction, seed) if split.by_patch else None
    assert recipe.spectra is not None  # a run on patches was refused
    # With a limit the held-out spectra come in random order, and not slide by slide.
    drawn = replace(recipe, spectra=replace(recipe.spectra, test_limit=max(1, recipe.spectra.test_limit)))
    masks = load_masks(run.path, recipe)
    own = relabel(study, split, recipe.data, draw=draw, masks=make_masks(masks, study, split.test))
    return Features(drawn, own, pipeline, None, "", masks=masks)


def _told_right(
    model: nn.Module, features: Features, split: Split, n: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return up to ``n`` held-out spectra of each class that are told right, and their classes."""
    stream = features.stream(split.test, seed=seed, training=False)
    class_of = torch.tensor(split.indices(stream.slides))
    found: list[list[Tensor]] = [[] for _ in split.classes]
    missing = np.full(len(split.classes), n)
    for batch in stream:
        real = batch["weight"] > 0
        spectra, labels = batch["spectra"][real], class_of[batch["slide"][real]]
        with torch.inference_mode():
            right = model(spectra.to(device)).argmax(dim=1).cpu() == labels
        for index in np.flatnonzero(missing):
            chosen = spectra[right & (labels == index)][: missing[index]]
            found[index].append(chosen.clone())
            missing[index] -= len(chosen)
        if not missing.any():
            break
    lacking = [name for name, left in zip(split.classes, missing, strict=True) if left == n]
    if lacking:
        raise UsageError(
            f"no held-out spectrum of class {lacking[0]!r} was told right, so there is nothing to explain: train "
            f"longer, or look at the confusion matrix first"
        )
    each = [torch.cat(parts) for parts in found]
    labels = torch.cat([torch.full((len(part),), index) for index, part in enumerate(each)])
    return torch.cat(each).to(device), labels.to(device)


def _average(parts: Sequence[Explanation]) -> Explanation:
    """Return the mean over folds, each of a class weighted by its spectra."""
    n = np.array([part.n_spectra for part in parts])
    weights = (n / n.sum(axis=0))[..., None]
    maps = {name: np.sum(weights * [part.maps[name] for part in parts], axis=0) for name in parts[0].maps}
    mean = np.sum(weights * [part.mean for part in parts], axis=0)
    first = parts[0]
    for part in parts[1:]:
        if not np.array_equal(part.axis, first.axis):
            raise UsageError(
                "the folds selected different channels, so their maps cannot be averaged: explain each fold's folder "
                "by itself"
            )
    return replace(first, n_spectra=tuple(n.sum(axis=0).tolist()), mean=mean, maps=maps)


def _write(run: Run, found: Explanation) -> None:
    folder = run.path / EXPLANATION
    folder.mkdir(exist_ok=True)
    with replacing(folder / ATTRIBUTIONS) as partial:
        found.table().to_csv(partial, index=False, float_format="%.6g")
    bands: Any = ()
    if found.kind == "wavenumber":
        bands = TISSUE_BANDS
        with replacing(folder / "bands.csv") as partial:
            found.bands().to_csv(partial, index=False, float_format="%.4g")
    save_figure(attribution_figure(found, bands), run.path / FIGURES, EXPLANATION)
