"""The networks, and how a recipe finds one.

A network takes one tensor of a batch, ``patches`` ``(n, channels, size, size)`` or ``spectra`` ``(n, channels)``, and
returns logits ``(n, n_classes)``. Whatever is called as ``factory(n_channels=..., n_classes=..., **options)`` and
returns such a module can be trained: see :func:`build_model`. :mod:`msicube.models.encoding` says what it needs to be
pretrained.
"""

from __future__ import annotations

from msicube.models.carenet import CaReNet
from msicube.models.cnn1d import SpectrumCNN
from msicube.models.registry import (
    MODELS,
    Provenance,
    build_model,
    find_model,
    provenance,
    without_weights,
)
from msicube.models.resnet import PatchResNet18

__all__ = [
    "MODELS",
    "CaReNet",
    "PatchResNet18",
    "Provenance",
    "SpectrumCNN",
    "build_model",
    "find_model",
    "provenance",
    "without_weights",
]
