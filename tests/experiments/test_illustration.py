from __future__ import annotations

import pandas as pd
import pytest

from msicube.experiments.illustration import confusion, pick_slides, spread
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


@pytest.mark.parametrize(("n", "expected"), [(1, "a"), (2, "ac"), (3, "abd"), (9, "aebcd")])
def test_slides_are_taken_evenly_in_the_order_of_their_classes(n: int, expected: str) -> None:
    assert spread("abcde", LABELS, ("normal", "tumour"), n) == list(expected)
