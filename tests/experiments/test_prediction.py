"""What a network says, back on the map."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import msicube as mc
from msicube.errors import AxisMismatch, UsageError
from msicube.experiments import Run, TrainingEvent, predict
from msicube.experiments.prediction import load_network
from msicube.schema import MASK
from msicube.store import Study
from msicube.store.masks import write_image


@pytest.fixture
def own(study_path: Path, tmp_path: Path) -> Study:
    shutil.copytree(study_path, tmp_path / "own.zarr")
    return mc.open_study(tmp_path / "own.zarr")


def test_every_pixel_has_the_probabilities_of_its_spectrum(
    pixels: tuple[Run, list[TrainingEvent]], own: Study
) -> None:
    run, slides = pixels[0], own.slides[:2]
    seen: list[tuple[str, int, int]] = []
    assert predict(run, own, slides=slides, progress=lambda *args: seen.append(args)) == slides
    assert {(name, total) for name, done, total in seen if done == total} == {
        (name, max(done for other, done, _ in seen if other == name)) for name in slides
    }
    network = load_network(run, torch.device("cpu"))
    for name in slides:
        stored = mc.open_study(own.path)[name]["prediction"]
        assert stored.attrs["feature_names"] == run.info["classes"]
        found, acquired = stored.to_numpy(), own.acquired(name)
        assert not found[~acquired].any()
        features = network.pipeline.transform_block(own.cube(name)[...][acquired], slide=name)
        with torch.inference_mode():
            expected = torch.softmax(network.model(torch.from_numpy(features)), dim=1).numpy()
        np.testing.assert_allclose(found[acquired], expected, rtol=1e-4, atol=1e-5)
    assert predict(run, own, slides=slides) == []


def test_a_mask_bounds_the_prediction_and_another_one_is_refused(
    pixels: tuple[Run, list[TrainingEvent]], own: Study
) -> None:
    run, name = pixels[0], own.slides[0]
    top = np.zeros_like(own.acquired(name))
    top[:15] = True
    write_image(own.location, name, "top", top, spec=MASK, attrs={})
    predict(run, own, slides=[name], where="top", name="seen")
    found = mc.open_study(own.path).cube(name, "seen")[...]
    assert np.array_equal(found.sum(axis=2) > 0, own.acquired(name) & top)
    with pytest.raises(UsageError, match="has another prediction 'seen': say overwrite=True"):
        predict(run, own, slides=[name], name="seen")
    assert predict(run, own, slides=[name], name="seen", overwrite=True) == [name]
    with pytest.raises(UsageError, match=r"'intensity' of slide .* is no prediction"):
        predict(run, own, slides=[name], name="intensity", overwrite=True)


def test_patches_give_each_pixel_the_mean_of_those_that_cover_it(patches: Run, own: Study) -> None:
    name, size = own.slides[1], patches.recipe.patches.size if patches.recipe.patches else 0
    predict(patches, own, slides=[name], stride=6)
    found, acquired = mc.open_study(own.path).cube(name, "prediction")[...], own.acquired(name)
    network = load_network(patches, torch.device("cpu"))
    sums, counts = np.zeros((*acquired.shape, 2)), np.zeros(acquired.shape)
    stream = mc.PatchStream(
        own,
        slides=[name],
        pipeline=network.pipeline,
        size=size,
        stride=6,
        edges="shift",
        min_coverage=0.5,
        labels=None,
    )
    with torch.inference_mode():
        for batch in stream:
            scores = torch.softmax(network.model(batch["patches"]), dim=1).numpy()
            for score, y, x, weight in zip(scores, batch["y"], batch["x"], batch["weight"], strict=True):
                sums[y : y + size, x : x + size] += weight.item() * score
                counts[y : y + size, x : x + size] += weight.item()
    expected = np.where(acquired[..., None], sums / np.maximum(counts, 1)[..., None], 0)
    assert counts.max() >= 4
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_study_on_another_axis_is_refused(pixels: tuple[Run, list[TrainingEvent]], tmp_path: Path) -> None:
    simulation = mc.simulate_msi(
        tmp_path / "s", slides=1, shape=(16, 16), channels=160, mz_range=(300.0, 600.0)
    )
    mc.convert(simulation.folder, tmp_path / "s.zarr")
    with pytest.raises(AxisMismatch):
        predict(pixels[0], tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr" / "slide_001" / "prediction").exists()
