from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msicube.errors import LeakageError, RecipeError
from msicube.experiments.recipe import DataSection
from msicube.experiments.split import resolve_split, shuffled_labels


def table(n_patients: int, *, per_patient: int = 2, mixed: bool = False, **columns: Any) -> pd.DataFrame:
    """Patients with some slides each: all of one class, or one of each class where ``mixed``."""
    rows = [(p, s) for p in range(n_patients) for s in range(per_patient)]
    return pd.DataFrame(
        {
            "label": ["tumour" if ((s if mixed else p) % 2) else "normal" for p, s in rows],
            "patient": [f"P{p:02d}" for p, _ in rows],
            **columns,
        },
        index=pd.Index([f"slide{p:02d}-{s}" for p, s in rows], name="slide"),
    )


def test_the_given_split_is_taken_and_the_rest_is_left_out() -> None:
    samples = table(6, split=["train"] * 6 + ["test"] * 4 + ["pilot", np.nan])
    split = resolve_split(DataSection(), samples, seed=0)
    assert split.train == tuple(samples.index[:6])
    assert split.test == tuple(samples.index[6:10])
    assert split.unused == tuple(samples.index[10:])
    assert split.classes == ("normal", "tumour")
    assert split.classes[split.positive] == "tumour"
    assert split.indices(split.test) == [1, 1, 0, 0]


def test_a_slide_without_a_label_is_left_out() -> None:
    samples = table(6, split=["train"] * 8 + ["test"] * 4)
    samples.loc["slide00-0", "label"] = None
    split = resolve_split(DataSection(positive="normal"), samples, seed=0)
    assert split.unused == ("slide00-0",)
    assert split.positive == 0


def test_a_patient_in_both_parts_is_an_error() -> None:
    samples = table(4, per_patient=2, split=["train", "test"] * 4)
    with pytest.raises(LeakageError, match="patient 'P00' has slides in train and in test"):
        resolve_split(DataSection(), samples, seed=0)


def test_folds_hold_out_every_slide_once_and_no_patient_twice() -> None:
    samples = table(13, mixed=True)
    data = [DataSection(split="folds", folds=4, fold=fold) for fold in (1, 2, 3, 4)]
    splits = [resolve_split(one, samples, seed=5) for one in data]
    held_out = [slide for split in splits for slide in split.test]
    assert sorted(held_out) == sorted(samples.index)
    for split in splits:
        assert sorted([*split.train, *split.test]) == sorted(samples.index)
        parts = [{split.patients[slide] for slide in part} for part in (split.train, split.test)]
        assert not parts[0] & parts[1]
        n_each = Counter(split.labels[slide] for slide in split.test)
        assert n_each["normal"] == n_each["tumour"], "a patient has one of each"
    shuffled = samples.sample(frac=1, random_state=1)
    assert [resolve_split(one, shuffled, seed=5).test for one in data] == [split.test for split in splits]
    assert resolve_split(data[0], samples, seed=6).test != splits[0].test


def test_folds_are_stratified_by_class() -> None:
    labels = ["a"] * 16 + ["b"] * 8 + ["c"] * 8
    samples = pd.DataFrame(
        {"label": labels, "patient": [f"P{i // 2}" for i in range(32)]},
        index=pd.Index([f"s{i:02d}" for i in range(32)], name="slide"),
    )
    for fold in (1, 2, 3, 4):
        split = resolve_split(DataSection(split="folds", fold=fold), samples, seed=0)
        assert Counter(split.labels[slide] for slide in split.test) == {"a": 4, "b": 2, "c": 2}


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"'normal' has slides of 2 patients: .* data\.folds = 4"):
        resolve_split(DataSection(split="folds", fold=1), table(4), seed=0)
    for fold in (0, 5):
        with pytest.raises(RecipeError, match="which of the 4 folds is held out"):
            resolve_split(DataSection(split="folds", fold=fold), table(20), seed=0)


def test_where_patches_are_split_the_slides_are_in_both_parts() -> None:
    samples = table(4)
    split = resolve_split(DataSection(split="patch"), samples, seed=0)
    assert split.by_patch
    assert split.train == split.test == tuple(samples.index)


def test_an_empty_text_is_no_label() -> None:
    samples = table(6, split=["train"] * 8 + ["test"] * 4)
    samples.loc["slide00-0", "label"] = ""
    assert resolve_split(DataSection(), samples, seed=0).unused == ("slide00-0",)


@settings(max_examples=40, deadline=None)
@given(
    n_patients=st.integers(6, 40),
    mixed=st.booleans(),
    fraction=st.floats(0.1, 0.5),
    seed=st.integers(0, 1000),
)
def test_a_drawn_split_is_by_patient_and_stratified(
    n_patients: int, mixed: bool, fraction: float, seed: int
) -> None:
    samples = table(n_patients, mixed=mixed)
    data = DataSection(split="patient", test_fraction=fraction)
    split = resolve_split(data, samples, seed=seed)
    assert split == resolve_split(data, samples.sample(frac=1, random_state=seed), seed=seed)
    parts = [{split.patients[s] for s in part} for part in (split.train, split.test)]
    assert not parts[0] & parts[1]
    assert len(split.train) + len(split.test) == len(samples)
    strata = [n_patients] if mixed else [(n_patients + 1) // 2, n_patients // 2]
    assert len(parts[1]) == sum(max(1, round(fraction * n)) for n in strata)


def test_the_seed_draws_another_split() -> None:
    data = DataSection(split="patient")
    assert len({resolve_split(data, table(20), seed=seed).test for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("samples", "data", "message"),
    [
        (table(4), DataSection(label="class"), r"no column 'class' \(it has label, patient\)"),
        (table(4).drop(columns="patient"), DataSection(), 'set data.patient = "slide"'),
        (table(4), DataSection(split="samples"), "no column 'split'.*data.split = \"patient\""),
        (table(4, split="train"), DataSection(), "the test part has 0 slides"),
        (table(4), DataSection(split="patient", positive="cancer"), "'cancer' is no class"),
        (table(1), DataSection(split="patient"), r"have the classes \['normal'\]"),
        (
            table(4, patient=["A"] * 7 + [None]),
            DataSection(split="patient"),
            "'slide03-1' has a label and no",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(samples: pd.DataFrame, data: DataSection, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve_split(data, samples, seed=0)


def test_by_default_the_table_divides_and_else_it_is_drawn_by_patient() -> None:
    given = table(6, split=["train"] * 6 + ["test"] * 4 + ["pilot", np.nan])
    assert resolve_split(DataSection(), given, seed=0).by == "samples"
    for samples in (table(10), table(10, split=np.nan)):
        split = resolve_split(DataSection(), samples, seed=3)
        assert split == resolve_split(DataSection(split="patient"), samples, seed=3)
        assert split.by == "patient"
        assert not {split.patients[s] for s in split.train} & {split.patients[s] for s in split.test}


@settings(max_examples=30, deadline=None)
@given(n_patients=st.integers(8, 40), mixed=st.booleans(), by=st.sampled_from(["patient", "folds"]))
def test_validation_patients_come_out_of_training(n_patients: int, mixed: bool, by: Any) -> None:
    samples = table(n_patients, mixed=mixed)
    data = DataSection(split=by, folds=2, fold=1, validation_fraction=0.25)
    split = resolve_split(data, samples, seed=1)
    without = resolve_split(replace(data, validation_fraction=0.0), samples, seed=1)
    assert split.test == without.test, "who is held out does not depend on it"
    assert sorted([*split.train, *split.validation]) == list(without.train)
    patients = [{split.patients[s] for s in part} for part in (split.train, split.validation, split.test)]
    assert len(set.union(*patients)) == sum(map(len, patients)) == n_patients
    for part in (split.train, split.validation):
        assert {split.labels[s] for s in part} == set(split.classes)


def test_too_few_patients_for_validation_are_refused() -> None:
    samples = table(5, split=["train"] * 4 + ["test"] * 6)
    assert not resolve_split(DataSection(), samples, seed=0).validation
    with pytest.raises(RecipeError, match=r"validation part has 0 slides and none of class 'normal'"):
        resolve_split(DataSection(validation_fraction=0.2), samples, seed=0)


def test_a_slide_can_be_its_own_patient() -> None:
    samples = table(8, per_patient=1).drop(columns="patient")
    split = resolve_split(DataSection(patient="slide", split="patient"), samples, seed=0)
    assert split.patients["slide00-0"] == "slide00-0"


@settings(max_examples=40, deadline=None)
@given(n_patients=st.integers(4, 30), mixed=st.booleans(), seed=st.integers(0, 1000))
def test_shuffled_labels_are_independent_of_the_truth(n_patients: int, mixed: bool, seed: int) -> None:
    split = resolve_split(DataSection(split="patient"), table(max(4, n_patients), mixed=mixed), seed=seed)
    shuffled = shuffled_labels(split, seed=seed)
    assert tuple(shuffled) == split.train
    units = {(split.patients[s], split.labels[s], shuffled[s]) for s in split.train}
    if not mixed:
        assert len(units) == len({split.patients[s] for s in split.train}), "a patient has one label"
    counts = (
        Counter((truth, label) for _, truth, label in units)
        if not mixed
        else Counter((split.labels[s], shuffled[s]) for s in split.train)
    )
    for truth in split.classes:
        given_labels = [counts[truth, label] for label in split.classes]
        assert max(given_labels) - min(given_labels) <= 1
    if len({sum(counts[truth, label] for label in split.classes) for truth in split.classes}) == 1:
        normal, tumour = ([counts[truth, label] for label in split.classes] for truth in split.classes)
        assert normal == tumour, "classes of one size are labelled alike"
