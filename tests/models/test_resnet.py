from __future__ import annotations

import logging
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from msicube.errors import CorruptSource, RecipeError
from msicube.models import PatchResNet18, provenance
from msicube.models._torchvision import import_torchvision


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-18 as torchvision would save them."""
    torch.manual_seed(7)
    network = import_torchvision().models.resnet18(weights=None)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.1, 0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.save(network.state_dict(), path)
    return path


def one_step(model: nn.Module, n_channels: int) -> dict[str, torch.Tensor]:
    """Train one step and return the state before it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    loss = nn.functional.cross_entropy(model(torch.rand(4, n_channels, 32, 32)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimizer.step()
    return before


def changed_parts(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    state = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, state[name])}
    return {name.split(".")[1] if name.startswith("network.") else "head" for name in changed}


def test_given_weights_are_loaded_and_only_layer_4_and_the_head_are_trained(weights: Path) -> None:
    model = PatchResNet18(n_channels=3, n_classes=2, weights=str(weights))
    saved = torch.load(weights, weights_only=True)
    assert torch.equal(model.network.conv1.weight, saved["conv1.weight"])
    assert changed_parts(model, one_step(model, 3)) == {"layer4", "head"}
    assert provenance(model).trained == ("layer4", "head")
    assert provenance(model).weights == str(weights)


def test_random_weights_are_trained_whole() -> None:
    model = PatchResNet18(n_channels=3, n_classes=3, weights="random")
    changed = changed_parts(model, one_step(model, 3))
    assert changed == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head"}
    assert provenance(model).trained == ("all",)


def test_from_random_weights_the_running_statistics_settle_in_a_few_steps() -> None:
    torch.manual_seed(0)
    model = PatchResNet18(n_channels=3, n_classes=2, weights="random").train()
    patches = 5 + torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        mean = model.network.conv1(patches).mean(dim=(0, 2, 3))
        for _ in range(10):
            model(patches)
    torch.testing.assert_close(model.network.bn1.running_mean, mean, rtol=0.05, atol=0.01)


def test_other_channels_make_a_new_first_convolution_and_say_so(weights: Path) -> None:
    model = PatchResNet18(n_channels=5, n_classes=2, weights=str(weights))
    saved = torch.load(weights, weights_only=True)["conv1.weight"]
    torch.testing.assert_close(model.network.conv1.weight.sum(dim=1), saved.sum(dim=1))
    assert changed_parts(model, one_step(model, 5)) == {"conv1", "layer4", "head"}
    assert "5 channels" in provenance(model).note


def test_dropout_stands_before_the_head(weights: Path) -> None:
    model = PatchResNet18(n_channels=3, n_classes=2, dropout=0.25, weights=str(weights))
    assert isinstance(model.head[0], nn.Dropout)
    assert model.head[0].p == 0.25
    patches = torch.rand(2, 3, 32, 32)
    assert not torch.equal(model.train()(patches), model(patches))
    assert torch.equal(model.eval()(patches), model(patches))


def test_imagenet_weights_come_from_the_cache(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Path(import_torchvision().models.ResNet18_Weights.IMAGENET1K_V1.url).name
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(weights.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = PatchResNet18(n_channels=3, n_classes=2)
    assert torch.equal(model.network.conv1.weight, torch.load(weights, weights_only=True)["conv1.weight"])
    assert provenance(model).weights == "imagenet"


def test_without_a_network_one_line_says_that_all_layers_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with caplog.at_level(logging.WARNING, logger="msicube"):
        model = PatchResNet18(n_channels=3, n_classes=2)
    assert len(caplog.messages) == 1
    assert "no route to host" in caplog.messages[0]
    assert "training all layers" in caplog.messages[0]
    assert provenance(model).weights == "random"
    assert provenance(model).trained == ("all",)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'nowhere\.pt' is no file"):
        PatchResNet18(n_channels=3, n_classes=2, weights="nowhere.pt")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(b"not weights")
    with pytest.raises(CorruptSource, match="holds no weights"):
        PatchResNet18(n_channels=3, n_classes=2, weights=str(path))
    torch.save({"layer": torch.zeros(2)}, path)
    with pytest.raises(CorruptSource, match="not those of torchvision's ResNet-18"):
        PatchResNet18(n_channels=3, n_classes=2, weights=str(path))
    torch.save({"conv1.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CorruptSource, match="do not fit a ResNet-18"):
        PatchResNet18(n_channels=3, n_classes=2, weights=str(path))
