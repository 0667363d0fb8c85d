"""What a network makes of held-out samples before it decides: t-SNE of its penultimate layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.experiments.heldout import HeldOut, open_held_out, pick_samples
from msicube.experiments.run import EMBEDDING, Run, open_run, replacing
from msicube.store import Study, open_study

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Samples that are drawn: enough to see groups, few enough to see points, and seconds of work.
N_SAMPLES = 800
#: Neighbours that t-SNE keeps near, and the fewest samples for which that means anything.
PERPLEXITY, LEAST = 30, 8


def embed(
    run: Run | str | os.PathLike[str],
    *,
    study: str | os.PathLike[str] | Study | None = None,
    n_samples: int = N_SAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Lay held-out samples out by what the network's penultimate layer makes of them.

    Written as ``tsne.csv`` into the run's folder, from which a report draws the figure. Of a run of folds each fold
    gets its own: their networks differ, and so do the spaces of their layers.

    Parameters
    ----------
    run
        A finished run or its folder.
    study
        Where the study is now, if it has moved.
    n_samples
        The most of each run or fold, the classes and within them the patients as equally as they can be.
    seed
        Of the draw and of t-SNE.

    Returns
    -------
    DataFrame
        ``slide``, ``patient``, ``y``, ``x``, ``label``, ``predicted``, ``tsne_1``, ``tsne_2``; of folds also ``fold``.

    Raises
    ------
    UsageError
        The run has no results, fewer than eight samples, or a network without a layer that :func:`penultimate` finds.

    References
    ----------
    Van der Maaten and Hinton, J. Mach. Learn. Res. 9 (2008) 2579.
    """
    run = run if isinstance(run, Run) else open_run(run)
    study = study if isinstance(study, Study) else open_study(study or run.info["study"]["path"])
    if folds := run.folds:
        tables = [embed(fold, study=study, n_samples=n_samples, seed=seed) for fold in folds]
        return pd.concat(
            [table.assign(fold=number) for number, table in enumerate(tables, start=1)], ignore_index=True
        )
    held_out = open_held_out(run, study)
    chosen = pick_samples(run.predictions, -(-n_samples // len(held_out.split.classes)), seed=seed)
    if len(chosen) < LEAST:
        raise UsageError(
            f"{run.path} has {len(chosen)} held-out samples: expected at least {LEAST} for t-SNE; hold out more slides"
        )
    layout = tsne(embeddings(held_out, chosen), seed=seed)
    table = chosen[["slide", "patient", "y", "x", "label", "predicted"]].reset_index(drop=True)
    table = table.assign(tsne_1=layout[:, 0], tsne_2=layout[:, 1])
    with replacing(run.path / EMBEDDING) as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    return table


def embeddings(held_out: HeldOut, places: pd.DataFrame) -> NDArray[np.float32]:
    """Return the penultimate layer's ``(n, width)`` values of samples.

    Parameters
    ----------
    held_out
        A run.
    places
        Columns ``slide``, ``y`` and ``x`` of its held-out samples.
    """
    found: NDArray[np.float32] | None = None
    for batch in held_out.samples(places):
        inputs = batch[held_out.features.key].to(held_out.device)
        with torch.inference_mode():
            values = penultimate(held_out.model, inputs).float().cpu().numpy()
        if found is None:
            found = np.empty((len(places), values.shape[1]), np.float32)
        found[batch["row"].numpy()] = values
    assert found is not None  # there is a sample, and all were found
    return found


def penultimate(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what goes into the last layer of a network.

    The last layer is that which the network names in an attribute ``embedding_layer``, or else the ``torch.nn.Linear``
    that is called last.

    Parameters
    ----------
    model
        In evaluation mode.
    inputs
        ``(n, ...)`` as the network takes them.

    Returns
    -------
    Tensor
        ``(n, width)``.

    Raises
    ------
    UsageError
        There is no such layer, or what goes into it is no ``(n, width)``.
    """
    own = getattr(model, "embedding_layer", None)
    layers: Sequence[nn.Module] = [own] if isinstance(own, nn.Module) else _linear_layers(model)
    seen: dict[str, Tensor] = {}

    def remember(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen["last"] = args[0]

    handles = [layer.register_forward_pre_hook(remember) for layer in layers]
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    name = type(model).__name__
    if "last" not in seen:
        raise UsageError(
            f"{name} calls no torch.nn.Linear: give it an attribute embedding_layer, the layer whose input is to be "
            f"looked at"
        )
    if seen["last"].ndim != 2 or len(seen["last"]) != len(inputs):
        raise UsageError(
            f"the last layer of {name} takes {tuple(seen['last'].shape)} of {len(inputs)} samples, expected (n, "
            f"width): give the network an attribute embedding_layer, the layer whose input is to be looked at"
        )
    return seen["last"]


def tsne(values: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Return ``(n, 2)`` places of ``(n, width)`` values; one seed gives one picture.

    The start is the first two principal components, so that groups that lie far apart stay so. One thread works: its
    sums do not depend on the machine's number of processors.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    with threadpool_limits(1, user_api="openmp"):
        layout: NDArray[np.float32] = TSNE(
            perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed
        ).fit_transform(values)
    return layout


def _linear_layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
