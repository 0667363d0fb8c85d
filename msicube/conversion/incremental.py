"""Slides into one study one by one, as their files arrive, on an axis that is known before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msicube.conversion.axis_plan import AxisPlan
from msicube.conversion.report import SlideReport
from msicube.conversion.run import convert_all
from msicube.conversion.sources import survey_sources
from msicube.conversion.verification import Checks
from msicube.conversion.work import Options
from msicube.errors import MSICubeError
from msicube.readers import AxisSurvey, open_sources
from msicube.store import validate
from msicube.store.draft import METADATA
from msicube.store.study import find_study


@dataclass(frozen=True)
class SourceResult:
    """What became of one source.

    Attributes
    ----------
    rows
        One for each slide that it holds.
    """

    rows: tuple[SlideReport, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """Why slides of it are not in the study."""
        return tuple(row.error or "failed" for row in self.rows if row.status == "failed")


@dataclass(frozen=True)
class SlideWriter:
    """Writes sources into a study; picklable, so that a task on a worker can take one with it.

    It takes no lock: whoever makes one holds the study (:func:`msicube.store.write_lock`), and gives no two tasks
    slides of one name.

    Attributes
    ----------
    options
        As for :func:`msicube.convert`.
    axis
        The shared axis of the study.
    """

    options: Options
    axis: AxisPlan

    def on_worker(self) -> SlideWriter:
        """Return the writer for a task that is one of many: it starts no tasks of its own."""
        options = replace(self.options, scheduler="synchronous", workers=1, progress=None)
        return replace(self, options=options)

    def add(self, path: Path, *, sample: Mapping[str, Any], origin: Mapping[str, Any]) -> SourceResult:
        """Write one source; what is wrong with it is in its row.

        Parameters
        ----------
        path
            Of the source; its slide is named like the file.
        sample
            Its row of the samples table.
        origin
            Where it was downloaded from.
        """
        try:
            known = self.axis.bins is not None
            items = survey_sources([path], None, self.options, "continue", axis_known=known)
        except MSICubeError as error:
            return SourceResult((SlideReport(path.stem, str(path), "failed", error=str(error)),))
        names = [item.name for item in items]
        options = replace(
            self.options,
            samples={name: dict(sample) for name in names} if sample else None,
            origins={name: {**origin, "planes": len(names)} for name in names},
        )
        study = find_study(options.study)
        present = study.only(names) if study is not None else None
        with Checks(options.on_error, enabled=options.verify) as checks:
            return SourceResult(tuple(convert_all(items, self.axis, present, options, "continue", checks)))

    def check(self, path: Path, slides: list[str]) -> list[str]:
        """Compare slides with the source that they were made from, bit for bit; return what differs."""
        study = find_study(self.options.study)
        assert study is not None
        findings = validate(
            study.only(slides),
            slides=slides,
            sources=[path],
            scheduler=self.options.scheduler,
            workers=self.options.workers,
        )
        return [str(finding) for finding in findings]

    def remove(self, slides: list[str]) -> None:
        """Take slides out of the study again."""
        for name in slides:
            (self.options.study / name / METADATA).remove()  # first: from here on nobody sees the slide
            (self.options.study / name).remove()


def survey_file(path: Path) -> list[AxisSurvey]:
    """Look through the m/z values of a source: one survey for each plane that does not state its axis."""
    surveys = [reader.survey() for reader in open_sources(path, on_error="report")]
    return [survey for survey in surveys if survey is not None]
