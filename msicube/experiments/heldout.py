"""A run's network with the held-out samples that it was scored on, for what comes after the training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from msicube.bytesize import parse_bytes
from msicube.errors import UsageError
from msicube.experiments.features import Features
from msicube.experiments.masks import make_masks
from msicube.experiments.prediction import load_network
from msicube.experiments.relabelled import relabel
from msicube.experiments.run import PREDICTIONS, Run
from msicube.experiments.seen import patch_draw
from msicube.experiments.split import Split, resolve_split
from msicube.experiments.torch_settings import choose_device
from msicube.store import Study

if TYPE_CHECKING:
    from msicube.stream.base import Batch

#: Share of the stream's budget that one batch may take.
BATCH_SHARE = 8
_FIELD = 21  # bits of a row and of a column in the number of a place


@dataclass(frozen=True)
class HeldOut:
    """A run that can be asked again.

    Attributes
    ----------
    run
        Finished, or as of its last epoch.
    split
        Its own.
    features
        Its pipeline, and the study under its labels and split.
    model
        In evaluation mode, on ``device``.
    device
        As the recipe says.
    """

    run: Run
    split: Split
    features: Features
    model: nn.Module
    device: torch.device

    def samples(self, places: pd.DataFrame, features: Features | None = None) -> Iterator[Batch]:
        """Yield some of the held-out samples, batch by batch, in the order of their stream.

        Parameters
        ----------
        places
            Columns ``slide``, ``y`` and ``x``, as in the run's predictions.
        features
            What to make of them; what the network sees by default.

        Yields
        ------
        dict
            As the stream does, without padding; ``"row"`` is the place of each sample in ``places``.

        Raises
        ------
        UsageError
            The study does not have all of them any more.
        """
        source = _unlimited(features or self.features)
        stream = source.stream(self.stream_slides(places), seed=self.run.info["seed"], training=False)
        number = {slide: i for i, slide in enumerate(stream.slides)}
        wanted = _packed(*(np.asarray(v) for v in (places["slide"].map(number), places["y"], places["x"])))
        order = np.argsort(wanted)
        missing = len(wanted)
        for batch in stream:
            found = _packed(*(batch[name].numpy() for name in ("slide", "y", "x")))
            at = np.minimum(np.searchsorted(wanted, found, sorter=order), len(wanted) - 1)
            keep = torch.from_numpy((wanted[order[at]] == found) & (batch["weight"].numpy() > 0))
            if keep.any():
                part = {name: values[keep] for name, values in batch.items()}
                missing -= int(keep.sum())
                yield {**part, "row": torch.from_numpy(order[at])[keep]}
            if not missing:
                return
        raise UsageError(
            f"{missing} of {len(wanted)} held-out samples of {self.run.path} are not in {self.features.study.path} "
            f"any more: give the study that the run was trained on, unchanged"
        )

    def stream_slides(self, places: pd.DataFrame) -> list[str]:
        """Return the slides that :meth:`samples` reads: what the numbers in ``batch["slide"]`` stand for."""
        # All slides for spectra: with some of them the order were another than that in which they were scored.
        return sorted(set(places["slide"])) if self.run.recipe.patches else list(self.split.test)


def open_held_out(run: Run, study: Study) -> HeldOut:
    """Load a run's network, its pipeline and its split.

    Raises
    ------
    UsageError
        The run has not finished an epoch.
    """
    recipe, device = run.recipe, choose_device(run.recipe.train.device)
    split = resolve_split(recipe.data, study.samples, seed=run.info["seed"])
    draw = patch_draw(recipe, run.info["seed"]) if split.by_patch else None
    if not (run.path / PREDICTIONS).is_file():
        raise UsageError(f"{run.path} has no {PREDICTIONS}: its first epoch did not end, so train it again")
    network = load_network(run, device)
    masks = make_masks(network.masks, study, split.test)
    own = relabel(study, split, recipe.data, draw=draw, masks=masks)
    features = Features(recipe, own, network.pipeline, None, "", masks=network.masks)
    return HeldOut(run, split, features, network.model, device)


def pick_samples(predictions: pd.DataFrame, n: int, *, seed: int) -> pd.DataFrame:
    """Draw up to ``n`` samples of each class, its patients as equally as they can be.

    Parameters
    ----------
    predictions
        Columns ``label`` and ``patient``.
    n
        Of each class; a class that has fewer gives all of its own.
    seed
        Of the draw.

    Returns
    -------
    DataFrame
        The chosen rows, in their order.
    """
    shuffled = predictions.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(["label", "patient"]).cumcount()
    # In turns over the patients: a patient of few samples gives them all, and the others make up for it.
    ranked = shuffled.assign(_turn=turn).sort_values("_turn", kind="stable")
    chosen = ranked.groupby("label").head(n).index
    return predictions.loc[chosen.sort_values()]


def _unlimited(features: Features) -> Features:
    """Return features of which a stream has all patches, in batches small enough for it, whatever their channels.

    Spectra stay as they are: their order goes by the size of a batch, and those that were scored come first.
    """
    recipe, patches = features.recipe, features.recipe.patches
    if patches is None:
        return features
    channels = features.pipeline.n_features_in_ if features.variable else len(features.names)
    room = parse_bytes(recipe.train.memory) // BATCH_SHARE
    size = max(1, min(recipe.train.batch_size, room // (4 * channels * patches.size**2)))
    changed = replace(
        recipe, patches=replace(patches, test_limit=0), train=replace(recipe.train, batch_size=size)
    )
    return replace(features, recipe=changed)


def _packed(slide: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for each place."""
    return (slide.astype(np.int64) << 2 * _FIELD) | (y.astype(np.int64) << _FIELD) | x.astype(np.int64)
