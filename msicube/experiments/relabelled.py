"""A study under an experiment's own labels, split and choice of pixels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.experiments.masks import MaskedStudy, Masks
from msicube.experiments.split import TEST, TRAIN, Split
from msicube.store import Study

if TYPE_CHECKING:
    from msicube.experiments.recipe import DataSection

ACQUIRED = "acquired"


@dataclass(frozen=True)
class PatchDraw:
    """Which squares of a slide are held out where patches are split and not patients.

    Attributes
    ----------
    size
        Of a square, in pixels, from the upper left corner of a slide.
    fraction
        Of the squares that are held out.
    seed
        Of the draw; each slide has its own.
    """

    size: int
    fraction: float
    seed: int

    def held_out(self, slide: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the ``(y, x)`` pixels of a slide that are held out."""
        rng = np.random.default_rng([self.seed, zlib.crc32(slide.encode())])
        squares = rng.random((-(-shape[0] // self.size), -(-shape[1] // self.size))) < self.fraction
        return np.kron(squares, np.ones((self.size, self.size), bool))[: shape[0], : shape[1]]


class RelabelledStudy(MaskedStudy):
    """A study whose samples table and pixels are those of an experiment; the slides are those of the store.

    Everything that asks the study for labels, patients or the split, be it a fit or a stream, then follows the
    experiment, also where its labels are shuffled or its split is drawn; and a stream draws from the pixels of the
    experiment alone.

    Parameters
    ----------
    study
        Is not changed.
    table
        The samples table to show.
    where
        A mask, or an expression of masks.
    draw
        Where patches are split, which of them are held out.
    part
        ``"train"`` or ``"test"``: the pixels of one part of the draw.
    masks
        Of the experiment's own, by name and slide.
    """

    def __init__(
        self,
        study: Study,
        table: pd.DataFrame,
        *,
        where: str = ACQUIRED,
        draw: PatchDraw | None = None,
        part: str | None = None,
        masks: Masks | None = None,
    ) -> None:
        super().__init__(study, masks or {})
        self._table, self._where, self._draw, self._part = table, where, draw, part

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The samples table of the experiment."""
        return self._table

    def part(self, name: str) -> RelabelledStudy:
        """Return the study with the pixels of one part of the split; the same where slides are split."""
        return RelabelledStudy(
            self, self._table, where=self._where, draw=self._draw, part=name, masks=self.own_masks
        )

    def with_masks(self, masks: Masks) -> RelabelledStudy:
        """Return the study with masks of the experiment's own."""
        return RelabelledStudy(
            self, self._table, where=self._where, draw=self._draw, part=self._part, masks=masks
        )

    def acquired(self, slide: str) -> NDArray[np.bool_]:
        """Return the ``(y, x)`` mask of the pixels that the experiment looks at."""
        return self.mask(slide)

    def measured(self, slide: str) -> NDArray[np.bool_]:
        """Return the ``(y, x)`` mask of all pixels that hold a spectrum, whatever the experiment looks at."""
        return super().acquired(slide)

    def mask(self, slide: str, where: str = ACQUIRED) -> NDArray[np.bool_]:
        """Return which pixels of a slide an expression chooses, of those that the experiment looks at."""
        chosen = super().mask(slide, where) & super().mask(slide, self._where)
        if self._draw is None or self._part is None:
            return chosen
        held_out = self._draw.held_out(slide, chosen.shape)
        return chosen & (held_out if self._part == TEST else ~held_out)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("_table", "_where", "_draw", "_part")}
        return {**super().__getstate__(), **own}


def relabel(
    study: Study,
    split: Split,
    data: DataSection,
    labels: Mapping[str, str] | None = None,
    *,
    draw: PatchDraw | None = None,
    masks: Masks | None = None,
) -> RelabelledStudy:
    """Return a study whose table holds the slides of a split.

    Parameters
    ----------
    study
        Is not changed.
    split
        Gives the rows, their patients and their part.
    data
        Names the column of the labels, and the pixels.
    labels
        For slides whose label is not the true one.
    draw
        Where patches are split; all slides are then training slides.
    masks
        Of the experiment's own, by name and slide.
    """
    slides = list(dict.fromkeys([*split.train, *split.held_out]))
    training = set(split.train)
    own = pd.DataFrame(
        {
            data.label: [(labels or {}).get(slide, split.labels[slide]) for slide in slides],
            "patient": [split.patients[slide] for slide in slides],
            "split": [TRAIN if slide in training else TEST for slide in slides],
        },
        index=pd.Index(slides, name="slide"),
    ).reindex(study.slides)
    # Other columns may tell the true class, so where labels are shuffled nothing may ask for them.
    others = [] if labels else [name for name in study.samples.columns if name not in own]
    table = own.join(study.samples[others])
    return RelabelledStudy(study, table, where=data.where or ACQUIRED, draw=draw, masks=masks)
