"""Folds by patient, against what they must be and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

import msicube as mc
from msicube.errors import UsageError
from msicube.store import Study


def table(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    patient = rng.integers(0, 15, n)
    frame = pd.DataFrame({"label": np.where(patient % 3, "tumour", "normal"), "patient": patient.astype(str)})
    frame.index = pd.Index([f"s{number:02}" for number in range(n)], name="slide")
    return frame


def test_no_patient_is_in_both_parts_and_each_slide_is_tested_once() -> None:
    samples = table()
    found = mc.folds(samples, k=4, seed=3)
    assert len(found) == 4
    assert sorted(name for fold in found for name in fold.test) == list(samples.index)
    for fold in found:
        assert set(fold.train) | set(fold.test) == set(samples.index)
        assert not set(samples.patient[fold.train]) & set(samples.patient[fold.test])
        assert set(samples.label[fold.test]) == {"tumour", "normal"}
    splitter = StratifiedGroupKFold(4, shuffle=True, random_state=3)
    expected = [
        sorted(samples.index[test]) for _, test in splitter.split(samples, samples.label, samples.patient)
    ]
    assert [fold.test for fold in found] == expected
    assert mc.folds(samples, k=4, seed=3) == found != mc.folds(samples, k=4, seed=4)


def test_a_study_and_a_choice_of_slides(study: Study) -> None:
    found = mc.folds(study, k=2)
    assert sorted(name for fold in found for name in fold.test) == study.slides
    fewer = [name for name in study.slides if name != study.slides[0]]
    assert (
        sorted({*mc.folds(study, k=2, slides=fewer)[0].train, *mc.folds(study, k=2, slides=fewer)[0].test})
        == fewer
    )


def test_slides_without_a_label_are_left_out() -> None:
    samples = table()
    samples.loc["s07", "label"] = None
    assert all("s07" not in (*fold.train, *fold.test) for fold in mc.folds(samples, k=3))


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"k=9 folds need .* found \d+ of class 'normal', \d+ of class 'tumour'"
    ):
        mc.folds(table(), k=9)
    with pytest.raises(UsageError, match="no column 'grade'"):
        mc.folds(table(), label="grade")
    samples = table()
    samples.loc["s03", "patient"] = None
    with pytest.raises(UsageError, match="'s03' has a label and no patient"):
        mc.folds(samples)
