"""Who is in an FTIR study: patients of four subtypes, their cores, and the split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from msicube.errors import UsageError
from msicube.simulate.design import TEST_SHARE, random_stream
from msicube.simulate.ftir_bands import ADJACENT, SUBTYPES


@dataclass(frozen=True)
class CoreDesign:
    """One slide of a study, which is one core: its number from 0, patient number, subtype of the patient, and place.

    Attributes
    ----------
    adjacent
        Whether the core was taken beside the tumour.
    """

    index: int
    patient: int
    subtype: str
    adjacent: bool
    split: str

    @property
    def name(self) -> str:
        """Name of the slide, of its folder and of its files."""
        return f"slide_{self.index + 1:03d}"

    @property
    def patient_name(self) -> str:
        """Name of the patient."""
        return f"patient_{self.patient + 1:03d}"

    @property
    def label(self) -> str:
        """The class: ``adjacent``, or the subtype."""
        return ADJACENT if self.adjacent else self.subtype

    @cached_property
    def row(self) -> dict[str, str]:
        """Its row of the samples table."""
        return {
            "slide": self.name,
            "label": self.label,
            "diagnosis": ADJACENT if self.adjacent else "cancer",
            "subtype": "" if self.adjacent else self.subtype,
            "patient": self.patient_name,
            "split": self.split,
        }


def design_cores(n_slides: int, *, cores: int, seed: int) -> list[CoreDesign]:
    """Assign cores to patients, classes and splits.

    The patients' subtypes take turns. The last of a patient's cores is adjacent tissue; with one core a
    patient, every fifth patient gives adjacent tissue.

    Parameters
    ----------
    n_slides
        Number of cores of all patients.
    cores
        Of each patient.
    seed
        Decides which patients are held out for testing: of each subtype as near to 30 % as can be, and at
        least one where there are two.

    Raises
    ------
    UsageError
        No slide, or no core of a patient.
    """
    if n_slides < 1 or cores < 1:
        raise UsageError(f"{n_slides} slides, {cores} cores of each patient: expected at least one of each")
    owners = [divmod(index, cores) for index in range(n_slides)]
    held_out = _held_out(owners[-1][0] + 1, seed)
    return [
        CoreDesign(
            index=index,
            patient=patient,
            subtype=_subtype(patient, cores),
            adjacent=_is_adjacent(patient, turn, cores),
            split="test" if patient in held_out else "train",
        )
        for index, (patient, turn) in enumerate(owners)
    ]


def _is_adjacent(patient: int, turn: int, cores: int) -> bool:
    return patient % (len(SUBTYPES) + 1) == len(SUBTYPES) if cores == 1 else turn == cores - 1


def _subtype(patient: int, cores: int) -> str:
    cycle = len(SUBTYPES) + 1 if cores == 1 else len(SUBTYPES)
    return SUBTYPES[patient % cycle % len(SUBTYPES)]


def _held_out(n_patients: int, seed: int) -> set[int]:
    """Choose test patients; each group below has one of every subtype, so groups are held out as nearly as can be."""
    rng = random_stream(seed, "split")
    chosen: set[int] = set()
    for first in range(len(SUBTYPES)):
        group = rng.permutation(range(first, max(n_patients, first), len(SUBTYPES))).tolist()
        size = round(TEST_SHARE * len(group))
        chosen.update(group[: max(size, 1) if len(group) > 1 else 0])
    if not chosen and n_patients > 1:
        chosen = {int(rng.integers(n_patients))}
    return chosen
