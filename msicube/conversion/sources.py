"""Sources on their way into a study: opened, named and surveyed, each on its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msicube.conversion.work import Options
from msicube.errors import MSICubeError, SlideExists, UsageError
from msicube.readers import AxisSurvey, CubeReader, open_sources
from msicube.store import Study


@dataclass
class Source:
    """A source on its way into the study."""

    path: Path
    name: str
    reader: CubeReader | None = None
    survey: AxisSurvey | None = None
    error: MSICubeError | None = None
    seconds: float = field(default=0.0)


def survey_sources(paths: list[Path], study: Study | None, options: Options, on_error: str) -> list[Source]:
    """Open every source and look through its axis; a stack becomes one source for each plane.

    Raises
    ------
    UsageError
        Two slides of one name, or a name that the store keeps for itself.
    """
    items = [Source(path, path.stem) for path in paths]
    _check_names(items)
    items = [plane for item in items for plane in _planes(item, options, on_error)]
    _check_names(items)
    for item in items:
        guarded(item, on_error, lambda item=item: _survey(item, study))
    return items


def readers_of(items: list[Source]) -> dict[str, tuple[CubeReader, AxisSurvey | None]]:
    """Return reader and survey of those that could be opened, by slide."""
    return {item.name: (item.reader, item.survey) for item in items if item.reader and not item.error}


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


def _planes(item: Source, options: Options, on_error: str) -> list[Source]:
    """Open a source; a stack becomes one slide for each plane."""
    readers = guarded(item, on_error, lambda: open_sources(item.path, on_error=options.on_error))
    if not readers:
        return [item]
    return [
        Source(item.path, reader.info.name, reader, seconds=item.seconds / len(readers)) for reader in readers
    ]


def _survey(item: Source, study: Study | None) -> None:
    """Look through the axis of a source, unless its slide is there and needs none."""
    if item.reader is not None and (study is None or item.name not in study):
        item.survey = item.reader.survey()


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
    assert item.reader is not None
    if stored != item.reader.info.source:
        raise SlideExists(
            f"the study has a slide {item.name} from another file (UUID {stored.get('uuid')}) than {item.path} (UUID "
            f"{item.reader.info.source.get('uuid')}): rename the file, or remove the slide first"
        )


def sample_remarks(items: list[Source], options: Options) -> list[str]:
    """Return what is missing in the samples table."""
    if options.samples is None:
        return []
    missing = [item.name for item in items if item.name not in options.samples]
    return [f"no row in the samples table: {', '.join(missing)}"] if missing else []
