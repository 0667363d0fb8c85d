"""CaReNet-V1, reconstructed from its published number of parameters."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

#: Standard deviation of a normal distribution that is cut off at two of its own.
_CUT_OFF = 0.87962566103423978
#: Keras' default; torch's is 1e-5.
_EPSILON = 1e-3


class CaReNet(nn.Module):
    """Residual 1D CNN for infrared spectra of breast tissue.

    The paper gives input (467 wavenumbers), initialisation (He-normal), padding (zeros), residual blocks and 277,236
    parameters; its code was not found. **This network is reconstructed:** one plain stack has exactly that number with
    four classes, counted as Keras counts. A convolution (kernel 5, 16 filters) with batch normalisation; four stages of
    16, 32, 64 and 128 filters, each two convolutions (kernel 7) with batch normalisation, beside a 1 x 1 convolution as
    shortcut; the mean over the axis; a hidden layer of 256; the logits. Strides are not to be told from the number of
    parameters: every stage but the first halves the axis here. Nor is dropout, which there is none of.

    Parameters
    ----------
    n_channels
        Channels of a spectrum. Any number will do, since the features are averaged over the axis; 467 are 900 to 1800
        cm^-1.
    n_classes
        With two, the head is one unit, the logit of the second class: a sigmoid instead of a softmax.
    width
        Filters of each stage; the first convolution has as many as the first stage.
    hidden
        Units of the hidden layer.
    momentum
        Of the running statistics of batch normalisation: the weight of a new batch. With 0.1, held-out spectra looked
        like nothing seen before until step 60, when the training loss had been near zero for 40; with 0.3 until step
        20. Keras' 0.01 would need several hundred.

    Attributes
    ----------
    cam_layer : torch.nn.Module
        The last stage, ``(n, width[-1], length)``, which Grad-CAM looks at.

    Notes
    -----
    ``forward`` maps ``(n, n_channels)`` to ``(n, n_classes)``. The two logits of a head of one unit ``z`` are ``0`` and
    ``z``: their softmax is the sigmoid and its complement, their cross-entropy the binary one.

    References
    ----------
    CaReNet-V1: arXiv 2310.15094. Initialisation: He, Zhang, Ren and Sun, ICCV (2015) 1026, drawn as Keras does, from a
    normal distribution cut off at two standard deviations.
    """

    encoder_parts = ("stem", "stages")

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        width: tuple[int, ...] = (16, 32, 64, 128),
        hidden: int = 256,
        momentum: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.stem = nn.Sequential(SameConv1d(1, width[0], 5), _norm(width[0], momentum), nn.ReLU())
        self.stages = nn.Sequential(
            *(
                _Stage(inputs, outputs, stride=2 if number else 1, momentum=momentum)
                for number, (inputs, outputs) in enumerate(pairwise((width[0], *width)))
            )
        )
        self.hidden = nn.Sequential(nn.Linear(width[-1], hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 1 if n_classes == 2 else n_classes)
        self.apply(_initialise)

    @property
    def cam_layer(self) -> nn.Module:
        """The layer that Grad-CAM looks at."""
        return self.stages[-1]

    def encode(self, spectra: Tensor) -> Tensor:
        """Return the feature map of a batch of spectra, ``(n, width[-1], length)``."""
        features: Tensor = self.stages(self.stem(spectra.unsqueeze(1)))
        return features

    def forward(self, spectra: Tensor) -> Tensor:
        """Return the logits of a batch of spectra."""
        logits: Tensor = self.head(self.hidden(self.encode(spectra).mean(dim=2)))
        if logits.shape[1] == 1:
            return torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits


class SameConv1d(nn.Module):
    """A convolution padded as Keras pads ``"same"``: ``ceil(length / stride)`` values, an odd zero at the end.

    torch's own ``padding="same"`` knows no stride, and ``padding=3`` would put the zeros elsewhere on an axis of even
    length.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride=stride)

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``(n, inputs, length)`` to ``(n, outputs, ceil(length / stride))``."""
        length = signal.shape[2]
        steps = -(-length // self.stride)
        zeros = max(0, (steps - 1) * self.stride + self.kernel - length)
        return self.convolution(nn.functional.pad(signal, (zeros // 2, zeros - zeros // 2)))


class _Stage(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, momentum: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            SameConv1d(inputs, outputs, 7, stride=stride),
            _norm(outputs, momentum),
            nn.ReLU(),
            SameConv1d(outputs, outputs, 7),
            _norm(outputs, momentum),
        )
        self.shortcut = SameConv1d(inputs, outputs, 1, stride=stride)

    def forward(self, signal: Tensor) -> Tensor:
        return nn.functional.relu(self.block(signal) + self.shortcut(signal))


def _norm(width: int, momentum: float) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=_EPSILON, momentum=momentum)


def _initialise(module: nn.Module) -> None:
    """He-normal weights, and no bias."""
    if isinstance(module, nn.Conv1d | nn.Linear):
        fan_in = module.weight[0].numel()
        deviation = math.sqrt(2 / fan_in) / _CUT_OFF
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
