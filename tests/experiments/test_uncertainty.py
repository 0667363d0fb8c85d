from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from msicube.errors import UsageError
from msicube.experiments.calibration import calibration
from msicube.experiments.metrics import METRICS, aggregate, table_metrics
from msicube.experiments.uncertainty import (
    bootstrap_intervals,
    paired_intervals,
    patient_draws,
    resampled_metrics,
)


def predictions(
    classes: tuple[str, ...], *, n: int = 400, n_patients: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Samples of patients who each have slides of two classes; scores are rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(n_patients, size=n)
    truth = (patient + rng.integers(2, size=n)) % len(classes)
    plain = rng.uniform(-0.5, 3, n_patients)[patient]  # of some patients it is easy to tell, of others not
    logits = plain[:, None] * np.eye(len(classes))[truth] + rng.normal(0, 1, (n, len(classes)))
    probability = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)
    return pd.DataFrame(
        {
            "slide": [f"S{p}-{t}" for p, t in zip(patient, truth, strict=True)],
            "patient": [f"P{p}" for p in patient],
            "label": [classes[t] for t in truth],
            **{f"p_{name}": probability[:, i] for i, name in enumerate(classes)},
        }
    )


TWO, THREE = ("normal", "tumour"), ("a", "b", "c")


@pytest.mark.parametrize(("classes", "positive"), [(TWO, 1), (TWO, 0), (THREE, 2)])
@pytest.mark.parametrize("unit", ["sample", "slide", "patient"])
def test_every_draw_has_the_metrics_of_the_samples_that_were_drawn(
    classes: tuple[str, ...], positive: int, unit: str
) -> None:
    table = predictions(classes)
    if unit != "sample":
        table = aggregate(table, classes, unit=unit)
    draws = patient_draws(table["patient"], n_resamples=12, seed=3)
    found = resampled_metrics(table, classes, positive, draws)
    assert tuple(sorted(found)) == tuple(sorted(METRICS))
    parts = [part for _, part in table.groupby("patient", sort=True)]
    for number, draw in enumerate(draws):
        drawn = pd.concat([part for part, times in zip(parts, draw, strict=True) for _ in range(times)])
        expected = table_metrics(drawn, classes, positive)
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(np.nan if value is None else value, nan_ok=True), name


def test_intervals_hold_the_estimate_and_grow_with_the_difference_between_patients() -> None:
    table = predictions(TWO, n=1200, n_patients=20)
    found = bootstrap_intervals(table, TWO, 1, n_resamples=300)
    for name, value in table_metrics(table, TWO, 1).items():
        low, high = found[name]
        assert low < value < high
    assert found == bootstrap_intervals(table, TWO, 1, n_resamples=300)
    assert found != bootstrap_intervals(table, TWO, 1, n_resamples=300, seed=1)
    # Were every sample a patient of its own, the interval would claim far too much.
    alone = bootstrap_intervals(
        table.assign(patient=[f"{i:04d}" for i in range(len(table))]), TWO, 1, n_resamples=300
    )
    widths = [np.diff(one["accuracy"])[0] for one in (found, alone)]
    assert widths[0] > 1.3 * widths[1]
    accuracy = table_metrics(table, TWO, 1)["accuracy"]
    binomial = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 1200)
    assert widths[1] == pytest.approx(binomial, rel=0.25)


def test_one_patient_says_nothing_of_others() -> None:
    table = predictions(TWO, n_patients=1)
    assert set(bootstrap_intervals(table, TWO, 1).values()) == {None}


@pytest.mark.parametrize("positive", [0, 1])
def test_calibration_of_two_classes_is_that_of_scikit_learn(positive: int) -> None:
    table = predictions(TWO)
    inside, score = table["label"] == TWO[positive], table[f"p_{TWO[positive]}"]
    found = calibration(table, TWO, positive)
    assert found["brier"] == pytest.approx(brier_score_loss(inside, score))
    observed, predicted = calibration_curve(inside, np.minimum(score + 1e-9, 1), n_bins=10)
    np.testing.assert_allclose([row["observed"] for row in found["bins"]], observed)
    np.testing.assert_allclose([row["predicted"] for row in found["bins"]], predicted, atol=1e-6)
    n = np.array([row["n"] for row in found["bins"]])
    assert n.sum() == len(table)
    assert found["ece"] == pytest.approx(np.sum(n * np.abs(observed - predicted)) / n.sum(), abs=1e-6)


def test_calibration_of_more_classes_is_about_the_predicted_one() -> None:
    table = pd.DataFrame(
        {"label": ["a", "b", "c"], "p_a": [0.6, 0.7, 0.1], "p_b": [0.2, 0.2, 0.1], "p_c": [0.2, 0.1, 0.8]}
    )
    found = calibration(table, THREE, 2)
    assert [(row["n"], row["observed"]) for row in found["bins"]] == [(1, 1.0), (1, 0.0), (1, 1.0)]
    assert found["ece"] == pytest.approx((0.4 + 0.7 + 0.2) / 3)
    assert found["brier"] == pytest.approx((0.24 + 1.14 + 0.06) / 3)


def test_pixels_vote_for_slides_and_for_the_tissues_of_a_patient() -> None:
    table = pd.DataFrame(
        {
            "slide": ["s1", "s1", "s1", "s2", "s2", "s3"],
            "patient": ["P", "P", "P", "P", "P", "P"],
            "label": ["tumour"] * 5 + ["normal"],
            "p_normal": [0.4, 0.4, 0.95, 0.3, 0.1, 0.8],
            "p_tumour": [0.6, 0.6, 0.05, 0.7, 0.9, 0.2],
        }
    )
    mean, vote = (aggregate(table, TWO, unit="slide", rule=rule) for rule in ("mean", "vote"))
    assert mean["p_tumour"].tolist() == pytest.approx([1.25 / 3, 0.8, 0.2])
    assert vote["p_tumour"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert vote["n_samples"].tolist() == [3, 2, 1]
    patients = aggregate(table, TWO, unit="patient", rule="vote")
    assert patients[["patient", "label", "n_samples"]].to_numpy().tolist() == [
        ["P", "normal", 1],
        ["P", "tumour", 5],
    ]
    assert patients["p_tumour"].tolist() == pytest.approx([0, 0.8])


def better(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """The same predictions with a share of the wrong ones put right."""
    made = table.copy()
    columns = [f"p_{name}" for name in TWO]
    wrong = np.flatnonzero(np.asarray(TWO)[made[columns].to_numpy().argmax(axis=1)] != made["label"])
    rows = np.random.default_rng(1).permutation(wrong)[: round(share * len(wrong))]
    made.loc[rows, columns] = 1.0 - made.loc[rows, columns].to_numpy()
    return made


def test_the_interval_of_a_difference_draws_the_same_patients_for_both() -> None:
    table = predictions(TWO, n=2000, n_patients=15)
    other = better(table, 0.2).sample(frac=1, random_state=0)
    found = paired_intervals(other, table, TWO, 1, n_resamples=200, seed=4)
    draws = patient_draws(table["patient"], n_resamples=200, seed=4)
    parts = [[part for _, part in one.groupby("patient", sort=True)] for one in (table, other)]
    differences = []
    for draw in draws:
        drawn = [
            pd.concat([part for part, times in zip(some, draw, strict=True) for _ in range(times)])
            for some in parts
        ]
        values = [table_metrics(one, TWO, 1)["accuracy"] for one in drawn]
        differences.append(values[1] - values[0])
    assert found["accuracy"] == pytest.approx(np.percentile(differences, [2.5, 97.5]))
    low, high = found["accuracy"]
    assert low > 0
    alone = bootstrap_intervals(table, TWO, 1, n_resamples=200)["accuracy"]
    assert high - low < 0.5 * (alone[1] - alone[0]), "what is hard for both runs cancels"


def test_a_difference_to_itself_is_nothing_and_other_patients_are_no_pair() -> None:
    table = predictions(TWO)
    assert set(map(tuple, paired_intervals(table, table, TWO, 1).values())) == {(0.0, 0.0)}
    with pytest.raises(UsageError, match=r"'P7' is in one table only \(1 in all\)"):
        paired_intervals(table[table["patient"] != "P7"], table, TWO, 1)
    one = table[table["patient"] == "P1"]
    assert set(paired_intervals(one, one, TWO, 1).values()) == {None}
