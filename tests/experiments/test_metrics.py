from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from msicube.experiments.metrics import METRICS, by_slide, classification_metrics, table_metrics


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_against_the_four_counts(positive: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    score = np.clip(0.25 * truth + rng.normal(0.4, 0.2, 200), 0, 1)
    probability = np.stack([1 - score, score], axis=1)
    found = classification_metrics(truth, probability, positive=positive)
    predicted = probability.argmax(1)
    tp = np.sum((truth == positive) & (predicted == positive))
    fp = np.sum((truth != positive) & (predicted == positive))
    tn = np.sum((truth != positive) & (predicted != positive))
    fn = np.sum((truth == positive) & (predicted != positive))
    assert tuple(found) == METRICS
    assert found["accuracy"] == pytest.approx((tp + tn) / 200)
    assert found["precision"] == pytest.approx(tp / (tp + fp))
    assert found["recall"] == pytest.approx(tp / (tp + fn))
    assert found["specificity"] == pytest.approx(tn / (tn + fp))
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    # The share of pairs in the right order.
    inside, outside = probability[truth == positive, positive], probability[truth != positive, positive]
    pairs = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    assert found["roc_auc"] == pytest.approx(pairs.mean())


def test_three_classes_are_averaged() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    probability = rng.dirichlet([1, 1, 1], 300) + np.eye(3)[truth]
    probability /= probability.sum(1, keepdims=True)
    found = classification_metrics(truth, probability, positive=2)
    predicted = probability.argmax(1)
    assert found["recall"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, probability, multi_class="ovr"))
    matrix = sk.multilabel_confusion_matrix(truth, predicted)
    assert found["specificity"] == pytest.approx(np.mean(matrix[:, 0, 0] / matrix[:, 0].sum(axis=1)))


def test_what_has_no_meaning_is_none() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_metrics(np.array([0, 0]), probability, positive=1)
    assert found["accuracy"] == 1
    assert found["specificity"] == 1
    assert (found["precision"], found["recall"], found["roc_auc"]) == (None, None, None)
    empty = classification_metrics(np.array([], np.int64), np.zeros((0, 2)), positive=1)
    assert set(empty.values()) == {None}


def test_slides_vote_by_their_mean_probability() -> None:
    predictions = pd.DataFrame(
        {
            "slide": ["a", "b", "a", "b", "b"],
            "label": ["n", "t", "n", "t", "t"],
            "p_n": [0.9, 0.3, 0.3, 0.2, 0.7],
            "p_t": [0.1, 0.7, 0.7, 0.8, 0.3],
        }
    )
    slides = by_slide(predictions, ("n", "t"))
    assert slides["slide"].tolist() == ["a", "b"]
    assert slides["n_samples"].tolist() == [2, 3]
    np.testing.assert_allclose(slides["p_t"], [0.4, 0.6])
    assert table_metrics(slides, ("n", "t"), 1)["accuracy"] == 1
    assert table_metrics(predictions, ("n", "t"), 1)["accuracy"] == pytest.approx(3 / 5)
