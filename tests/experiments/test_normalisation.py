"""Statistics of batch normalisation that belong to the weights, and not to the way there."""

from __future__ import annotations

import torch
from torch import nn

from msicube.experiments.normalisation import renew_statistics


def batches(n: int) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [
        {"spectra": 3 + 2 * torch.randn(64, 5, generator=draw), "weight": torch.ones(64)} for _ in range(n)
    ]


def test_they_are_those_of_the_batches_with_the_weights_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    network.train()
    samples = batches(8)
    with torch.no_grad():
        for batch in samples:  # running averages of other weights
            network(batch["spectra"])
        network[0].weight.mul_(10)
        features = network[0](torch.cat([batch["spectra"] for batch in samples]))
    assert renew_statistics(network, samples, key="spectra", device=torch.device("cpu")) == 1
    norm = network[2]
    torch.testing.assert_close(norm.running_mean, features.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_var, features.var(dim=0), rtol=0.05, atol=0)
    assert norm.momentum == 0.1
    assert not any(layer.training for layer in network.modules())


def test_padding_does_not_count_and_frozen_layers_stay() -> None:
    network = nn.Sequential(nn.BatchNorm1d(5), nn.BatchNorm1d(5)).train()
    network[0].eval()
    (batch,) = batches(1)
    padded = {
        "spectra": torch.cat([batch["spectra"], torch.full((64, 5), 1e6)]),
        "weight": torch.cat([torch.ones(64), torch.zeros(64)]),
    }
    assert renew_statistics(network, [padded], key="spectra", device=torch.device("cpu")) == 1
    torch.testing.assert_close(network[0].running_mean, torch.zeros(5))
    expected = network[0](batch["spectra"]).mean(dim=0)
    torch.testing.assert_close(network[1].running_mean, expected.detach(), rtol=1e-4, atol=1e-4)
