"""The one axis of a project's slides, although not all of its files may be here at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msicube.axis import AxisLaw
from msicube.conversion.axis_plan import AxisPlan, known_axis, plan_axis
from msicube.conversion.sources import Opener, Source
from msicube.errors import UsageError
from msicube.pride.actions import Download, Survey
from msicube.pride.flow import Plan, Runner
from msicube.remote.pairs import RemotePair
from msicube.remote.pool import check_space
from msicube.store import Study

SURVEY = "survey.json"


def axis_of(
    pairs: Sequence[RemotePair],
    plan: Plan,
    runner: Runner,
    mz_axis: str | None,
    mz_range: tuple[float, float] | None,
    study: Study | None,
    *,
    two_passes: bool,
) -> AxisPlan:
    """Return the axis of processed slides.

    It is known at once where the study has one, where a range was given, or where the law is a list of peaks. Without a
    law slides keep the axis that they state. Else every slide's m/z values have to be looked through first: where all
    files stay, they are downloaded for that; where they do not, that is a pass of its own.

    Raises
    ------
    UsageError
        The files do not stay, and a pass of its own was not asked for or cannot make the axis.
    """
    if not plan.keep and pairs and mz_axis:
        _check_streamable(mz_axis, mz_range, study, two_passes)
    elif plan.keep:
        check_space([place for pair in pairs for place in pair.places(plan.folder)])
    known = known_axis(mz_axis, study, mz_range)
    if known is not None or mz_axis is None or not pairs:
        return known or AxisPlan()
    law = AxisLaw.parse(mz_axis)
    if law.kind == "union":
        return _union(pairs, plan, runner, mz_axis)
    ranges = _ranges(pairs, plan, runner)
    if not ranges:
        return AxisPlan()
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    return AxisPlan(str(law), law.bins(lowest, highest))


def _check_streamable(
    mz_axis: str, mz_range: tuple[float, float] | None, study: Study | None, two_passes: bool
) -> None:
    if known_axis(mz_axis, study, mz_range) is not None:
        return
    law = AxisLaw.parse(mz_axis)
    if law.kind == "union":
        raise UsageError(
            f"the axis {law} is made from the values of all slides, whose files are not here at once with --stream: "
            f"choose another law, or leave --stream out"
        )
    if not two_passes:
        raise UsageError(
            f"the axis {law} has to cover all slides, and with --stream no file is here when the next one comes: say "
            f"its range with --mz-range LOW HIGH, or let every file be downloaded twice with --two-passes"
        )


def _ranges(pairs: Sequence[RemotePair], plan: Plan, runner: Runner) -> list[tuple[float, float]]:
    """Return the range of each slide; those that a stopped run found are not looked for again."""
    notes = plan.folder / SURVEY
    found = _load(notes)
    keys = {pair.slide: _key(pair) for pair in pairs}
    left = [pair for pair in pairs if found.get(pair.slide, {}).get("key") != keys[pair.slide]]
    for handled in runner(left, plan, Survey()):
        if handled.error is None:  # else it fails again when it is to be converted, and is reported then
            found[handled.pair.slide] = {"key": keys[handled.pair.slide], "range": handled.result}
            _save(notes, found)
    return [tuple(found[slide]["range"]) for slide in keys if found.get(slide, {}).get("range")]


def _union(pairs: Sequence[RemotePair], plan: Plan, runner: Runner, mz_axis: str) -> AxisPlan:
    """Return the union of the values of all slides, whose files are here then."""
    here = [h.result for h in runner(list(pairs), plan, Download()) if h.error is None]
    opener = Opener("report")
    items = [Source(path, path.stem, opener) for path in sorted(here)]
    surveys = {item.name: (item.open, item.open().survey()) for item in items}
    return plan_axis(surveys, mz_axis, None)


def _key(pair: RemotePair) -> str:
    """Return what a slide's range belongs to: its files in the state in which the archive lists them."""
    return json.dumps([[file.path, file.size, file.md5] for file in pair.files])


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    temporary.replace(path)
