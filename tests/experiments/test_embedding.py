"""t-SNE of the penultimate layer, and the held-out samples behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from msicube.errors import UsageError
from msicube.experiments import Run
from msicube.experiments.embedding import embed, embeddings, penultimate, tsne
from msicube.experiments.heldout import HeldOut, open_held_out, pick_samples
from msicube.models import build_model
from msicube.store import Study


class Headless(nn.Module):
    """A network that ends in a convolution, with and without a layer to look at."""

    def __init__(self, *, named: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 4, 3)
        self.last = nn.Sequential(nn.Flatten(), nn.Softmax(dim=1))
        if named:
            self.embedding_layer = self.last

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(spectra[:, None]).mean(dim=2))


class Backwards(nn.Module):
    """A network whose layers are not in the order in which they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.hidden = nn.Linear(5, 3)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(spectra))


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("cnn1d", {}, (40,)),
        ("carenet", {}, (40,)),
        ("resnet18", {"weights": "random"}, (40, 16, 16)),
    ],
)
def test_the_head_of_every_network_gives_its_logits_from_the_embedding(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    model = build_model(name, n_channels=40, n_classes=3, **options).eval()
    inputs = torch.rand(4, *shape)
    with torch.inference_mode():
        found = penultimate(model, inputs)
        head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        torch.testing.assert_close(head(found), model(inputs))
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_the_last_layer_is_the_one_that_is_called_last_or_that_the_network_names() -> None:
    inputs = torch.rand(4, 5)
    backwards, named = Backwards(), Headless(named=True)
    torch.testing.assert_close(penultimate(backwards, inputs), backwards.hidden(inputs))
    torch.testing.assert_close(penultimate(named, inputs), named.first(inputs[:, None]).mean(dim=2))
    with pytest.raises(UsageError, match="Headless calls no"):
        penultimate(Headless(named=False), inputs)
    with pytest.raises(UsageError, match=r"takes \(4, 1, 5\) of 4 samples"):
        penultimate(nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Linear(5, 2)), inputs)


def test_a_draw_takes_classes_and_patients_as_equally_as_it_can() -> None:
    sizes = {("n", "A"): 50, ("n", "B"): 3, ("n", "C"): 50, ("t", "A"): 4}
    rows = [key for key, size in sizes.items() for _ in range(size)]
    table = pd.DataFrame(rows, columns=["label", "patient"])
    chosen = pick_samples(table, 23, seed=0)
    counts = chosen.value_counts().to_dict()
    assert counts == {("n", "A"): 10, ("n", "B"): 3, ("n", "C"): 10, ("t", "A"): 4}
    assert chosen.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(chosen, pick_samples(table, 23, seed=0))
    assert not chosen.index.equals(pick_samples(table, 23, seed=1).index)


def test_groups_that_lie_apart_stay_apart() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    values = (rng.normal(size=(90, 10)) + 20 * np.eye(10)[group]).astype(np.float32)
    layout = tsne(values, seed=0)
    distance = np.linalg.norm(layout[:, None] - layout[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()
    np.testing.assert_array_equal(layout, tsne(values, seed=0))


@pytest.mark.parametrize("which", ["pixels", "patches"])
def test_samples_of_a_run_come_again_as_the_network_saw_them(
    which: str, study: Study, request: pytest.FixtureRequest
) -> None:
    """The recorded predictions follow from what comes out, so places, pipeline, scaling and weights are right."""
    found = request.getfixturevalue(which)
    run: Run = found if which == "patches" else found[0]
    held_out = open_held_out(run, study)
    n = min(30, len(run.predictions))
    chosen = run.predictions.sample(n, random_state=3)
    probability = np.full((n, 2), np.nan)
    for batch in held_out.samples(chosen):
        with torch.inference_mode():
            logits = held_out.model(batch[held_out.features.key])
        probability[batch["row"].numpy()] = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(probability, chosen[["p_normal", "p_tumour"]], atol=1e-4)


def test_the_layout_of_a_run_is_in_its_folder(pixels: tuple[Run, Any], study: Study) -> None:
    run = pixels[0]
    table = pd.read_csv(run.path / "tsne.csv", dtype={"patient": str})
    assert list(table.columns) == ["slide", "patient", "y", "x", "label", "predicted", "tsne_1", "tsne_2"]
    assert len(table) == 800
    assert set(table["label"].value_counts()) == {400}
    scored = run.predictions.merge(table, on=["slide", "y", "x", "label", "predicted"])
    assert len(scored) == 800
    again = embed(run, study=study, n_samples=60, seed=5)
    assert len(again) == 60
    # What t-SNE was given are the values of the layer before the logits.
    held_out = open_held_out(run, study)
    values = torch.from_numpy(embeddings(held_out, again))
    with torch.inference_mode():
        predicted = held_out.model.classifier[-1](values).argmax(dim=1).numpy()
    assert [held_out.split.classes[code] for code in predicted] == again["predicted"].tolist()
    table.to_csv(run.path / "tsne.csv", index=False)


def test_what_is_not_there_any_more_is_said(pixels: tuple[Run, Any], study: Study) -> None:
    held_out: HeldOut = open_held_out(pixels[0], study)
    places = pixels[0].predictions.iloc[:3].assign(y=[10_000, 0, 0])
    with pytest.raises(UsageError, match="of 3 held-out samples"):
        list(held_out.samples(places))
