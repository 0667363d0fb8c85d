"""Attributions, against classes whose discriminating bands are known."""

from __future__ import annotations

import json
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
from msicube.experiments import Run, explain, train
from msicube.experiments.attribution import METHODS, ClassScores, attribute, cam_layer
from msicube.experiments.bands import TISSUE_BANDS
from msicube.experiments.channel_view import Behind, acquired_of, channel_view, scale_patches
from msicube.experiments.explaining import Explanation, _average
from msicube.experiments.heldout import open_held_out
from msicube.models import CaReNet
from msicube.simulate import simulate_msi
from msicube.store import Study
from msicube.stream import scaling as stream_scaling

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
    found = explain(run, n_samples=20, methods=["gradcam", "integrated_gradients"])
    pipeline = mc.Pipeline.load(run.path / "pipeline.zarr", name=run.recipe.pipeline.name)
    assert found.kind == "mz"
    np.testing.assert_allclose(found.axis, pipeline.channels_out().values)
    assert found.classes == ("normal", "tumour")
    assert max(found.n_samples) <= 20
    table = pd.read_csv(run.path / "explanation" / "attributions.csv")
    assert len(table) == 200
    np.testing.assert_allclose(table["gradcam"], found.maps["gradcam"].ravel(), rtol=1e-4, atol=1e-9)
    assert "What the network looks at" in mc.report(run).read_text("utf-8")


class SmallCNN(nn.Module):
    """A network of patches that learns in a second."""

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(32, n_classes)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(patches).flatten(1))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    """A run on patches of components that has learned, and the truth of its study."""
    folder = tmp_path_factory.mktemp("learned")
    made = simulate_msi(
        folder / "slides",
        slides=10,
        seed=6,
        shape=(48, 48),
        channels=300,
        mz_range=(700, 800),
        ions=30,
        markers=6,
        class_difference=1.5,
        patient_effect=0.3,
        batch_effect=0.3,
    )
    mc.convert(made.folder, folder / "study.zarr", samples=made.samples)
    overrides = {
        "model": {"name": f"{__name__}:SmallCNN"},
        "train.epochs": 12,
        "train.threads": 1,
        "train.learning_rate": 3e-3,
        "patches.size": 12,
        "patches.stride": 6,
    }
    run = train(
        "colorectal-resnet18", folder / "study.zarr", folder / "run", overrides=overrides, figures=False
    )
    return run, json.loads((made.folder / "truth.json").read_text())


def test_a_run_on_patches_is_explained_at_the_mz_before_its_components(learned: tuple[Run, Any]) -> None:
    patches = learned[0]
    found = explain(patches, n_samples=4)
    pipeline = mc.Pipeline.load(patches.path / "pipeline.zarr", name=patches.recipe.pipeline.name)
    np.testing.assert_array_equal(found.axis, pipeline.steps_[2].channels_out().values)
    assert list(found.maps) == ["integrated_gradients", "occlusion"]
    assert found.samples == "patches"
    listed = pd.read_csv(patches.path / "explanation" / "strongest.csv")
    assert len(listed) == 2 * 2 * 20
    values = found.maps["occlusion"][1]
    row = listed[(listed["class"] == "tumour") & (listed["method"] == "occlusion")]
    assert abs(row["attribution"].iloc[0]) == pytest.approx(np.abs(values).max())
    np.testing.assert_allclose(row["share"], np.abs(row["attribution"]) / np.abs(values).sum(), rtol=1e-5)
    assert "The channels that count most" in mc.report(patches).read_text("utf-8")
    done = CliRunner().invoke(cli, ["explain", str(patches.path), "--samples", "2", "--method", "occlusion"])
    assert done.exit_code == 0, done.output
    assert "the strongest channels by occlusion" in " ".join(done.output.split())


def test_the_mz_that_mark_the_tumour_are_found_through_components_and_patches(
    learned: tuple[Run, dict[str, Any]],
) -> None:
    """Of the 100 m/z before the components, 29 lie on a marker or its isotopes; they get more than twice that share.

    Measured: 0.69 and 0.68 of the integrated gradients of the two classes, 0.48 and 0.51 of the occlusion, and 14 to 17
    of the 20 strongest m/z.
    """
    run, truth = learned
    assert run.summary["samples"]["metrics"]["accuracy"] > 0.75
    found = explain(run)
    marks = [marker["mz"] + number * 1.00335 for marker in truth["markers"] for number in range(3)]
    intervals = [(mz - 0.4, mz + 0.4) for mz in marks]
    channels = found.inside(intervals).mean()
    assert len(found.axis) == 100
    assert 0.2 < channels < 0.4
    assert (found.share("integrated_gradients", intervals) > 1.8 * channels).all()
    assert (found.share("occlusion", intervals) > 1.3 * channels).all()
    for (_, _), table in found.strongest().groupby(["class", "method"]):
        told = np.mean([any(low <= mz <= high for low, high in intervals) for mz in table["mz"]])
        assert told > 0.5


def test_the_network_behind_the_channels_is_that_of_the_run(patches: Run, study: Study) -> None:
    """Seen from its 100 m/z, through components and scaling, it tells each patch as it was recorded."""
    held_out = open_held_out(patches, study)
    view = channel_view(held_out)
    assert view.channels.n == 100
    places = patches.predictions
    seen = 0
    for batch in held_out.samples(places, view.features):
        acquired = acquired_of(held_out, held_out.stream_slides(places), batch, 12)
        assert not acquired.all()
        with torch.inference_mode():
            logits = view.network(batch["patches"], torch.from_numpy(acquired))
        recorded = places["p_tumour"].to_numpy()[batch["row"].numpy()]
        np.testing.assert_allclose(torch.softmax(logits, dim=1)[:, 1], recorded, atol=2e-4)
        seen += len(recorded)
    assert seen == len(places)


@pytest.mark.parametrize("scale", ["patch", "channel", None])
def test_patches_are_scaled_as_the_stream_does(scale: Any) -> None:
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(5, 6, 6, 3)).astype(np.float32)
    patches[0, ..., 1] = 2.0
    acquired = rng.random((5, 6, 6)) > 0.3
    found = scale_patches(
        torch.from_numpy(np.moveaxis(patches, -1, 1)), torch.from_numpy(acquired), scale or "none"
    )
    in_stream = patches.copy()
    in_stream[~acquired] = 0
    stream_scaling.scale_patches(in_stream, acquired, scale)
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), in_stream, atol=1e-6)


class OnPatches(nn.Module):
    """A smooth network of patches whose score is a weighted mean of squares."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, n))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        value = (patches.square().mean(dim=(2, 3)) * self.weight).sum(dim=1)
        return torch.stack([torch.zeros_like(value), value], dim=1)


def test_attributions_of_patches_add_up_through_the_scaling() -> None:
    """From patches they add up to the difference of the scores; from one flat patch they would add up to nothing."""
    torch.manual_seed(0)
    model = Behind(None, "patch", OnPatches(4)).eval()
    patches, others = (
        torch.rand(3, 4, 8, 8),
        torch.rand(2, 4, 8, 8) * torch.tensor([1, 3, 1, 0.3])[:, None, None],
    )
    acquired, label = torch.rand(3, 8, 8) > 0.2, torch.tensor([0, 1, 1])
    options: dict[str, Any] = {"baseline": torch.full((4,), 0.5), "acquired": acquired}
    found = attribute(model, patches, label, method="integrated_gradients", references=others, **options)
    scores = ClassScores(model)
    with torch.inference_mode():
        starts = torch.stack([scores(one.expand(3, -1, -1, -1), acquired) for one in others]).mean(dim=0)
        wanted = (scores(patches, acquired) - starts).gather(1, label[:, None])[:, 0].numpy()
    np.testing.assert_allclose(found.sum(axis=1), wanted, atol=0.05 * np.abs(wanted).max())
    occluded = patches.clone()
    occluded[:, 2] = 0.5
    with torch.inference_mode():
        lost = (scores(patches, acquired) - scores(occluded, acquired)).gather(1, label[:, None])[:, 0]
    by_occlusion = attribute(model, patches, label, method="occlusion", **options)
    np.testing.assert_allclose(by_occlusion[:, 2], lost, atol=1e-6)
    flat = attribute(
        model, patches, label, method="integrated_gradients", references=torch.zeros(1, 4, 8, 8), **options
    )
    assert (np.abs(flat.sum(axis=1)) < 1e-3 * np.abs(flat).sum(axis=1)).all()


def test_folds_that_selected_other_channels_are_averaged_where_they_did() -> None:
    one, two = (
        Explanation(
            "mz",
            np.array(axis),
            ("a", "b"),
            n,
            np.ones((2, 2)) * mean,
            {"occlusion": np.ones((2, 2)) * value},
        )
        for axis, n, mean, value in [([1.0, 2.0], (1, 3), 1.0, 4.0), ([2.0, 3.0], (3, 1), 5.0, 8.0)]
    )
    found = _average([one, two])
    assert found.axis.tolist() == [1, 2, 3]
    np.testing.assert_allclose(found.maps["occlusion"], [[1, 7, 6], [3, 5, 2]])
    np.testing.assert_allclose(found.mean, [[1, 4, 5], [1, 2, 5]])
    assert found.n_samples == (4, 4)


def test_what_cannot_be_explained_is_refused(patches: Run, pixels: tuple[Run, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no convolution along the channels"):
        explain(patches, methods=["gradcam"])
    with pytest.raises(UsageError, match="no method 'lime'"):
        explain(pixels[0], methods=["lime"])  # type: ignore[list-item]
    assert CliRunner().invoke(cli, ["explain", str(tmp_path)]).exception is not None


def test_the_named_bands_are_those_of_the_field() -> None:
    for band in TISSUE_BANDS:
        assert 900 < band.low < band.high < 1800
    ordered = sorted(TISSUE_BANDS, key=lambda band: band.low)
    assert all(one.high <= other.low for one, other in pairwise(ordered))
