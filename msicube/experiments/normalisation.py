"""Statistics of batch normalisation as the trained weights have them, not as they were on the way there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Batches that the statistics are taken from, at most.
N_BATCHES = 32


def renew_statistics(
    model: nn.Module, batches: Iterable[Mapping[str, Tensor]], *, key: str, device: torch.device
) -> int:
    """Take the means and variances of batch normalisation anew, over training batches and with the weights as they are.

    The running averages that training leaves lag behind weights that still move fast: a network may then tell the
    spectra that it was trained on no better than chance. Averages over some batches of one and the same network do not
    lag ("precise" statistics: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, 2021).

    Parameters
    ----------
    model
        As training leaves it: layers in evaluation mode are frozen, and stay as they are.
    batches
        Of the training samples, shuffled; at most :data:`N_BATCHES` are read.
    key
        Of the samples in a batch.
    device
        Of the network.

    Returns
    -------
    int
        How many layers were renewed. The network is in evaluation mode afterwards.
    """
    norms = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
    ]
    momenta = [layer.momentum for layer in norms]
    model.eval()  # no dropout: evaluation has none
    if not norms:
        return 0
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over the batches
        layer.train()
    with torch.no_grad():
        for batch in islice(batches, N_BATCHES):
            real = batch["weight"] > 0
            if int(real.sum()) > 1:  # one value per channel has no variance
                model(batch[key][real].to(device))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return len(norms)
