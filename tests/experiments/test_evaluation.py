from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from msicube.errors import UsageError
from msicube.experiments.evaluation import score_samples
from msicube.experiments.examples import N_EXAMPLES
from msicube.experiments.summary import summarise

CLASSES = ("normal", "tumour")


class Given(nn.Module):
    """Returns the first two values of a sample as its logits."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)[:, :2]


def batches(
    logits: np.ndarray, slide: np.ndarray, weight: np.ndarray, size: int
) -> list[dict[str, torch.Tensor]]:
    n = len(logits)
    patches = np.zeros((n, 1, 2, 2), np.float32)
    patches.reshape(n, 4)[:, :2] = logits
    whole = {
        "patches": patches,
        "slide": slide,
        "y": np.arange(n) // 5,
        "x": np.arange(n) % 5,
        "weight": weight.astype(np.float32),
    }
    return [
        {key: torch.from_numpy(value[start : start + size]) for key, value in whole.items()}
        for start in range(0, n, size)
    ]


def run(given: list[dict[str, torch.Tensor]], labels: tuple[int, ...] = (0, 1)) -> object:
    return score_samples(
        Given(),
        given,
        key="patches",
        slides=("a", "b"),
        labels=labels,
        patients=("P", "Q"),
        classes=CLASSES,
        device=torch.device("cpu"),
    )


def test_predictions_are_those_of_the_network_at_their_place_without_the_padding() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 2)).astype(np.float32)
    slide = np.repeat([1, 0], 15)
    weight = np.arange(30) % 7 > 0
    found = run(batches(logits, slide, weight, 8))
    table = found.predictions
    assert len(table) == weight.sum()
    assert table[["slide", "y", "x"]].apply(tuple, axis=1).is_monotonic_increasing
    exponent = np.exp(logits.astype(float))
    expected = pd.DataFrame(
        {"slide": np.array(["a", "b"])[slide], "y": np.arange(30) // 5, "x": np.arange(30) % 5}
    )
    expected["p_tumour"] = exponent[:, 1] / exponent.sum(1)
    expected["predicted"] = np.where(logits[:, 1] > logits[:, 0], "tumour", "normal")
    expected["label"] = np.where(slide == 1, "tumour", "normal")
    expected = expected[weight].sort_values(["slide", "y", "x"], ignore_index=True)
    pd.testing.assert_frame_equal(table[list(expected.columns)], expected, check_dtype=False, rtol=1e-5)
    probability = np.where(expected["label"] == "tumour", expected["p_tumour"], 1 - expected["p_tumour"])
    assert found.loss == pytest.approx(-np.log(probability).mean(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_most_and_the_least_certain_samples_are_kept_whatever_the_batches(size: int) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(60, 2)).astype(np.float32)
    slide = np.arange(60) % 2  # slide "a" is normal, "b" tumour
    examples = run(batches(logits, slide, np.ones(60), size)).examples.arrays()
    margin = (logits[:, 0] - logits[:, 1]) * np.where(slide == 0, 1, -1)  # positive: right
    by_class = [np.flatnonzero(slide == code) for code in (0, 1)]
    expected = {
        "right": np.concatenate([of[np.argsort(-margin[of])][: N_EXAMPLES // 2] for of in by_class]),
        "wrong": np.concatenate([of[np.argsort(margin[of])][: N_EXAMPLES // 2] for of in by_class]),
        "unsure": np.argsort(np.abs(margin))[:N_EXAMPLES],
    }
    for kind, best in expected.items():
        np.testing.assert_allclose(examples[f"{kind}_sample"].reshape(-1, 4)[:, :2], logits[best])
        assert (examples[f"{kind}_y"] * 5 + examples[f"{kind}_x"]).tolist() == best.tolist()
        assert examples[f"{kind}_label"].tolist() == [CLASSES[code] for code in slide[best]]
        probability = 1 / (1 + np.exp(-np.abs(margin[best])))
        np.testing.assert_allclose(examples[f"{kind}_confidence"], probability, rtol=1e-5)


def test_certainty_goes_on_where_probabilities_are_rounded_to_1() -> None:
    logits = np.array([[0, 90], [0, 300], [0, 200], [0, 100], [0, 110]], np.float32)
    arrays = run(batches(logits, np.ones(5, np.int64), np.ones(5), 2)).examples.arrays()
    assert set(arrays["right_confidence"]) == {1.0}
    assert arrays["right_x"].tolist() == [1, 2, 4]


def test_what_is_always_right_has_no_wrong_example() -> None:
    logits = np.array([[3, 0], [0, 3]], np.float32)
    arrays = run(batches(logits, np.array([0, 1]), np.ones(2), 2)).examples.arrays()
    assert {name.split("_")[0] for name in arrays} == {"right", "unsure"}


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(UsageError, match="the held-out slides gave no patches"):
        run([])


def test_the_summary_counts_samples_and_slides() -> None:
    logits = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0], [0, 3]], np.float32)
    found = run(batches(logits, np.array([0, 0, 0, 0, 1, 1]), np.ones(6), 4))
    summary = summarise(found.predictions, CLASSES, 1)
    assert summary["samples"]["n"] == 6
    assert summary["samples"]["chance"] == pytest.approx(4 / 6)
    assert summary["samples"]["metrics"]["accuracy"] == pytest.approx(3 / 6)
    assert summary["slides"]["n"] == 2
    assert summary["slides"]["chance"] == 0.5
    assert summary["slides"]["metrics"]["recall"] == 1
    assert summary["patients"]["n"] == 2
    assert "intervals" not in summary["samples"]
    whole = summarise(found.predictions, CLASSES, 1, intervals=True)
    for level in ("samples", "slides", "patients"):
        low, high = whole[level]["intervals"]["accuracy"]
        assert 0 <= low <= whole[level]["metrics"]["accuracy"] <= high <= 1
    assert whole["slides"]["vote"]["metrics"]["accuracy"] == 0.5, "one vote each: the first class"
