"""The networks, and how a recipe finds one.

A network takes one tensor of a batch, ``patches`` ``(n, channels, size, size)`` or ``spectra`` ``(n, channels)``, and
returns logits ``(n, n_classes)``. Whatever is called as ``factory(n_channels=..., n_classes=..., **options)`` and
returns such a module can be trained: see :func:`build_model`. :mod:`msicube.models.encoding` says what it needs to be
pretrained. A :class:`FittedAtOnce` is fitted on a sample of spectra instead: PLS-DA, a support vector machine and a
random forest are modules of this kind.
"""

from __future__ import annotations

from msicube.models.carenet import CaReNet
from msicube.models.classical import PLSDA, FittedAtOnce, KernelSVM
from msicube.models.cnn1d import SpectrumCNN
from msicube.models.forest import RandomForest
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
    "PLSDA",
    "CaReNet",
    "FittedAtOnce",
    "KernelSVM",
    "PatchResNet18",
    "Provenance",
    "RandomForest",
    "SpectrumCNN",
    "build_model",
    "find_model",
    "provenance",
    "without_weights",
]
