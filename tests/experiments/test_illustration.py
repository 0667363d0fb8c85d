from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from msicube.experiments.illustration import _probability_pictures, confusion, pick_slides
from msicube.experiments.split import Split

LABELS = {"a": "normal", "b": "tumour", "c": "tumour", "d": "tumour", "e": "normal"}
SPLIT = Split(("normal", "tumour"), 1, ("a", "b", "c"), ("d", "e"), (), LABELS, {s: s for s in LABELS})


@pytest.mark.parametrize(("n", "expected"), [(1, "a"), (2, "ab"), (3, "aeb"), (4, "aebc"), (9, "aebcd")])
def test_slides_are_picked_from_the_classes_in_turn(n: int, expected: str) -> None:
    assert pick_slides(SPLIT, "abcde", n) == list(expected)


def test_a_confusion_matrix_counts_true_against_predicted() -> None:
    table = pd.DataFrame({"label": ["n", "n", "t", "t", "t"], "p_n": [0.9, 0.2, 0.1, 0.8, 0.4]})
    table["p_t"] = 1 - table["p_n"]
    assert confusion(table, ("n", "t")).tolist() == [[1, 1], [1, 2]]


def test_predictions_are_put_back_on_the_slide() -> None:
    info = {
        "classes": ["normal", "tumour"],
        "positive": 1,
        "split": {"test": [{"slide": "d", "label": "tumour", "shape": [4, 7], "pixel_size": 10.0}]},
    }
    table = pd.DataFrame(
        {"slide": ["d", "d", "other"], "y": [0, 2, 0], "x": [0, 4, 2], "p_tumour": [0.25, 0.75, 1.0]}
    )
    (picture,) = _probability_pictures(info, table, 2)
    expected = np.full((4, 7), np.nan)
    expected[:2, :2] = 0.25
    expected[2:, 4:6] = 0.75
    np.testing.assert_array_equal(picture.values, expected)
    assert picture.title == "d (tumour)"
    assert picture.pixel_size == 10.0
