"""Sources on their way into a study: opened, named and surveyed, each on its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.conversion.work import Options
from msicube.errors import MSICubeError, SlideExists, UsageError
from msicube.readers import AxisSurvey, CubeReader, OnError, open_sources
from msicube.store import Study


class Opener:
    """Opens source files and keeps only the last one: the indexes of an archive would not fit into memory."""

    def __init__(self, on_error: OnError) -> None:
        self._on_error: OnError = on_error
        self._path: Path | None = None
        self._planes: list[CubeReader] = []

    def planes(self, path: Path) -> list[CubeReader]:
        """Return a reader for each plane of a file."""
        if path != self._path:
            self._path, self._planes = None, []
            self._planes = open_sources(path, on_error=self._on_error)
            self._path = path
        return self._planes


@dataclass
class Source:
    """A source on its way into the study."""

    path: Path
    name: str
    opener: Opener
    survey: AxisSurvey | None = None
    modality: str | None = None
    axis: NDArray[np.float64] | None = None
    error: MSICubeError | None = None
    seconds: float = field(default=0.0)

    def open(self) -> CubeReader:
        """Open the source, again if another was opened since."""
        return next(reader for reader in self.opener.planes(self.path) if reader.info.name == self.name)

    @property
    def stamp(self) -> str:
        """What changes when the files of the source are written again: those whose names begin as its name does."""
        stem = self.path.stem.lower()
        files = sorted(path for path in self.path.parent.iterdir() if path.name.lower().startswith(stem))
        return " ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def survey_sources(
    paths: list[Path], study: Study | None, options: Options, on_error: str, *, axis_known: bool = False
) -> list[Source]:
    """Open every source and look through its axis; a stack becomes one source for each plane.

    Where the axis is known already (``axis_known``) the m/z values are not looked through.

    Raises
    ------
    UsageError
        Two slides of one name, or a name that the store keeps for itself.
    """
    opener = Opener(options.on_error)
    items = [Source(path, path.stem, opener) for path in paths]
    _check_names(items)
    items = [plane for item in items for plane in _planes(item, study, on_error, axis_known)]
    _check_names(items)
    return items


def surveys_of(items: list[Source]) -> dict[str, tuple[Callable[[], CubeReader], AxisSurvey | None]]:
    """Return how to open each source that can be opened, and its survey, by slide."""
    return {item.name: (item.open, item.survey) for item in items if not item.error}


def axes_of(items: list[Source]) -> dict[str, NDArray[np.float64]]:
    """Return the axis of each source that states one, by slide."""
    return {item.name: item.axis for item in items if item.axis is not None and not item.error}


def one_modality(items: list[Source], study: Study | None) -> str:
    """Return the modality of all sources that can be opened and of the study.

    Raises
    ------
    UsageError
        There are two.
    """
    found: dict[str, str] = {}
    if study is not None:
        found[study.modality] = f"the study {study.path}"
    for item in items:
        if item.modality is not None:
            found.setdefault(item.modality, str(item.path))
    if len(found) > 1:
        named = " and ".join(f"{modality} ({example})" for modality, example in found.items())
        raise UsageError(f"a study holds one modality, found {named}: convert them into studies of their own")
    return next(iter(found), "msi")


def _check_names(items: list[Source]) -> None:
    """Check that every slide has a name of its own.

    Raises
    ------
    UsageError
        Two slides of one name, or a name that the store keeps for itself.
    """
    seen: dict[str, Path] = {}
    for item in items:
        if item.name.startswith(("_", ".")):
            raise UsageError(
                f"{item.path}: slide names must not start with '{item.name[0]}'; rename the file"
            )
        if item.name in seen:
            raise UsageError(
                f"{seen[item.name]} and {item.path} would both be the slide {item.name}: rename one"
            )
        seen[item.name] = item.path


def guarded(item: Source, on_error: str, action: Any) -> Any:
    """Run a step of one source; note its error where the others are to go on."""
    started = time.perf_counter()
    try:
        return action()
    except MSICubeError as error:
        if on_error == "stop":
            raise
        item.error = error
        return None
    finally:
        item.seconds += time.perf_counter() - started


def _planes(item: Source, study: Study | None, on_error: str, axis_known: bool) -> list[Source]:
    """Open and survey a source; a stack becomes one slide for each plane."""
    readers = guarded(item, on_error, lambda: item.opener.planes(item.path))
    if not readers:
        return [item]
    planes = [
        Source(item.path, reader.info.name, item.opener, seconds=item.seconds / len(readers))
        for reader in readers
    ]
    for plane in planes if not axis_known else ():
        guarded(plane, on_error, lambda plane=plane: _survey(plane, study))
    return planes


def _survey(item: Source, study: Study | None) -> None:
    """Look through the axis of a source, unless its slide is there and needs none."""
    reader = item.open()
    item.modality, item.axis = reader.info.modality, reader.info.axis
    if study is None or item.name not in study:
        item.survey = reader.survey()


def check_present(item: Source, study: Study) -> None:
    """Check that a slide that is in the study came from this source.

    Raises
    ------
    SlideExists
        It came from another.
    """
    stored = {
        key: value for key, value in study.slide_attrs[item.name]["source"].items() if key != "verified"
    }
    found = item.open().info.source
    if stored != found:
        differs = [key for key in stored | found if stored.get(key) != found.get(key)]
        raise SlideExists(
            f"the study has a slide {item.name} from another source than {item.path}: they differ in "
            f"{', '.join(differs)}; rename the source, or remove the slide first"
        )


def sample_remarks(items: list[Source], options: Options) -> list[str]:
    """Return what is missing in the samples table."""
    if options.samples is None:
        return []
    missing = [item.name for item in items if item.name not in options.samples]
    return [f"no row in the samples table: {', '.join(missing)}"] if missing else []
