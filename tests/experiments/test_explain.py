"""Attributions, against classes whose discriminating bands are known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import msicube as mc
from msicube.cli.main import cli
from msicube.errors import UsageError
from msicube.experiments import Run, explain
from msicube.experiments.attribution import METHODS, ClassScores, attribute, cam_layer
from msicube.experiments.bands import TISSUE_BANDS
from msicube.experiments.explain import Explanation
from msicube.models import CaReNet

AXIS = np.linspace(900, 1800, 160)
#: A class has more of one of the two bands that tell; a third, as high, says nothing.
TELLING = ((1050.0, 1110.0), (1210.0, 1270.0))


@pytest.fixture(scope="module")
def two_bands() -> tuple[CaReNet, torch.Tensor, torch.Tensor]:
    """A network that tells spectra by two bands, with spectra that it has not seen and their classes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CaReNet(n_channels=len(AXIS), n_classes=2)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(40):
            spectra, label = draw(64)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(spectra), label).backward()
            optimizer.step()
        spectra, label = draw(60)
    model.eval()
    yield model, spectra, label
    torch.set_num_threads(threads)


def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.from_numpy(AXIS).float()
    bands = torch.stack([torch.exp(-(((axis - centre) / 16) ** 2)) for centre in (1080, 1240, 1650, 1540)])
    label = torch.randint(2, (n,))
    amounts = torch.tensor([0.5, 0.5, 1.0, 0.6]) * torch.exp(0.1 * torch.randn(n, 4))
    amounts[:, 0] += 0.25 * label
    amounts[:, 1] += 0.25 * (1 - label)
    return amounts @ bands + 0.005 * torch.randn(n, len(AXIS)), label


@pytest.mark.parametrize("method", METHODS)
def test_the_map_finds_the_bands_that_tell(method: Any, two_bands: Any) -> None:
    """The bands hold 14 % of the axis, and get more than 90 % of the attribution; of Grad-CAM a quarter.

    Grad-CAM's last layer has a value for 45 cm^-1 and sees far beyond it, so that its map is wider than the bands.
    """
    model, spectra, label = two_bands
    with torch.inference_mode():
        right = model(spectra).argmax(dim=1) == label
    assert right.float().mean() > 0.9
    maps = attribute(model, spectra[right], label[right], method=method, baseline=spectra.mean(dim=0))
    assert maps.shape == (int(right.sum()), len(AXIS))
    of_class = [maps[(label[right] == i).numpy()].mean(axis=0) for i in (0, 1)]
    found = Explanation(
        "wavenumber", AXIS, ("a", "b"), (1, 1), np.zeros((2, len(AXIS))), {method: np.stack(of_class)}
    )
    channels = found.inside(TELLING).mean()
    assert channels < 0.15
    least = {"gradcam": 1.6 * channels, "integrated_gradients": 0.85, "occlusion": 0.85}[method]
    assert (found.share(method, TELLING) > least).all(), found.share(method, TELLING)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores(two_bands: Any) -> None:
    model, spectra, label = two_bands
    baseline = spectra.mean(dim=0)
    maps = attribute(model, spectra, label, method="integrated_gradients", baseline=baseline)
    with torch.inference_mode():
        scores = ClassScores(model)(spectra) - ClassScores(model)(baseline[None])
    wanted = scores.gather(1, label[:, None])[:, 0].numpy()
    np.testing.assert_allclose(maps.sum(axis=1), wanted, atol=0.05 * np.abs(wanted).max())


class Weighted(nn.Module):
    """A linear network, of which every attribution is known."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, n))

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        value = spectra @ self.weight
        return torch.stack([torch.zeros_like(value), value], dim=1)


def test_attributions_of_a_linear_network_are_its_terms() -> None:
    """A score is plus or minus half of the weighted sum, so its terms are known, also of the first class."""
    model, spectra = Weighted(20), torch.randn(40, 20)
    label = torch.arange(40) % 2
    baseline = torch.ones(20)
    sign = torch.where(label == 1, 0.5, -0.5)[:, None]
    expected = (sign * (spectra - baseline) * model.weight).detach().numpy()
    for method in ("integrated_gradients", "occlusion"):  # a window is one channel here
        found = attribute(model, spectra, label, method=method, baseline=baseline)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(UsageError, match="Weighted has no 1D convolution"):
        cam_layer(model)


def test_a_run_is_explained_at_the_mz_that_it_selected(pixels: tuple[Run, Any]) -> None:
    run = pixels[0]
    found = explain(run, n_spectra=20, methods=["gradcam", "integrated_gradients"])
    pipeline = mc.Pipeline.load(run.path / "pipeline.zarr", name=run.recipe.pipeline.name)
    assert found.kind == "mz"
    np.testing.assert_allclose(found.axis, pipeline.channels_out().values)
    assert found.classes == ("normal", "tumour")
    assert max(found.n_spectra) <= 20
    table = pd.read_csv(run.path / "explanation" / "attributions.csv")
    assert len(table) == 200
    np.testing.assert_allclose(table["gradcam"], found.maps["gradcam"].ravel(), rtol=1e-4, atol=1e-9)
    assert "What the network looks at" in mc.report(run).read_text("utf-8")


def test_what_cannot_be_explained_is_refused(patches: Run, pixels: tuple[Run, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a run on patches"):
        explain(patches)
    with pytest.raises(UsageError, match="no method 'lime'"):
        explain(pixels[0], methods=["lime"])  # type: ignore[list-item]
    assert CliRunner().invoke(cli, ["explain", str(tmp_path)]).exception is not None


def test_the_named_bands_are_those_of_the_field() -> None:
    for band in TISSUE_BANDS:
        assert 900 < band.low < band.high < 1800
    ordered = sorted(TISSUE_BANDS, key=lambda band: band.low)
    assert all(one.high <= other.low for one, other in pairwise(ordered))
