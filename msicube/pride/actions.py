"""What is done with a slide that has arrived: its m/z range is taken, or it is written into the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msicube.conversion import SlideReport, SlideWriter
from msicube.conversion.incremental import survey_file
from msicube.errors import CorruptStore
from msicube.pride.flow import Fetched
from msicube.pride.labels import Labels
from msicube.remote.bring import origin_of
from msicube.remote.pairs import RemotePair

ARCHIVE = "PRIDE"


def imzml_of(pair: RemotePair, fetched: Fetched) -> Path:
    """Return where the .imzML of a slide that has arrived is."""
    return next(receipt.path for remote, receipt in fetched if remote.path == pair.imzml.path)


@dataclass(frozen=True)
class Download:
    """Does nothing more."""

    def __call__(self, pair: RemotePair, fetched: Fetched) -> Path:
        """Return where the slide is."""
        return imzml_of(pair, fetched)


@dataclass(frozen=True)
class Survey:
    """Takes the range of m/z of a slide."""

    def __call__(self, pair: RemotePair, fetched: Fetched) -> tuple[float, float] | None:
        """Return lowest and highest m/z; None for a slide that states its axis, or has no peak."""
        found = [s for s in survey_file(imzml_of(pair, fetched)) if np.isfinite([s.lowest, s.highest]).all()]
        if not found:
            return None
        return min(s.lowest for s in found), max(s.highest for s in found)


@dataclass(frozen=True)
class Convert:
    """Writes a slide into the study.

    Attributes
    ----------
    writer
        Of the study, on its axis.
    labels
        Of all slides.
    accession
        Of the project.
    compare
        Whether what was stored is compared with the files, bit for bit: before they are removed.
    """

    writer: SlideWriter
    labels: Labels
    accession: str
    compare: bool

    def __call__(self, pair: RemotePair, fetched: Fetched) -> tuple[SlideReport, ...]:
        """Return what was done, one row for each plane."""
        path = imzml_of(pair, fetched)
        origin = origin_of(fetched, archive=ARCHIVE, accession=self.accession, slide=pair.slide)
        result = self.writer.add(path, sample=self.labels.of(pair.slide), origin=origin)
        if self.compare and not result.errors:
            slides = [row.slide for row in result.rows]
            findings = self.writer.check(path, slides)
            if findings:
                self.writer.remove(slides)
                raise CorruptStore(
                    f"what was stored is not what the file has, removed: {'; '.join(findings[:3])}"
                )
        return result.rows
