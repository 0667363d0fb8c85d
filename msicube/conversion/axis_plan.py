"""Which spectral axis each source gets: planned over all of them before the first write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msicube.axis import LAWS_HELP, OBSERVED, AxisLaw, SpectralBins
from msicube.errors import AxisMismatch, AxisRequired, UsageError
from msicube.readers import AxisSurvey, CubeReader
from msicube.store import Study


@dataclass(frozen=True)
class AxisPlan:
    """The shared axis of the ragged sources of a study.

    Attributes
    ----------
    law
        None where no law was chosen: then only sources whose spectra share one m/z array can be converted.
    bins
        The channels of that law over the range of all sources.
    """

    law: AxisLaw | None
    bins: SpectralBins | None

    def apply(self, reader: CubeReader, survey: AxisSurvey | None) -> CubeReader:
        """Return a reader on its axis.

        Raises
        ------
        AxisRequired
            The source is ragged and no law was chosen; the message suggests one.
        """
        if survey is None:
            return reader
        if self.bins is not None:
            return reader.with_axis(self.bins, str(self.law))
        if survey.common_axis is not None:
            return reader.with_axis(SpectralBins.observed(survey.common_axis), OBSERVED)
        raise AxisRequired(
            f"{reader.info.name} is processed: every spectrum has its own m/z values, and a study needs one axis. "
            f"Choose it with --mz-axis (mz_axis=): {LAWS_HELP}. The observed spacing suggests {survey.suggestion}"
        )


def plan_axis(surveys: Mapping[str, AxisSurvey | None], mz_axis: str | None, study: Study | None) -> AxisPlan:
    """Choose the axis of the ragged sources.

    Parameters
    ----------
    surveys
        By slide; None for a source that states its axis.
    mz_axis
        The law that the user asked for.
    study
        What is there already: its axis is taken over, so that all slides share one.

    Raises
    ------
    AxisMismatch
        The study is on another law than the one asked for.
    UsageError
        No such law, or nothing to build an axis from.
    """
    law = AxisLaw.parse(mz_axis) if mz_axis else None
    ragged = {name: survey for name, survey in surveys.items() if survey is not None}
    if not ragged:
        return AxisPlan(None, None)
    stored = _stored_law(study)
    if stored is not None and law is not None and str(law) != stored[0]:
        raise AxisMismatch(
            f"the study is on the axis {stored[0]}, {law} was asked for: use the same, or another study"
        )
    if stored is not None:
        kept = AxisLaw.parse(stored[0])
        axis = stored[1]
        return AxisPlan(kept, kept.bins(float(axis[0]), float(axis[-1])))
    if law is None:
        return AxisPlan(None, None)
    lowest = np.nanmin([survey.lowest for survey in ragged.values()])
    highest = np.nanmax([survey.highest for survey in ragged.values()])
    if not np.isfinite([lowest, highest]).all():
        raise UsageError(f"there is no peak in {', '.join(ragged)}: an axis cannot be made from nothing")
    return AxisPlan(law, law.bins(float(lowest), float(highest)))


def _stored_law(study: Study | None) -> tuple[str, np.ndarray] | None:
    """Return the law that slides of the study were binned by, and their axis."""
    if study is None:
        return None
    for name, attrs in study.slide_attrs.items():
        law = attrs.get("axis", {}).get("law", OBSERVED)
        if law != OBSERVED:
            return law, study.axis(name)
    return None
