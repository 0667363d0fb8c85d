from __future__ import annotations

import pytest
import torch
from torch import nn

from msicube.errors import RecipeError
from msicube.models import MODELS, Provenance, SpectrumCNN, build_model, provenance


class Linear(nn.Module):
    """A network of a user's own."""

    def __init__(self, *, n_channels: int, n_classes: int, bias: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(n_channels, n_classes, bias=bias)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.layer(spectra)


def no_network(**_: object) -> str:
    return "nothing"


@pytest.mark.parametrize("name", MODELS)
def test_every_short_name_builds(name: str) -> None:
    options = {"weights": "random"} if name == "resnet18" else {}
    assert isinstance(build_model(name, n_channels=3, n_classes=2, **options), nn.Module)


def test_a_network_of_ones_own_is_one_line() -> None:
    model = build_model(f"{__name__}:Linear", n_channels=4, n_classes=2, bias=False)
    assert isinstance(model, Linear)
    assert model.layer.bias is None
    assert provenance(model) == Provenance("random", "", ("all",))


def test_options_reach_the_network() -> None:
    model = build_model("cnn1d", n_channels=16, n_classes=2, dropout=0.1, hidden=8)
    assert isinstance(model, SpectrumCNN)
    assert model.classifier[0].out_features == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "did you mean 'resnet18'"),
        ("no_such_package:Net", {}, "cannot be imported"),
        (f"{__name__}:Absent", {}, "cannot be imported"),
        (f"{__name__}:no_network", {}, "gave a str"),
        (f"{__name__}:__name__", {}, "is a str"),
        ("cnn1d", {"droput": 0.5}, "did you mean 'dropout'"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model(name, n_channels=3, n_classes=2, **options)
