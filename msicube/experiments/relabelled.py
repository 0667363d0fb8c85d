"""A study under an experiment's own labels and split."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from msicube.experiments.split import TEST, TRAIN, Split
from msicube.store import Study

if TYPE_CHECKING:
    from msicube.experiments.recipe import DataSection


class RelabelledStudy(Study):
    """A study whose samples table is that of an experiment; the slides are those of the store.

    Everything that asks the study for labels, patients or the split, be it a fit or a stream, then follows the
    experiment, also where its labels are shuffled or its split is drawn.

    Parameters
    ----------
    study
        Is not changed.
    table
        The samples table to show.
    """

    def __init__(self, study: Study, table: pd.DataFrame) -> None:
        super().__init__(study.location)
        self._table = table

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The samples table of the experiment."""
        return self._table

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_table": self._table}


def relabel(
    study: Study, split: Split, data: DataSection, labels: Mapping[str, str] | None = None
) -> RelabelledStudy:
    """Return a study whose table holds the slides of a split.

    Parameters
    ----------
    study
        Is not changed.
    split
        Gives the rows, their patients and their part.
    data
        Names the column of the labels.
    labels
        For slides whose label is not the true one.
    """
    slides = [*split.train, *split.test]
    own = pd.DataFrame(
        {
            data.label: [(labels or {}).get(slide, split.labels[slide]) for slide in slides],
            "patient": [split.patients[slide] for slide in slides],
            "split": [TRAIN] * len(split.train) + [TEST] * len(split.test),
        },
        index=pd.Index(slides, name="slide"),
    ).reindex(study.slides)
    # Other columns may tell the true class, so where labels are shuffled nothing may ask for them.
    others = [] if labels else [name for name in study.samples.columns if name not in own]
    return RelabelledStudy(study, own.join(study.samples[others]))
