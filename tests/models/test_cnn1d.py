from __future__ import annotations

import pytest
import torch

from msicube.models import SpectrumCNN


@pytest.mark.parametrize("n_channels", [1, 2, 7, 8, 9, 100, 467])
def test_any_number_of_channels(n_channels: int) -> None:
    model = SpectrumCNN(n_channels=n_channels, n_classes=3)
    assert model(torch.rand(4, n_channels)).shape == (4, 3)


def test_where_the_signal_stands_is_what_it_learns() -> None:
    """One peak, at one of two places: only a network that keeps the position can tell."""
    torch.manual_seed(0)
    model = SpectrumCNN(n_channels=100, n_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(2, (n,), generator=generator)
        spectra = torch.randn(n, 100, generator=generator)
        spectra[torch.arange(n), torch.where(label == 1, 60, 30)] += 5
        return spectra, label

    for _ in range(60):
        spectra, label = draw(64)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(spectra), label).backward()
        optimizer.step()
    spectra, label = draw(500)
    assert (model.eval()(spectra).argmax(1) == label).float().mean() > 0.95
