from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from msicube.models import CaReNet
from msicube.models.carenet import SameConv1d


def count(model: nn.Module) -> tuple[int, int]:
    """Return the trainable parameters, and the means and variances that Keras counts beside them."""
    statistics = sum(norm.num_features * 2 for norm in model.modules() if isinstance(norm, nn.BatchNorm1d))
    return sum(p.numel() for p in model.parameters() if p.requires_grad), statistics


def test_it_has_the_number_of_parameters_that_the_paper_gives() -> None:
    assert count(CaReNet(n_channels=467, n_classes=4)) == (276_244, 992)
    assert sum(count(CaReNet(n_channels=467, n_classes=4))) == 277_236


def test_two_classes_have_one_unit() -> None:
    torch.manual_seed(0)
    model = CaReNet(n_channels=467, n_classes=2).eval()
    assert sum(count(model)) == 277_236 - 3 * 257
    logits = model(torch.randn(5, 467))
    assert logits.shape == (5, 2)
    unit = logits[:, 1]
    torch.testing.assert_close(logits.softmax(1)[:, 1], torch.sigmoid(unit))
    target = torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(
        nn.functional.cross_entropy(logits, target),
        nn.functional.binary_cross_entropy_with_logits(unit, target.float()),
    )


@pytest.mark.parametrize(("n_channels", "length"), [(467, 59), (1, 1), (8, 1), (9, 2), (1582, 198)])
def test_any_number_of_channels(n_channels: int, length: int) -> None:
    model = CaReNet(n_channels=n_channels, n_classes=4).eval()
    spectra = torch.randn(3, n_channels)
    assert model(spectra).shape == (3, 4)
    assert model.stages(model.stem(spectra[:, None])).shape == (3, 128, length)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("length", [5, 6, 7, 12, 13])
@pytest.mark.parametrize("kernel", [1, 5, 7])
def test_zeros_are_padded_as_keras_pads(length: int, kernel: int, stride: int) -> None:
    """Against the rule in TensorFlow's documentation, in plain NumPy."""
    layer = SameConv1d(2, 3, kernel, stride=stride)
    signal = torch.randn(1, 2, length)
    with torch.no_grad():
        found = layer(signal)[0].numpy()
    zeros = max(kernel - stride, 0) if length % stride == 0 else max(kernel - length % stride, 0)
    padded = np.pad(signal[0].numpy(), ((0, 0), (zeros // 2, zeros - zeros // 2)))
    weight, bias = (value.detach().numpy() for value in layer.convolution.parameters())
    expected = [
        (weight * padded[:, start : start + kernel]).sum(axis=(1, 2)) + bias
        for start in range(0, math.ceil(length / stride) * stride, stride)
    ]
    np.testing.assert_allclose(found, np.transpose(expected), atol=1e-5)


def test_the_first_weights_are_he_normal() -> None:
    torch.manual_seed(0)
    model = CaReNet(n_channels=467, n_classes=4)
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Linear)):
        assert not layer.bias.any()
        deviation = math.sqrt(2 / layer.weight[0].numel())
        assert layer.weight.abs().max() <= 2 * deviation / 0.87962566 + 1e-6
        if layer.weight.numel() > 10_000:
            assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)


def test_it_learns_a_band() -> None:
    """A band that is a third higher is told from one that is not within thirty steps."""
    torch.manual_seed(0)
    model = CaReNet(n_channels=120, n_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    axis = torch.linspace(0, 1, 120)
    common, band = (torch.exp(-(((axis - centre) / 0.04) ** 2)) for centre in (0.3, 0.7))

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(2, (n,), generator=generator)
        spectra = common + (0.6 + 0.2 * label[:, None]) * band
        return spectra + 0.01 * torch.randn(n, 120, generator=generator), label

    for _ in range(30):
        spectra, label = draw(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(spectra), label).backward()
        optimizer.step()
    spectra, label = draw(500)
    with torch.inference_mode():
        assert (model.eval()(spectra).argmax(1) == label).float().mean() > 0.95
