"""Samples of which a network can make nothing are an error that names a slide."""

from __future__ import annotations

import pytest
import torch

from msicube.errors import UsageError
from msicube.experiments.evaluation import check_finite

SLIDE = torch.tensor([0, 1])


def test_a_sample_that_is_not_finite_is_named() -> None:
    inputs = torch.tensor([[1.0, 2.0], [float("nan"), 2.0]])
    check_finite(torch.zeros(2, 2), inputs, SLIDE, ["a", "b"], what="training")
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 2.0]])
    with pytest.raises(UsageError, match=r"1 of 2 training samples .* in slide b: .*dead"):
        check_finite(logits, inputs, SLIDE, ["a", "b"], what="training")


def test_a_network_that_went_astray_is_told_from_odd_samples() -> None:
    logits = torch.full((2, 2), float("inf"))
    with pytest.raises(UsageError, match="lower train"):
        check_finite(logits, torch.ones(2, 2), SLIDE, ["a", "b"], what="held-out")
