"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

N_BINS = 10


def calibration(
    table: pd.DataFrame, classes: Sequence[str], positive: int, *, bins: int = N_BINS
) -> dict[str, Any]:
    """Return the reliability of predicted probabilities.

    Parameters
    ----------
    table
        Columns ``label`` and ``p_<class>``.
    classes
        In the order of the class indices.
    positive
        Of two classes, the one whose probability is looked at; of more, it is that of the predicted class.
    bins
        Of equal width, from 0 to 1.

    Returns
    -------
    dict
        ``"bins"``: of each that is not empty ``low``, ``high``, ``n``, the mean ``predicted`` probability and the
        ``observed`` share. ``"ece"``: the expected calibration error, the mean distance of the two weighted by ``n``.
        ``"brier"``: of two classes the mean squared error of the probability, of more the sum over the classes.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, ICML (2017) 1321. Brier, Mon. Weather Rev. 78 (1950) 1.
    """
    truth = table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    probability = table[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    if len(classes) == 2:
        predicted, observed = probability[:, positive], truth == positive
        brier = float(np.mean((predicted - observed) ** 2))
    else:
        predicted, observed = probability.max(axis=1), probability.argmax(axis=1) == truth
        brier = float(np.mean(np.sum((probability - np.eye(len(classes))[truth]) ** 2, axis=1)))
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, values, minlength=bins) for values in (predicted, observed.astype(float)))
    mean, share = (values / np.maximum(n, 1) for values in sums)
    rows = [
        {
            "low": index / bins,
            "high": (index + 1) / bins,
            "n": int(n[index]),
            "predicted": float(mean[index]),
            "observed": float(share[index]),
        }
        for index in np.flatnonzero(n)
    ]
    return {"bins": rows, "ece": float(np.sum(n * np.abs(mean - share)) / len(table)), "brier": brier}
