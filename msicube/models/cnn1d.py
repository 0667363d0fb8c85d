"""A 1D CNN that classifies one spectrum."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class SpectrumCNN(nn.Module):
    """Per-pixel 1D CNN on the selected channels of a spectrum.

    The colorectal study classifies single pixels by a 1D CNN on their 100 most discriminating m/z and does not fix the
    layers; these are ours. Each of three blocks is a convolution (kernel 5, same length), batch normalisation, ReLU and
    max pooling by 2; then a hidden layer, dropout and the logits. The feature map is flattened, not averaged: a channel
    is one m/z, and where the signal stands is what tells the classes apart.

    Parameters
    ----------
    n_channels
        Channels of a spectrum, at least 1. The hidden layer holds ``n_channels / 8 * width[-1] * hidden`` weights.
    n_classes
        Logits.
    width
        Filters of each block; one more entry is one more block.
    kernel
        Length of every convolution, odd.
    hidden
        Units of the hidden layer.
    dropout
        Probability before the logits.

    Notes
    -----
    ``forward`` maps ``(n, n_channels)`` to ``(n, n_classes)``.
    """

    encoder_parts = ("features",)

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        width: tuple[int, ...] = (16, 32, 64),
        kernel: int = 5,
        hidden: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        blocks = [_block(inputs, outputs, kernel) for inputs, outputs in pairwise((1, *width))]
        self.features = nn.Sequential(*blocks)
        length = n_channels
        for _ in blocks:
            length = (length + 1) // 2
        self.classifier = nn.Sequential(
            nn.Linear(length * width[-1], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def encode(self, spectra: Tensor) -> Tensor:
        """Return the feature map of a batch of spectra, ``(n, width[-1], length)``."""
        features: Tensor = self.features(spectra.unsqueeze(1))
        return features

    def forward(self, spectra: Tensor) -> Tensor:
        """Return the logits of a batch of spectra."""
        logits: Tensor = self.classifier(torch.flatten(self.encode(spectra), 1))
        return logits


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool1d(2, ceil_mode=True),
    )
