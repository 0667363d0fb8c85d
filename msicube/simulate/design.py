"""Who is in a study: patients, their slides, classes and the split; and the random numbers of each.

Every random stream is named by what it is for (the study, patient 3, slide 7), never drawn from a shared one: slide 7
is the same in a study of 10 and of 20 slides, as long as it is of the same patient and class.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from msicube.errors import UsageError

LABELS = ("tumour", "normal")
TEST_SHARE = 0.3

Stream = Literal["chemistry", "split", "patient", "slide", "detector"]
_STREAMS: dict[Stream, int] = {"chemistry": 0, "split": 1, "patient": 2, "slide": 3, "detector": 4}


@dataclass(frozen=True)
class SlideDesign:
    """One slide of a study: its number from 0, patient number, class and split."""

    index: int
    patient: int
    label: str
    split: str

    @property
    def name(self) -> str:
        """Name of the slide and of its files."""
        return f"slide_{self.index + 1:03d}"

    @property
    def patient_name(self) -> str:
        """Name of the patient."""
        return f"patient_{self.patient + 1:03d}"


def random_stream(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """Return the random numbers of one purpose."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS[stream], *numbers)))


def design_study(n_slides: int, *, patients: int | None, seed: int) -> list[SlideDesign]:
    """Assign slides to patients, classes and splits.

    Parameters
    ----------
    n_slides
        With fewer than four, no two groups of patients can both hold both classes, and all slides are for training.
    patients
        Their number; None takes three for every five slides, two of them with a tumour and a normal slide each. Slides
        of a patient alternate between the classes.
    seed
        Decides which patients are held out for testing.

    Raises
    ------
    UsageError
        No slides, more patients than slides, or too few patients to hold out some with both classes.
    """
    if n_slides < 1 or not 1 <= (n_slides if patients is None else patients) <= n_slides:
        raise UsageError(
            f"{n_slides} slides of {patients} patients: expected at least one slide for each patient"
        )
    owners = [_owner(index, patients) for index in range(n_slides)]
    held_out = _held_out(owners, seed) if n_slides >= 4 else set()
    return [
        SlideDesign(index, patient, label, "test" if patient in held_out else "train")
        for index, (patient, label) in enumerate(owners)
    ]


def _owner(index: int, patients: int | None) -> tuple[int, str]:
    """Return patient and label of a slide, whatever the number of slides."""
    if patients is not None:
        turn, patient = divmod(index, patients)
        return patient, LABELS[(patient + turn) % 2]
    group, place = divmod(index, 5)
    if place < 4:
        return 3 * group + place // 2, LABELS[place % 2]
    return 3 * group + 2, LABELS[group % 2]


def _held_out(owners: list[tuple[int, str]], seed: int) -> set[int]:
    """Choose test patients so that both sides have both classes and the share of the test is as near as it can be."""
    labels: dict[int, list[str]] = {}
    for patient, label in owners:
        labels.setdefault(patient, []).append(label)
    order = random_stream(seed, "split").permutation(sorted(labels)).tolist()
    sizes = sorted(range(1, len(order)), key=lambda n: abs(n / len(order) - TEST_SHARE))
    for size, start in product(sizes, range(len(order))):
        turned = order[start:] + order[:start]
        if all(_both(labels, side) for side in (turned[:size], turned[size:])):
            return set(turned[:size])
    raise UsageError(
        f"{len(owners)} slides of {len(labels)} patients cannot be split by patient with both classes on both sides: "
        f"ask for more slides or another number of patients"
    )


def _both(labels: dict[int, list[str]], patients: list[int]) -> bool:
    return {label for patient in patients for label in labels[patient]} == set(LABELS)
