"""Begin a run in a folder, or take up the one that is there if it is the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msicube.errors import UsageError
from msicube.experiments.recipe import Recipe
from msicube.experiments.record import now
from msicube.experiments.run import INFO, LOCK, RECIPE, Run, create_run, open_run

#: What a run's folder can hold when it was killed before ``run.json`` was written.
_FIRST = {RECIPE, f".{RECIPE}.partial", f".{INFO}.partial"}
#: Of the rows of the split, what decides the numbers of a run.
_PARTS, _ROW = ("train", "validation", "test"), ("patient", "label", "trained_as", "digest")
#: Differences that a message lists before it breaks off.
_LISTED = 4


def start_run(
    path: str | os.PathLike[str], recipe: Recipe, info: Mapping[str, Any], *, overwrite: bool, resume: bool
) -> tuple[Run, dict[str, Any]]:
    """Make the folder of a run, or take up the one that is there.

    Parameters
    ----------
    path
        The folder.
    recipe, info
        Of the run that is asked for; what ``run.json`` holds before anything is fitted.
    overwrite, resume
        What to do with a run that is there; at most one of the two. Without one, ``resume`` begins it.

    Returns
    -------
    Run, dict
        The run, and what its ``run.json`` holds from here on: of a run that is taken up as it was, with one more entry
        in ``"resumed"``, or with the state ``"finished"``.

    Raises
    ------
    UsageError
        Something else is there, or a run of another recipe, other data or another seed.
    """
    if overwrite and resume:
        raise UsageError("overwrite starts a run anew and resume goes on with it: give one of the two")
    folder = Path(path)
    if (folder / LOCK).is_file():
        with Run(folder).locked():  # nothing is touched that another process writes
            pass
    if not resume or not (folder / INFO).is_file():
        if resume and folder.is_dir() and {entry.name for entry in folder.iterdir()} <= _FIRST:
            shutil.rmtree(folder)
        run = create_run(folder, recipe, overwrite=overwrite)
        run.write_json(INFO, info)
        return run, dict(info)
    run = open_run(folder)
    known = run.info
    found = differences(run.recipe.table(), recipe.table()) + differences(_decisive(known), _decisive(info))
    if found:
        more = f", and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise UsageError(
            f"{folder} is another run: {', '.join(found[:_LISTED])}{more}; give the command that began it, or "
            f"overwrite=True (--overwrite) to start anew"
        )
    if known["state"] == "finished":
        return run, known
    for left in folder.glob(".*.partial"):
        left.unlink()
    known = {key: value for key, value in known.items() if key != "ended"} | {"state": "running"}
    known["resumed"] = [*known.get("resumed", []), {"at": now(), "versions": info["versions"]}]
    run.write_json(INFO, known)
    return run, known


def differences(before: Mapping[str, Any], after: Mapping[str, Any], *, inside: str = "") -> list[str]:
    """Return what differs between two nested tables, as ``key was ... and is ...``."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, inside=f"{inside}{key}.")
        elif _plain(old) != _plain(new):
            found.append(f"{inside}{key} was {old!r} and is {new!r}")
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON and TOML give it back."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _decisive(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of ``run.json`` decides the numbers of a run; where the study lies does not."""
    parts = {
        part: {row["slide"]: {key: row.get(key) for key in _ROW} for row in rows}
        for part, rows in info["split"].items()
        if part in _PARTS
    }
    return {"seed": info["seed"], "shuffled_labels": info["shuffled_labels"], **parts}
