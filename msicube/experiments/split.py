"""Which slides train and which are held out: by patient, unless it is asked for otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.crossvalidation import folds
from msicube.errors import LeakageError, RecipeError
from msicube.experiments.recipe import DataSection

TRAIN, TEST, VALIDATION = "train", "test", "validation"


@dataclass(frozen=True)
class Split:
    """The slides of an experiment.

    Attributes
    ----------
    classes
        Sorted; a class index points here.
    positive
        Index of the class that precision, recall, specificity and ROC are about.
    train, test
        Names of the slides, sorted.
    unused
        Slides of the study without a label or in no part.
    labels, patients
        True class and patient of each slide of a part.
    by
        ``"samples"``, ``"patient"``, ``"folds"`` or ``"patch"``, as in a recipe.
    validation
        Names of the slides that choose the epoch, sorted.
    """

    classes: tuple[str, ...]
    positive: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    unused: tuple[str, ...]
    labels: Mapping[str, str]
    patients: Mapping[str, str]
    by: str = "samples"
    validation: tuple[str, ...] = ()

    @property
    def by_patch(self) -> bool:
        """Whether ``train`` and ``test`` are the same slides, and single patches or pixels of them are held out."""
        return self.by == "patch"

    @property
    def held_out(self) -> tuple[str, ...]:
        """The slides that nothing is fitted on: ``validation`` and ``test``."""
        return self.validation + self.test

    def indices(self, slides: Sequence[str]) -> list[int]:
        """Return the class index of each slide's true label."""
        return [self.classes.index(self.labels[slide]) for slide in slides]


def resolve_split(data: DataSection, samples: pd.DataFrame, *, seed: int) -> Split:
    """Divide the slides of a study.

    Parameters
    ----------
    data
        The recipe's section.
    samples
        Index ``slide``.
    seed
        Of a split that is drawn; a given one does not depend on it.

    Raises
    ------
    RecipeError
        A column is missing, a part is empty, or a part lacks a class; or it is not said which fold is held out.
    LeakageError
        A patient has slides in both parts.
    """
    labels, patients = labelled(data, samples)
    by = _by(data, samples, labels)
    train, test = _parts(by, data, samples, labels, patients, seed)
    if by != "patch":
        _check_patients(patients, train, test)
    train, validation = _set_aside(train, labels, patients, data.validation_fraction, seed)
    slides = sorted({*train, *validation, *test})
    classes = tuple(sorted(set(labels[slides])))
    _check_classes(
        labels,
        {TRAIN: train, TEST: test} | ({VALIDATION: validation} if data.validation_fraction else {}),
        classes,
    )
    return Split(
        classes,
        _positive(data, classes),
        train,
        test,
        tuple(sorted(set(samples.index) - set(slides))),
        {slide: labels[slide] for slide in slides},
        {slide: patients[slide] for slide in slides},
        by,
        validation,
    )


def labelled(data: DataSection, samples: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the class and the patient of each slide that has a class.

    Raises
    ------
    RecipeError
        A column is missing, or a slide has a class and no patient.
    """
    labels = _column(samples, data.label, "label").dropna().astype(str)
    labels = labels[labels != ""]
    patients = _column(samples, data.patient, "patient")[labels.index]
    if patients.isna().any():
        raise RecipeError(
            f"slide {patients.index[patients.isna()][0]!r} has a label and no {data.patient!r}: complete the samples "
            f"table, so that the split can be made by patient"
        )
    return labels, patients.astype(str)


def shuffled_labels(split: Split, *, seed: int) -> dict[str, str]:
    """Return labels of the training slides that say nothing of the truth.

    The slides of each true class get every label equally often (to within one), so a network that learns these labels
    can only be right by chance on held-out slides. A patient of one class gets one label.

    Parameters
    ----------
    split
        Its training slides are labelled anew.
    seed
        Fixes the assignment.
    """
    rng = np.random.default_rng([seed, 0x5AFF])
    one_class = len({(split.patients[s], split.labels[s]) for s in split.train}) == len(
        {split.patients[s] for s in split.train}
    )
    units: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in split.classes}
    for slide in split.train:
        units[split.labels[slide]][split.patients[slide] if one_class else slide].append(slide)
    # One start for all classes: where they cannot be divided evenly, the label in excess is the same for all, so that
    # it still says nothing of the truth.
    start = int(rng.integers(len(split.classes)))
    shuffled = {}
    for name in split.classes:
        for position, unit in enumerate(rng.permutation(sorted(units[name]))):
            label = split.classes[(position + start) % len(split.classes)]
            shuffled.update(dict.fromkeys(units[name][str(unit)], label))
    return dict(sorted(shuffled.items()))


def _column(samples: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name in samples.columns:
        return samples[name]
    if name == samples.index.name:
        return samples.index.to_series()
    hint = {
        "split": 'set data.split = "patient" to draw one',
        "patient": 'set data.patient = "slide" where each slide is a patient of its own',
        "label": "set data.label to the column of the classes",
    }[key]
    raise RecipeError(
        f"the study's samples table has no column {name!r} (it has {', '.join(map(str, samples.columns)) or 'none'}): "
        f"convert with --samples samples.csv, or {hint}"
    )


def _by(data: DataSection, samples: pd.DataFrame, labels: pd.Series) -> str:
    """Return how slides are divided; a column ``split`` that says nothing of the labelled slides is none."""
    if data.split != "auto":
        return data.split
    given = "split" in samples.columns and samples["split"][labels.index].notna().any()
    return "samples" if given else "patient"


def _set_aside(
    train: tuple[str, ...], labels: pd.Series, patients: pd.Series, fraction: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the slides that stay in training, and those of patients who are drawn out of it to choose the epoch."""
    if not fraction:
        return train, ()
    own = list(train)
    parts = _draw(labels[own], patients[own], fraction, [seed, 0x7A11D])
    return tuple(parts.index[parts == TRAIN]), tuple(parts.index[parts == TEST])


def _parts(
    by: str, data: DataSection, samples: pd.DataFrame, labels: pd.Series, patients: pd.Series, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if by == "patch":
        both = tuple(sorted(labels.index))
        return both, both
    if by == "samples":
        parts = _column(samples, "split", "split")[labels.index]
    elif by == "patient":
        parts = _draw(labels, patients, data.test_fraction, [seed, 0x5B11])
    else:
        held_out = _fold(labels, patients, data, seed)
        parts = pd.Series(np.where(held_out, TEST, TRAIN), index=labels.index)
    train, test = (tuple(sorted(parts.index[parts == part])) for part in (TRAIN, TEST))
    return train, test


def _fold(labels: pd.Series, patients: pd.Series, data: DataSection, seed: int) -> NDArray[np.bool_]:
    """Return which slides the fold holds out: by patient, the classes about as frequent in each fold."""
    if not 1 <= data.fold <= data.folds:
        raise RecipeError(
            f"data.fold = {data.fold}: say which of the {data.folds} folds is held out, counted from 1; training goes "
            f"through all of them where it is 0"
        )
    fewest = patients.groupby(labels).nunique()
    if fewest.min() < data.folds:
        raise RecipeError(
            f"class {fewest.idxmin()!r} has slides of {fewest.min()} patients: expected at least data.folds = "
            f"{data.folds}, so that each fold has one; take fewer folds"
        )
    table = pd.DataFrame({"label": labels, "patient": patients})
    held_out = folds(table, k=data.folds, seed=seed)[data.fold - 1].test
    return np.asarray(labels.index.isin(held_out), bool)


def _draw(labels: pd.Series, patients: pd.Series, fraction: float, seed: list[int]) -> pd.Series:
    """Hold out a share of the patients of each stratum; a stratum is the set of classes that a patient has."""
    rng = np.random.default_rng(seed)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient, found in labels.groupby(patients):
        strata[tuple(sorted(set(found)))].append(str(patient))
    held_out: set[str] = set()
    for _, stratum in sorted(strata.items()):
        number = min(max(1, round(fraction * len(stratum))), len(stratum) - 1)
        held_out.update(rng.permutation(sorted(stratum))[:number].tolist())
    return patients.isin(held_out).map({True: TEST, False: TRAIN})


def _check_patients(patients: pd.Series, train: Sequence[str], test: Sequence[str]) -> None:
    shared = sorted(set(patients[list(train)]) & set(patients[list(test)]))
    if shared:
        raise LeakageError(
            f"patient {shared[0]!r} has slides in train and in test ({len(shared)} patients in all): put all "
            f'slides of a patient in one part, or set data.split = "patient"'
        )


def _check_classes(labels: pd.Series, parts: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise RecipeError(
            f"the slides of the split have the classes {list(classes)}: two or more are needed to learn to tell apart"
        )
    for name, part in parts.items():
        lacking = sorted(set(classes) - set(labels[list(part)]))
        if lacking:
            raise RecipeError(
                f"the {name} part has {len(part)} slides and none of class {lacking[0]!r}: every part needs "
                f"every class; change the column 'split', data.test_fraction, data.validation_fraction, data.folds "
                f"or the seed"
            )


def _positive(data: DataSection, classes: Sequence[str]) -> int:
    if not data.positive:
        return len(classes) - 1
    if data.positive not in classes:
        raise RecipeError(
            f"data.positive = {data.positive!r} is no class: expected one of {', '.join(classes)}"
        )
    return classes.index(data.positive)
