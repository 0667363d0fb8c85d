"""What a run's network looks at: attributions of held-out samples to channels, averaged by class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from msicube.bytesize import format_bytes
from msicube.errors import UsageError
from msicube.experiments.attribution import METHODS, WINDOW, Method, attribute
from msicube.experiments.bands import TISSUE_BANDS, Band
from msicube.experiments.channel_view import ChannelView, acquired_of, channel_view
from msicube.experiments.figures import attribution_figure, save_figure, strongest_figure
from msicube.experiments.heldout import HeldOut, open_held_out, pick_samples
from msicube.experiments.run import FIGURES, Run, open_run, replacing
from msicube.store import Study, open_study

ATTRIBUTIONS, EXPLANATION, STRONGEST = "attributions.csv", "explanation", "strongest"
#: Samples of each class and run, by default; a patch is a thousand spectra.
N_SPECTRA, N_PATCHES = 100, 40
#: Patches that integrated gradients start from.
N_REFERENCES = 4
#: Width of an occluded window. Neighbouring wavenumbers are one band; selected m/z beside each other are not.
WINDOWS = {"wavenumber": WINDOW, "mz": 1 / 300}
#: The most that the samples may take in memory, and the channels that are listed for a class and method.
MOST_BYTES, N_STRONGEST = 2**30, 20


@dataclass(frozen=True)
class Explanation:
    """Attributions by class.

    Attributes
    ----------
    kind
        ``"wavenumber"`` (cm^-1) or ``"mz"``.
    axis
        ``(n_channels,)``: the position of each channel that the network sees, or that what it sees is made of.
    classes
        In the order of the first axis of what follows.
    n_samples
        Of each class, spectra or patches that were averaged: held out, and told right.
    mean
        ``(n_classes, n_channels)``: their mean in these channels.
    maps
        Method to ``(n_classes, n_channels)``: mean attribution for the class. Grad-CAM is not negative; the others are
        negative where a channel speaks against the class. They have no unit; compare shapes.
    samples
        What was averaged: ``"spectra"`` or ``"patches"``.
    """

    kind: str
    axis: NDArray[np.float64]
    classes: tuple[str, ...]
    n_samples: tuple[int, ...]
    mean: NDArray[np.float64]
    maps: dict[str, NDArray[np.float64]]
    samples: str = "spectra"

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

    def strongest(self, n: int = N_STRONGEST) -> pd.DataFrame:
        """Return the ``n`` channels of the largest attribution, of each class and method, the largest first.

        ``share`` is a channel's part of all attribution, without its sign.
        """
        tables = []
        for method, values in self.maps.items():
            for name, row in zip(self.classes, values, strict=True):
                best = np.argsort(-np.abs(row), kind="stable")[:n]
                total = max(np.abs(row).sum(), np.finfo(float).tiny)
                columns = {
                    "class": name,
                    "method": method,
                    "rank": np.arange(1, len(best) + 1),
                    self.kind: self.axis[best],
                    "attribution": row[best],
                    "share": np.abs(row[best]) / total,
                }
                tables.append(pd.DataFrame(columns))
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
    methods: Sequence[Method] | None = None,
    n_samples: int | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain a run by the channels that its network looks at in held-out samples that it tells right.

    Where the pipeline ends in channels, those are what the network sees. Where it goes on, to principal components, the
    attributions go back through the scaling of each patch and through what follows the channels: they are to the m/z or
    wavenumbers that the pipeline chose.

    Attributions by class, the strongest channels and figures are written into the run's folder; a report made later
    shows the figures.

    Parameters
    ----------
    run
        A finished run or its folder; of a run of folds every fold is explained and the maps are averaged. A channel
        that a fold did not select counts as 0 there.
    study
        Where the study is now, if it has moved.
    methods
        Some of ``"gradcam"``, ``"integrated_gradients"`` and ``"occlusion"``; by default all that apply. Grad-CAM looks
        at a convolution along the channels, so it needs a network that takes spectra of channels.
    n_samples
        The most of each class and fold, drawn equally from its patients; by default 100 spectra or 40 patches.
    seed
        Of the draw.

    Raises
    ------
    UsageError
        An unknown method, or Grad-CAM where it means nothing; a class of which no held-out sample is told right; or
        more samples than fit into memory.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if unknown := sorted(set(methods or ()) - set(METHODS)):
        raise UsageError(f"there is no method {unknown[0]!r}: choose some of {', '.join(METHODS)}")
    study = study if isinstance(study, Study) else open_study(study or run.info["study"]["path"])
    n = n_samples or (N_PATCHES if run.recipe.patches else N_SPECTRA)
    found = _average([_explain_one(one, study, methods, n, seed) for one in run.folds or [run]])
    _write(run, found)
    return found


@dataclass(frozen=True)
class _Samples:
    """Samples of all classes, in channels: ``values``, ``labels``, and of patches the ``acquired`` pixels."""

    values: Tensor
    labels: Tensor
    acquired: Tensor | None

    def spectra(self) -> Tensor:
        """Return ``(n, channels)``: of a patch the mean over its pixels."""
        if self.acquired is None:
            return self.values
        inside = self.acquired[:, None].to(self.values.dtype)
        return (self.values * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3))

    def references(self, n_classes: int) -> Tensor | None:
        """Return the patches of each class that have the most tissue, as many of each."""
        if self.acquired is None:
            return None
        covered = self.acquired.sum(dim=(1, 2))
        each = max(1, N_REFERENCES // n_classes)
        of_class = [torch.nonzero(self.labels == code)[:, 0] for code in range(n_classes)]
        best = [places[covered[places].argsort(descending=True, stable=True)[:each]] for places in of_class]
        return self.values[torch.cat(best)]


def _explain_one(run: Run, study: Study, methods: Sequence[Method] | None, n: int, seed: int) -> Explanation:
    held_out = open_held_out(run, study)
    view, classes = channel_view(held_out), held_out.split.classes
    chosen = _methods(run, view, methods)
    samples = _told_right(held_out, view, n, seed)
    of_class = [(samples.labels == code).cpu().numpy() for code in range(len(classes))]
    spectra = samples.spectra().cpu().numpy().astype(np.float64)
    mean = np.stack([spectra[mask].mean(axis=0) for mask in of_class])
    baseline = torch.from_numpy(mean.mean(axis=0)).to(samples.values)
    maps: dict[str, NDArray[np.float64]] = {}
    for method in chosen:
        values = attribute(
            view.network,
            samples.values,
            samples.labels,
            method=method,
            baseline=baseline,
            acquired=samples.acquired,
            references=samples.references(len(classes)),
            window=WINDOWS[view.channels.kind],
        )
        maps[method] = np.stack([values[mask].mean(axis=0, dtype=np.float64) for mask in of_class])
    return Explanation(
        view.channels.kind,
        view.channels.values,
        classes,
        tuple(int(mask.sum()) for mask in of_class),
        mean,
        maps,
        held_out.features.key,
    )


def _methods(run: Run, view: ChannelView, methods: Sequence[Method] | None) -> Sequence[Method]:
    if methods is None:
        return METHODS if view.direct else [method for method in METHODS if method != "gradcam"]
    if "gradcam" in methods and not view.direct:
        raise UsageError(
            f"the network of {run.path} has no convolution along the channels, so Grad-CAM cannot tell of them: choose "
            f"integrated_gradients or occlusion"
        )
    return methods


def _told_right(held_out: HeldOut, view: ChannelView, n: int, seed: int) -> _Samples:
    """Return up to ``n`` held-out samples of each class that are told right."""
    run, split, patches = held_out.run, held_out.split, held_out.run.recipe.patches
    predictions = run.predictions
    right = predictions[predictions["label"] == predictions["predicted"]]
    if lacking := [name for name in split.classes if name not in set(right["label"])]:
        raise UsageError(
            f"no held-out sample of class {lacking[0]!r} was told right, so there is nothing to explain: train longer, "
            f"or look at the confusion matrix first"
        )
    places = pick_samples(right, n, seed=seed)
    shape = (view.channels.n, *([patches.size] * 2 if patches else []))
    n_bytes = 4 * len(places) * int(np.prod(shape))
    if n_bytes > MOST_BYTES:
        raise UsageError(
            f"{len(places)} samples of {view.channels.n} channels take {format_bytes(n_bytes)}, more than "
            f"{format_bytes(MOST_BYTES)}: take fewer samples, or select channels in the pipeline"
        )
    values = torch.empty((len(places), *shape))
    acquired = torch.ones((len(places), *shape[1:]), dtype=torch.bool) if patches else None
    for batch in held_out.samples(places, view.features):
        values[batch["row"]] = batch[held_out.features.key].float()
        if acquired is not None and patches:
            inside = acquired_of(held_out, held_out.stream_slides(places), batch, patches.size)
            acquired[batch["row"]] = torch.from_numpy(inside)
    codes = (
        places["label"]
        .map({name: code for code, name in enumerate(split.classes)})
        .to_numpy(np.int64, copy=True)
    )
    device = held_out.device
    return _Samples(
        values.to(device),
        torch.from_numpy(codes).to(device),
        None if acquired is None else acquired.to(device),
    )


def _average(parts: Sequence[Explanation]) -> Explanation:
    """Return the mean over folds, each of a class weighted by its samples, at the channels that any of them has."""
    axis = np.unique(np.concatenate([part.axis for part in parts]))
    at = [np.searchsorted(axis, part.axis) for part in parts]
    n = np.array([part.n_samples for part in parts])
    weights = n / n.sum(axis=0)

    def spread(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        whole = np.zeros((len(parts), len(parts[0].classes), len(axis)))
        for fold, (place, values) in enumerate(zip(at, rows, strict=True)):
            whole[fold][:, place] = values
        return whole

    there = spread([np.ones_like(part.mean) for part in parts]) * weights[..., None]
    mean = np.sum(there * spread([part.mean for part in parts]), axis=0) / there.sum(axis=0)
    maps = {
        name: np.sum(weights[..., None] * spread([part.maps[name] for part in parts]), axis=0)
        for name in parts[0].maps
    }
    return replace(parts[0], axis=axis, n_samples=tuple(n.sum(axis=0).tolist()), mean=mean, maps=maps)


def _write(run: Run, found: Explanation) -> None:
    folder = run.path / EXPLANATION
    folder.mkdir(exist_ok=True)
    tables = {ATTRIBUTIONS: found.table(), f"{STRONGEST}.csv": found.strongest()}
    bands: Any = ()
    if found.kind == "wavenumber":
        bands = TISSUE_BANDS
        tables["bands.csv"] = found.bands()
    for name, table in tables.items():
        with replacing(folder / name) as partial:
            table.to_csv(partial, index=False, float_format="%.8g")
    save_figure(attribution_figure(found, bands), run.path / FIGURES, EXPLANATION)
    if found.kind == "mz":
        save_figure(strongest_figure(found), run.path / FIGURES, STRONGEST)
