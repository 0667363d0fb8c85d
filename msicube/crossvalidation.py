"""Cross-validation by patient: which slides train and which are held out, from the samples table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from msicube.errors import UsageError

if TYPE_CHECKING:
    from msicube.store import Study


class Fold(NamedTuple):
    """Slides to train on and slides to test on; no patient has slides in both."""

    train: list[str]
    test: list[str]


def folds(
    study: Study | pd.DataFrame,
    *,
    k: int = 5,
    label: str = "label",
    patient: str = "patient",
    slides: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Divide slides into folds by patient, with about the same share of each class in every fold.

    Parameters
    ----------
    study
        A study, or its samples table.
    k
        Folds: each slide is tested on in one of them.
    label, patient
        Columns of the samples table.
    slides
        Names; all that have a label by default.
    seed
        Of the assignment.

    Returns
    -------
    list of Fold
        Names of slides, sorted.

    Raises
    ------
    UsageError
        No such column, a slide without a patient, or fewer patients with some class than folds.

    Notes
    -----
    By scikit-learn's ``StratifiedGroupKFold``.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    samples = study if isinstance(study, pd.DataFrame) else study.samples
    for column in (label, patient):
        if column not in samples.columns:
            raise UsageError(
                f"the samples table has no column {column!r}, only {', '.join(map(str, samples.columns)) or 'none'}: "
                f"convert with a table that has it"
            )
    table = samples[[label, patient]] if slides is None else samples.loc[list(slides), [label, patient]]
    # In the order of the names, so that the folds do not depend on the order of the table.
    table = table[table[label].notna()].sort_index()
    if table[patient].isna().any():
        raise UsageError(
            f"slide {table.index[table[patient].isna()][0]!r} has a {label} and no {patient}: complete the table"
        )
    labels, patients = table[label].astype(str), table[patient].astype(str)
    fewest = patients.groupby(labels).nunique()
    if k < 2 or not len(table) or fewest.min() < k:
        found = ", ".join(f"{n} of class {name!r}" for name, n in fewest.items()) or "no slide with a label"
        raise UsageError(
            f"k={k} folds need as many patients of each class, found {found}: take from 2 to that many"
        )
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    names = np.asarray(table.index, dtype=object)
    return [
        Fold(sorted(names[train].tolist()), sorted(names[test].tolist()))
        for train, test in splitter.split(names, labels, patients)
    ]
