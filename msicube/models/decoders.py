"""Small networks that reconstruct a sample from an encoder's features; they are left behind after pretraining."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msicube.errors import RecipeError

#: Width of the way on which all places of a spectrum reach all others.
BOTTLENECK = 64


class SpectrumDecoder(nn.Module):
    """From a feature map ``(n, width, length)`` to spectra ``(n, n_channels)``.

    A 1 x 1 convolution gives each place of the map the channels that it stands for. To this signal is added what a
    bottleneck makes of the whole of it, because peaks that go together lie far apart, and an encoder does not tell
    where on the axis it is.

    Parameters
    ----------
    width, length
        Of the feature map.
    n_channels
        Of the spectra.
    """

    def __init__(self, *, width: int, length: int, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.local = nn.Conv1d(width, -(-n_channels // length), 1)
        self.across = nn.Sequential(
            nn.Linear(n_channels, BOTTLENECK), nn.ReLU(), nn.Linear(BOTTLENECK, n_channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the reconstructed spectra."""
        signal = self.local(features).transpose(1, 2).flatten(1)[:, : self.n_channels]
        spectra: Tensor = signal + self.across(signal)
        return spectra


class PatchDecoder(nn.Module):
    """From a feature map ``(n, width, height, width of the map)`` to patches ``(n, n_channels, size, size)``.

    One 1 x 1 convolution and a shuffle of its filters into pixels, which was found to teach an encoder as much as
    heavier decoders do.

    Parameters
    ----------
    width
        Filters of the feature map.
    height
        Its rows, and columns.
    n_channels, size
        Of the patches.

    References
    ----------
    SimMIM: Xie et al., CVPR (2022) 9653.
    """

    def __init__(self, *, width: int, height: int, n_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        step = -(-size // height)
        self.convolution = nn.Conv2d(width, n_channels * step**2, 1)
        self.shuffle = nn.PixelShuffle(step)

    def forward(self, features: Tensor) -> Tensor:
        """Return the reconstructed patches."""
        patches: Tensor = self.shuffle(self.convolution(features))
        return patches[..., : self.size, : self.size]


class VectorDecoder(nn.Module):
    """From features ``(n, width)`` to samples of any shape, by one linear layer.

    Parameters
    ----------
    width
        Of the features.
    shape
        Of a sample.
    """

    def __init__(self, *, width: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(width, math.prod(shape))

    def forward(self, features: Tensor) -> Tensor:
        """Return the reconstructed samples."""
        samples: Tensor = self.linear(features)
        return samples.unflatten(1, self.shape)


def build_decoder(features: torch.Size, sample: tuple[int, ...]) -> nn.Module:
    """Return a decoder.

    Parameters
    ----------
    features
        Shape of what the encoder makes of a batch: ``(n, d)``, ``(n, d, length)`` or ``(n, d, height, width)``.
    sample
        Shape of a sample: ``(n_channels,)`` or ``(n_channels, size, size)``.

    Raises
    ------
    RecipeError
        The encoder gives something else.
    """
    shape = tuple(features[1:])
    if len(shape) == 1:
        return VectorDecoder(width=shape[0], shape=sample)
    if len(shape) == 2 and len(sample) == 1:
        return SpectrumDecoder(width=shape[0], length=shape[1], n_channels=sample[0])
    if len(shape) == 3 and len(sample) == 3 and shape[1] == shape[2]:
        return PatchDecoder(width=shape[0], height=shape[1], n_channels=sample[0], size=sample[1])
    what = "(n, d, length)" if len(sample) == 1 else "(n, d, height, width) of equal height and width"
    raise RecipeError(
        f"encode() gave features of shape {tuple(features)} for samples of shape {sample}: expected (n, d) or {what}"
    )
