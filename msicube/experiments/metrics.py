"""How good predictions are, by sample, by slide and by patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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


def aggregate(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    unit: Literal["slide", "patient"],
    rule: Literal["mean", "vote"] = "mean",
) -> pd.DataFrame:
    """Return one row per slide or patient.

    Parameters
    ----------
    predictions
        Columns ``slide``, ``label`` and ``p_<class>`` of each class, and ``patient`` where there are patients.
    classes
        In the order of the class indices.
    unit
        ``"slide"``, or ``"patient"``: a patient who has slides of several classes, such as a tumour and the tissue
        beside it, has a row for each.
    rule
        What ``p_<class>`` becomes: ``"mean"``, its mean over the samples, or ``"vote"``, the share of samples for which
        it is the largest.

    Returns
    -------
    DataFrame
        ``slide`` where that is the unit, ``patient`` where there are patients, ``label``, ``n_samples``, ``p_<class>``.
    """
    columns = [f"p_{name}" for name in classes]
    keys = [key for key in ("slide", "patient") if key in predictions and (unit == "slide" or key == unit)]
    values = predictions[columns]
    if rule == "vote":
        votes = np.eye(len(classes))[values.to_numpy().argmax(axis=1)]
        values = pd.DataFrame(votes, predictions.index, columns)
    units = pd.concat([predictions[[*keys, "label"]], values], axis=1).groupby([*keys, "label"], sort=True)
    table = units[columns].mean()
    table.insert(0, "n_samples", units.size())
    return table.reset_index()


def by_slide(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per slide: its label and the mean probability of each class over its samples."""
    return aggregate(predictions, classes, unit="slide")


def table_metrics(
    predictions: pd.DataFrame, classes: Sequence[str], positive: int
) -> dict[str, float | None]:
    """Return the metrics of a table with ``label`` and ``p_<class>``: predictions, or :func:`aggregate` of them."""
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
