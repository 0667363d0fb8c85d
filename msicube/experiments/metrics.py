"""How good predictions are, by sample and by slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: In the order of tables and reports.
METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "roc_auc")


def classification_metrics(
    truth: NDArray[np.integer[Any]], probability: NDArray[np.floating[Any]], *, positive: int
) -> dict[str, float | None]:
    """Return the metrics of :data:`METRICS`.

    Parameters
    ----------
    truth
        ``(n,)`` class indices.
    probability
        ``(n, n_classes)``; the class of the largest is predicted.
    positive
        Of two classes, the one that the metrics are about; of more, the metrics are means over the classes, each
        against the rest.

    Returns
    -------
    dict
        A metric that has no meaning for these samples (ROC AUC of one class, precision without a positive) is None.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    if not len(truth):
        return dict.fromkeys(METRICS)
    n_classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    how: dict[str, Any] = {"zero_division": np.nan, "average": "macro", "labels": np.arange(n_classes)}
    if n_classes == 2:
        how = {"zero_division": np.nan, "pos_label": positive}
    values = {
        "accuracy": accuracy_score(truth, predicted),
        "precision": precision_score(truth, predicted, **how),
        "recall": recall_score(truth, predicted, **how),
        "specificity": _specificity(truth, predicted, n_classes, positive),
        "f1": f1_score(truth, predicted, **how),
        "roc_auc": _roc_auc(truth, probability, positive),
    }
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}


def by_slide(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per slide: its label and the mean probability of each class over its samples.

    Parameters
    ----------
    predictions
        Columns ``slide``, ``label`` and ``p_<class>`` of each class.
    classes
        In the order of the class indices.
    """
    columns = [f"p_{name}" for name in classes]
    slides = predictions.groupby("slide", sort=True)
    table = slides[columns].mean()
    table.insert(0, "label", slides["label"].first())
    table.insert(1, "n_samples", slides.size())
    return table.reset_index()


def table_metrics(
    predictions: pd.DataFrame, classes: Sequence[str], positive: int
) -> dict[str, float | None]:
    """Return the metrics of a table with ``label`` and ``p_<class>``: predictions, or :func:`by_slide` of them."""
    truth = predictions["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    probability = predictions[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    return classification_metrics(truth, probability, positive=positive)


def _specificity(truth: Any, predicted: Any, n_classes: int, positive: int) -> float:
    classes = [positive] if n_classes == 2 else list(range(n_classes))
    shares = []
    for index in classes:
        negative = truth != index
        if negative.any():
            shares.append(float((predicted[negative] != index).mean()))
    return float(np.mean(shares)) if shares else float("nan")


def _roc_auc(truth: Any, probability: Any, positive: int) -> float:
    from sklearn.metrics import roc_auc_score

    n_classes = probability.shape[1]
    classes = [positive] if n_classes == 2 else list(range(n_classes))
    areas = [
        float(roc_auc_score(truth == index, probability[:, index]))
        for index in classes
        if 0 < np.count_nonzero(truth == index) < len(truth)
    ]
    return float(np.mean(areas)) if len(areas) == len(classes) else float("nan")
