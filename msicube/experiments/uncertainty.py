"""How sure a metric is: confidence intervals by drawing patients anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.experiments.metrics import METRICS

#: How often patients are drawn, and the share of the results that an interval holds.
N_RESAMPLES, LEVEL = 1000, 0.95


def bootstrap_intervals(
    table: pd.DataFrame,
    classes: Sequence[str],
    positive: int,
    *,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """Return percentile bootstrap intervals over patients.

    As many patients as there are are drawn with replacement, each with all of its samples, and every metric is computed
    of what was drawn: samples of one patient are no independent witnesses, and neither are its slides.

    Parameters
    ----------
    table
        Columns ``patient``, ``label`` and ``p_<class>``: predictions, or :func:`~msicube.experiments.metrics.aggregate`
        of them.
    classes, positive
        As for :func:`~msicube.experiments.metrics.classification_metrics`.
    n_resamples, level, seed
        Of the bootstrap.

    Returns
    -------
    dict
        Of each metric ``[low, high]``; None where fewer than half of the draws have it, as for the ROC AUC of few
        patients of one class, or where there is one patient only.

    Notes
    -----
    The metrics of a draw follow from each patient's confusion matrix and, for ROC AUC, from the number of pairs of
    samples in the right order between each two patients. So a draw costs nothing that grows with the samples.
    """
    draws = patient_draws(table["patient"], n_resamples=n_resamples, seed=seed)
    if draws is None:
        return dict.fromkeys(METRICS)
    found = resampled_metrics(table, classes, positive, draws)
    return {name: percentile_interval(values, level) for name, values in found.items()}


def paired_intervals(
    table: pd.DataFrame,
    other: pd.DataFrame,
    classes: Sequence[str],
    positive: int,
    *,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """Return percentile bootstrap intervals of how much larger each metric is in one table than in another.

    The same patients are drawn for both, so what makes a patient easy or hard for both of them cancels, and the
    interval is that of the difference: two intervals that overlap say little of it. The samples of a patient need not
    be the same in both.

    Parameters
    ----------
    table, other
        As for :func:`bootstrap_intervals`, of the same patients.
    classes, positive, n_resamples, level, seed
        As for :func:`bootstrap_intervals`.

    Returns
    -------
    dict
        As :func:`bootstrap_intervals`.

    Raises
    ------
    UsageError
        The patients are not the same.

    References
    ----------
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993).
    """
    if set(table["patient"]) != set(other["patient"]):
        different = sorted(set(table["patient"]) ^ set(other["patient"]))
        raise UsageError(
            f"patient {different[0]!r} is in one table only ({len(different)} in all): pairs need the same patients"
        )
    draws = patient_draws(table["patient"], n_resamples=n_resamples, seed=seed)
    if draws is None:
        return dict.fromkeys(METRICS)
    ours, theirs = (resampled_metrics(one, classes, positive, draws) for one in (table, other))
    return {name: percentile_interval(ours[name] - theirs[name], level) for name in METRICS}


def percentile_interval(values: NDArray[np.float64], level: float) -> list[float] | None:
    """Return the percentile interval of draws; None where fewer than half of them are finite."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return None
    edges = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
    return [float(edge) for edge in np.percentile(known, edges)]


def patient_draws(patients: pd.Series, *, n_resamples: int, seed: int) -> NDArray[np.int64] | None:
    """Return how often each patient is drawn, ``(n_resamples, n_patients)`` in sorted order; None of one patient."""
    n = patients.nunique()
    if n < 2:
        return None
    return np.random.default_rng([seed, 0xB007]).multinomial(n, np.full(n, 1 / n), size=n_resamples)


def resampled_metrics(
    table: pd.DataFrame, classes: Sequence[str], positive: int, draws: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return each metric of each draw, ``(n_resamples,)``; NaN where it has no meaning.

    Parameters
    ----------
    table, classes, positive
        As for :func:`bootstrap_intervals`.
    draws
        As :func:`patient_draws` returns them.
    """
    names, patient = np.unique(table["patient"].to_numpy(str), return_inverse=True)
    truth = table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    probability = table[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    n = len(classes)
    counts = np.zeros((len(names), n, n))
    np.add.at(counts, (patient, truth, probability.argmax(axis=1)), 1)
    found = _of_counts(np.tensordot(draws, counts, axes=1), [positive] if n == 2 else list(range(n)))
    areas = [
        _areas(truth == index, probability[:, index], patient, draws)
        for index in ([positive] if n == 2 else range(n))
    ]
    return {**found, "roc_auc": np.mean(areas, axis=0)}


def _of_counts(counts: NDArray[np.float64], classes: list[int]) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of confusion matrices ``(n, true, predicted)``, means over classes each against the rest."""
    total = counts.sum(axis=(1, 2))
    right = np.einsum("nii->ni", counts)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    negative = total[:, None] - true
    with np.errstate(invalid="ignore"):
        one = {
            "precision": right / predicted,
            "recall": right / true,
            "specificity": (negative - (predicted - right)) / negative,
            "f1": 2 * right / (true + predicted),
        }
        accuracy = right.sum(axis=1) / total
    return {"accuracy": accuracy, **{name: _mean(values[:, classes]) for name, values in one.items()}}


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row over the classes that have the metric, as scikit-learn takes it."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def _areas(
    inside: NDArray[np.bool_], score: NDArray[np.float64], patient: NDArray[np.intp], draws: NDArray[np.int64]
) -> NDArray[Any]:
    """Return the area under the ROC of each draw.

    It is the share of pairs, one of the class and one of the rest, in the right order, equal scores counting half; and
    the pairs between two patients count as often as both are drawn.
    """
    n = draws.shape[1]
    pairs = np.zeros((n, n))
    for other in range(n):
        rest = np.sort(score[(patient == other) & ~inside])
        below = np.searchsorted(rest, score[inside], "left") + np.searchsorted(rest, score[inside], "right")
        pairs[:, other] = np.bincount(patient[inside], below / 2, minlength=n)
    n_inside, n_rest = (draws @ np.bincount(patient[mask], minlength=n) for mask in (inside, ~inside))
    with np.errstate(invalid="ignore"):
        return np.einsum("ni,ij,nj->n", draws, pairs, draws, optimize=True) / (n_inside * n_rest)
