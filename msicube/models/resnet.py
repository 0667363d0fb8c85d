"""ResNet-18 on small patches, by transfer from ImageNet."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from msicube.errors import CorruptSource, RecipeError
from msicube.models._torchvision import import_torchvision
from msicube.models.registry import Provenance

_log = logging.getLogger(__name__)
#: Seconds to wait for an answer before the download of the ImageNet weights is given up.
PROBE_SECONDS = 10.0
#: Of the running statistics where they start from nothing. With torch's 0.1 they lag behind by 40 steps, which in a
#: small study is all of the training: held-out patches then look to the network like nothing that it has seen.
RANDOM_START_MOMENTUM = 0.3
_RGB = 3


class PatchResNet18(nn.Module):
    """ResNet-18 for ``(n, n_channels, size, size)`` patches, with dropout before the head.

    With given weights, layer 4 and the head are trained and everything else is frozen: its parameters take no gradient
    and its batch normalisation keeps the running statistics of the weights, also in training mode. Frozen random
    layers would be pointless, so a network that starts from random weights is trained whole; that includes the case
    that the ImageNet weights cannot be had, of which one line is logged and :attr:`provenance` tells. Patches go in as
    they are, in [0, 1]: the mean and deviation of ImageNet's colours mean nothing here.

    Parameters
    ----------
    n_channels
        Channels of a patch. Other than 3, the first convolution is made new, from given weights each filter the mean of
        its three colour filters scaled to keep the sum, and is trained as well.
    n_classes
        Logits.
    dropout
        Probability before the head.
    weights
        ``"imagenet"`` (torchvision's ``IMAGENET1K_V1``, downloaded once into torch's cache), ``"random"``, or the path
        of a file with the ``state_dict`` of torchvision's ResNet-18, with or without its ``fc``.

    Attributes
    ----------
    provenance : Provenance
        The weights in use, a note on them, and the parts that are trained.

    Raises
    ------
    RecipeError
        ``weights`` names no file.
    CorruptSource
        The file holds no weights of a ResNet-18.

    References
    ----------
    He, Zhang, Ren and Sun, CVPR (2016) 770.
    """

    encoder_parts = ("network",)

    def __init__(
        self, *, n_channels: int, n_classes: int, dropout: float = 0.5, weights: str = "imagenet"
    ) -> None:
        super().__init__()
        network = import_torchvision().models.resnet18(weights=None)
        state, note = _read_weights(weights)
        trained: tuple[str, ...] = ("all",)
        if state is not None:
            _load(network, state, weights)
            trained = ("layer4", "head")
        else:
            _set_momentum(network, RANDOM_START_MOMENTUM)
        if n_channels != _RGB:
            network.conv1 = _first_convolution(
                n_channels, network.conv1.weight if state is not None else None
            )
            note = "; ".join(filter(None, [note, f"new first convolution for {n_channels} channels"]))
            trained = trained if state is None else ("conv1", *trained)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, n_classes))
        network.fc = nn.Identity()
        self.network = network
        self.provenance = Provenance(weights if state is not None else "random", note, trained)
        self._freeze()

    def _freeze(self) -> None:
        trained = self.provenance.trained
        frozen = [
            m for name, m in self.network.named_children() if name not in trained and trained != ("all",)
        ]
        self._frozen_norms = [
            norm for part in frozen for norm in part.modules() if isinstance(norm, nn.BatchNorm2d)
        ]
        for part in frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> PatchResNet18:
        """Set training mode; frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def encode(self, patches: Tensor) -> Tensor:
        """Return the feature map of a batch of patches, ``(n, 512, size / 32, size / 32)``, rounded up."""
        network = self.network
        features: Tensor = network.maxpool(network.relu(network.bn1(network.conv1(patches))))
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            features = layer(features)
        return features

    def forward(self, patches: Tensor) -> Tensor:
        """Return the logits of a batch of patches."""
        logits: Tensor = self.head(torch.flatten(self.network.avgpool(self.encode(patches)), 1))
        return logits


def _read_weights(weights: str) -> tuple[Mapping[str, Tensor] | None, str]:
    """Return a state dict, or None for random weights, and a note."""
    if weights == "random":
        return None, ""
    if weights == "imagenet":
        return _imagenet_weights()
    path = Path(weights).expanduser()
    if not path.is_file():
        raise RecipeError(
            f"weights = {weights!r} is no file: expected 'imagenet', 'random', or the path of a ResNet-18's weights; a "
            f"folder that `msicube pretrain` made goes to model.pretrained"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
        raise CorruptSource(f"{path} holds no weights that torch can read: {error}") from error
    if not isinstance(state, dict):
        raise CorruptSource(f"{path} holds a {type(state).__name__}: expected the state_dict of a ResNet-18")
    return state, ""


def _imagenet_weights() -> tuple[Mapping[str, Tensor] | None, str]:
    source: Any = import_torchvision().models.ResNet18_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(source.url).name)
    try:
        if not cached.is_file():  # torch's own download has no timeout
            request = urllib.request.Request(source.url, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
        return source.get_state_dict(progress=False, check_hash=True), ""
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = getattr(error, "reason", error)
        note = f"the ImageNet weights cannot be had ({reason})"
        _log.warning("%s: starting from random weights and training all layers", note)
        return None, note


def _load(network: nn.Module, state: Mapping[str, Tensor], weights: str) -> None:
    """Load everything but the classifier, which is replaced anyway."""
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    try:
        missing, unexpected = network.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise CorruptSource(f"weights = {weights!r} do not fit a ResNet-18: {error}") from error
    missing = [name for name in missing if not name.startswith("fc.")]
    if missing or unexpected:
        raise CorruptSource(
            f"weights = {weights!r} are not those of torchvision's ResNet-18: missing {missing[:3]}, "
            f"unexpected {list(unexpected)[:3]}"
        )


def _set_momentum(network: nn.Module, momentum: float) -> None:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum


def _first_convolution(n_channels: int, colour: Tensor | None) -> nn.Conv2d:
    """Return a first convolution; one made from colour filters answers grey input as they do."""
    new = nn.Conv2d(n_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if colour is None:
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        return new
    with torch.no_grad():
        mean = colour.mean(dim=1, keepdim=True)
        new.weight.copy_(mean.expand_as(new.weight) * (_RGB / n_channels))
    return new
