from __future__ import annotations

import pytest
import torch
from torch import nn

from msicube.errors import RecipeError
from msicube.models import CaReNet, PatchResNet18, SpectrumCNN
from msicube.models.decoders import build_decoder
from msicube.models.encoding import (
    encode,
    encoder_parts,
    encoder_state,
    freeze_encoder,
    load_encoder,
    rest_frozen,
)

NETWORKS = [
    (SpectrumCNN(n_channels=50, n_classes=3), (50,)),
    (CaReNet(n_channels=45, n_classes=2, width=(4, 8), hidden=8), (45,)),
    (PatchResNet18(n_channels=4, n_classes=2, weights="random"), (4, 20, 20)),
]


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_the_logits_follow_from_the_encoder_and_the_head_alone(
    network: nn.Module, shape: tuple[int, ...]
) -> None:
    """What is not called an encoder does not change the features, and what is changes the logits."""
    batch = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    network.eval()
    with torch.no_grad():
        features, logits = encode(network, batch), network(batch)
        for name, part in network.named_children():
            if name not in encoder_parts(network):
                for weight in part.parameters():
                    weight.add_(1.0)
        assert torch.equal(encode(network, batch), features)
        assert not torch.equal(network(batch), logits)
    wanted = {name.partition(".")[0] for name in encoder_state(network)}
    assert wanted == set(encoder_parts(network))


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_a_decoder_gives_samples_back(network: nn.Module, shape: tuple[int, ...]) -> None:
    features = encode(network.eval(), torch.zeros(2, *shape))
    decoder = build_decoder(features.shape, shape)
    assert decoder(features).shape == (2, *shape)
    assert build_decoder(torch.Size((2, 7)), shape)(torch.zeros(2, 7)).shape == (2, *shape)
    with pytest.raises(RecipeError, match=r"gave features of shape .* expected \(n, d\) or"):
        build_decoder(torch.Size((2, 1, 1, 1, 1)), shape)


def test_weights_are_loaded_by_name_and_shape() -> None:
    source = SpectrumCNN(n_channels=50, n_classes=2)
    state = encoder_state(source)
    target = SpectrumCNN(n_channels=80, n_classes=4)
    found = load_encoder(target, state)
    assert set(found.loaded) == set(state)
    assert not found.fresh
    assert all(torch.equal(target.state_dict()[name], value) for name, value in state.items())

    wider = SpectrumCNN(n_channels=50, n_classes=2, width=(16, 32, 8))
    found = load_encoder(wider, state)
    assert found.fresh == tuple(
        name for name in state if name.startswith("features.2.") and "num" not in name
    )
    assert set(found.unused) == set(found.fresh)


def test_weights_of_another_network_are_refused() -> None:
    state = encoder_state(SpectrumCNN(n_channels=50, n_classes=2))
    with pytest.raises(RecipeError, match="none of the weights fits CaReNet: they are those of features"):
        load_encoder(CaReNet(n_channels=50, n_classes=2), state)
    with pytest.raises(RecipeError, match=r"features.0.0.weight is \(16, 1, 5\) there and \(8, 1, 3\) here"):
        load_encoder(SpectrumCNN(n_channels=50, n_classes=2, width=(8, 9), kernel=3), state)


def test_a_network_must_say_what_its_encoder_is() -> None:
    with pytest.raises(RecipeError, match="Linear cannot be pretrained: give it encoder_parts"):
        encoder_parts(nn.Linear(2, 2))
    network = SpectrumCNN(n_channels=50, n_classes=2)
    network.encoder_parts = ("feature",)
    with pytest.raises(RecipeError, match="names 'feature', which is no part of it"):
        encoder_parts(network)


def test_a_frozen_encoder_stays_as_it_is_while_the_head_is_trained() -> None:
    network = SpectrumCNN(n_channels=50, n_classes=2)
    freeze_encoder(network)
    network.train()
    rest_frozen(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([w for w in network.parameters() if w.requires_grad], lr=0.1)
    network(torch.rand(8, 50)).sum().backward()
    optimizer.step()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("features."), name
    assert network.classifier.training
