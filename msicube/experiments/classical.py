"""Classifiers that are fitted at once, in the place of a network: drawing their sample, and one epoch of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import RecipeError, UsageError
from msicube.experiments.recipe import Recipe
from msicube.models import FittedAtOnce, find_model


def fitted_at_once(recipe: Recipe) -> bool:
    """Return whether the model of a recipe is fitted at once and not epoch by epoch."""
    factory = find_model(recipe.model.name, recipe.model.options)
    return isinstance(factory, type) and issubclass(factory, FittedAtOnce)


def with_one_epoch(recipe: Recipe) -> Recipe:
    """Return a recipe whose epochs are one where its model is fitted at once; any other comes back as it is.

    Raises
    ------
    RecipeError
        Such a model, and samples that are patches.
    """
    if not fitted_at_once(recipe):
        return recipe
    if recipe.patches:
        raise RecipeError(f"model {recipe.model.name!r} takes spectra: give [spectra] instead of [patches]")
    return replace(recipe, train=replace(recipe.train, epochs=1))


def fit_at_once(
    model: FittedAtOnce,
    batches: Iterable[Mapping[str, Tensor]],
    target_of: Tensor,
    *,
    n_samples: int,
    seed: int,
    device: torch.device,
) -> dict[str, float]:
    """Fit a model on a sample of an epoch's spectra.

    Every spectrum of the epoch, which is shuffled and balanced as for a network, is as likely to be in the sample, so
    that all slides are in it however they lie on the disk. One pass is made; memory is that of the sample.

    Parameters
    ----------
    model
        Is fitted on the CPU.
    batches
        With ``spectra``, ``slide`` and ``weight``.
    target_of
        ``(n_slides,)``: the class of each slide that ``slide`` counts.
    n_samples
        Spectra of the epoch, as far as is known.
    seed
        Of the draw and of the fit.
    device
        Where the fitted model goes.

    Returns
    -------
    dict
        ``loss`` and ``accuracy`` on the sample, and ``n_spectra`` of it.

    Raises
    ------
    UsageError
        The epoch has no spectrum.
    """
    spectra, labels = draw_sample(
        batches, target_of, at_most=model.max_samples, n_samples=n_samples, seed=seed
    )
    model.fit(spectra, labels, seed=seed)
    model.to(device).eval()
    with torch.inference_mode():
        parts = torch.from_numpy(spectra).split(1024)
        logits = torch.cat([model(part.to(device)).float().cpu() for part in parts])
    target = torch.from_numpy(labels)
    return {
        "loss": float(nn.functional.cross_entropy(logits, target)),
        "accuracy": float((logits.argmax(dim=1) == target).float().mean()),
        "n_spectra": len(labels),
    }


def draw_sample(
    batches: Iterable[Mapping[str, Tensor]], target_of: Tensor, *, at_most: int, n_samples: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return spectra ``(n, n_channels)`` of an epoch and their classes, each as likely to be drawn.

    Parameters
    ----------
    batches, target_of, n_samples, seed
        As for :func:`fit_at_once`.
    at_most
        How many to draw.
    """
    rng = np.random.default_rng([seed, 0xC1A5])
    chosen = np.zeros(n_samples, bool)
    chosen[rng.choice(n_samples, min(at_most, n_samples), replace=False)] = True
    spectra: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    seen = 0
    for batch in batches:
        real = batch["weight"] > 0
        n = int(real.sum())
        inside = chosen[seen : seen + n]
        seen += n
        spectra.append(batch["spectra"][real].numpy()[: len(inside)][inside])
        labels.append(target_of[batch["slide"][real]].numpy()[: len(inside)][inside])
    if not sum(map(len, labels)):
        raise UsageError(
            "the training slides gave no spectrum to fit on: look at data.where and spectra.limit"
        )
    return np.concatenate(spectra), np.concatenate(labels)
