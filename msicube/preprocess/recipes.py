"""The ``[pipeline]`` section of a recipe: steps by the names of their classes, with their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msicube.preprocess
from msicube.errors import RecipeError
from msicube.preprocess.base import Step
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.sections import build_section, check_value, nearest


@dataclass(frozen=True)
class StepTable:
    """One step: the name of its class in :mod:`msicube.preprocess`, and its parameters."""

    step: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineSection:
    """``[pipeline]``: what happens to the spectra.

    Attributes
    ----------
    steps
        In order, as tables such as ``{ step = "SelectChannels", k = 100, by = "label" }``.
    name
        A fitted pipeline of this name in the study is used if its steps, its slides and its pixels are the recipe's.
    where
        Which spectra it is fitted on: a mask, or an expression such as ``"tissue & ~dead"``; all by default.
    """

    steps: tuple[StepTable, ...]
    name: str = "pipeline"
    where: str | None = None

    def table(self) -> dict[str, Any]:
        """Return the section as TOML holds it; :func:`parse_pipeline` takes it back."""
        where = {} if self.where is None else {"where": self.where}
        return {
            "name": self.name,
            **where,
            "steps": [{"step": one.step, **one.parameters} for one in self.steps],
        }


def parse_pipeline(table: Any, *, what: str = "[pipeline]") -> PipelineSection:
    """Check a ``[pipeline]`` section that was read from TOML: its keys, its steps and their parameters.

    Beside the keys of :class:`PipelineSection` it may have ``without``, a list of steps to leave out, so that one
    assignment takes a step away.

    Parameters
    ----------
    table
        The section.
    what
        What to call it in messages.

    Raises
    ------
    RecipeError
        An unknown step, key or parameter, one that is missing, or a value of the wrong type; or ``without`` names a
        step that is not there, or all of them.
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{what} is {table!r}: expected a section with keys")
    values = dict(table)
    left_out = values.pop("without", [])
    if "steps" in values:
        values["steps"] = _without(_step_tables(values["steps"], what), left_out, what)
    section = build_section(PipelineSection, values, what)
    build_pipeline(section, what=what)
    return section


def build_pipeline(section: PipelineSection, *, what: str = "[pipeline]") -> Pipeline:
    """Return the unfitted pipeline of a recipe; ``what`` is what to call the section in messages.

    Raises
    ------
    RecipeError
        An unknown step, a parameter that it does not take or lacks, or one of the wrong type.
    """
    return Pipeline([_build_step(table, what) for table in section.steps])


def known_steps() -> dict[str, type[Step]]:
    """Return the steps that a recipe may name: the public ones of :mod:`msicube.preprocess`."""
    found = {name: getattr(msicube.preprocess, name) for name in msicube.preprocess.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, Step) and kind is not Step
    }


def str_steps(steps: Sequence[Step]) -> str:
    """Return steps with all of their parameters in one line."""
    texts = []
    for step in steps:
        parameters = ", ".join(
            f"{key}={value!r}" for key, value in sorted(step.get_params(deep=False).items())
        )
        texts.append(f"{type(step).__name__}({parameters})")
    return " -> ".join(texts)


def _without(steps: tuple[StepTable, ...], names: Any, what: str) -> tuple[StepTable, ...]:
    """Return the steps but for those of some names."""
    present = [one.step for one in steps]
    if not isinstance(names, list) or any(name not in present for name in names):
        raise RecipeError(
            f"{what} without = {names!r}: expected a list of some of its steps, {', '.join(present)}"
        )
    left = tuple(one for one in steps if one.step not in names)
    if not left:
        raise RecipeError(f"{what} without = {names!r} leaves no step: keep one at least")
    return left


def _step_tables(tables: Any, what: str) -> tuple[StepTable, ...]:
    if not isinstance(tables, list) or not tables:
        raise RecipeError(
            f"{what} steps = {tables!r}: expected a list of at least one table with a key 'step'"
        )
    steps = []
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping) or not isinstance(table.get("step"), str):
            raise RecipeError(
                f'[pipeline] step {number} is {table!r}: expected a table such as {{ step = "Log1p" }}'
            )
        steps.append(StepTable(table["step"], {key: value for key, value in table.items() if key != "step"}))
    return tuple(steps)


def _build_step(table: StepTable, what: str) -> Step:
    known = known_steps()
    if table.step not in known:
        raise RecipeError(
            f"{what} there is no step {table.step!r}{nearest(table.step, known)}: expected one of "
            f"{', '.join(known)}"
        )
    kind = known[table.step]
    allowed = inspect.signature(kind).parameters
    for key in table.parameters:
        if key not in allowed:
            raise RecipeError(
                f"{what} step {table.step} has no parameter {key!r}{nearest(key, allowed)}: expected "
                f"{', '.join(allowed) or 'none'}"
            )
    lacking = [p.name for p in allowed.values() if p.default is p.empty and p.name not in table.parameters]
    if lacking:
        raise RecipeError(f"{what} step {table.step} lacks the parameter {lacking[0]!r}")
    hints = _hints(kind)
    return kind(
        **{
            key: check_value(value, hints.get(key, Any), f"{what} step {table.step} {key}")
            for key, value in table.parameters.items()
        }
    )


def _hints(kind: type[Step]) -> dict[str, Any]:
    """Return the annotations of a step's parameters; none where they name what only a type checker imports."""
    try:
        return get_type_hints(kind.__init__)
    except NameError:
        return {}
