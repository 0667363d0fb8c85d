"""Read, check and find recipes: TOML files whose every key is known before anything else is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from msicube.errors import RecipeError
from msicube.experiments.recipe import (
    DataSection,
    ModelSection,
    PatchesSection,
    PipelineSection,
    Recipe,
    SpectraSection,
    Step,
    TrainSection,
)

Section = TypeVar("Section")

_SECTIONS: dict[str, type[Any]] = {
    "data": DataSection,
    "pipeline": PipelineSection,
    "patches": PatchesSection,
    "spectra": SpectraSection,
    "model": ModelSection,
    "train": TrainSection,
}
_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that come with msicube."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def load_recipe(recipe: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    recipe
        The path of a TOML file, or the name of a built-in recipe.
    overrides
        Values by dotted key, such as ``{"train.epochs": 3}``.

    Raises
    ------
    RecipeError
        No such recipe, no valid TOML, an unknown or missing key, or a value of the wrong type or range.
    """
    return parse_recipe(_read_table(recipe, overrides))


def load_pipeline_recipe(
    recipe: str | Path, *, overrides: Mapping[str, Any] | None = None
) -> PipelineSection:
    """Read the pipeline of a recipe; a file with nothing but ``[pipeline]`` will do.

    Parameters
    ----------
    recipe, overrides
        As for :func:`load_recipe`.

    Raises
    ------
    RecipeError
        As :func:`load_recipe`.
    """
    table = _read_table(recipe, overrides)
    if set(table) - {"name", "description", "pipeline"}:
        return parse_recipe(table).pipeline
    if "pipeline" not in table:
        raise RecipeError(f"{recipe} has no section [pipeline]: give one with its steps")
    return _section(PipelineSection, table["pipeline"], "[pipeline]")


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``section.key=value`` as given on a command line; a value that is no TOML is a text.

    Raises
    ------
    RecipeError
        An assignment without ``=``.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"{assignment!r} sets nothing: write section.key=value, such as train.epochs=3")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = text.strip()
    return overrides


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Check a recipe that was read from TOML.

    Raises
    ------
    RecipeError
        As :func:`load_recipe`.
    """
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in _SECTIONS:
            values[key] = _section(_SECTIONS[key], value, f"[{key}]")
        else:
            values[key] = value
    recipe = _build(Recipe, values, "the recipe")
    if (recipe.patches is None) == (recipe.spectra is None):
        found = "both [patches] and [spectra]" if recipe.patches else "neither [patches] nor [spectra]"
        raise RecipeError(
            f"recipe {recipe.name!r} has {found}: a sample is one of them, so give exactly one section"
        )
    return recipe


def _read_table(recipe: str | Path, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    text, origin = _read(recipe)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        _override(table, key, value)
    return table


def _folder() -> Any:
    return resources.files("msicube.experiments") / "recipes"


def _read(recipe: str | Path) -> tuple[str, str]:
    """Return the text of a recipe and what to call it in a message."""
    name = str(recipe)
    if name in builtin_recipes():
        return (_folder() / f"{name}.toml").read_text("utf-8"), f"recipe {name}"
    path = Path(recipe)
    if path.is_file():
        return path.read_text("utf-8"), str(path)
    hint = _nearest(name, builtin_recipes())
    raise RecipeError(
        f"no recipe {name!r}{hint}: expected a TOML file or one of {', '.join(builtin_recipes())}"
    )


def _override(table: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    inner = table
    for parent in parents:
        inner = inner.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {key!r}: {parent!r} is not a section")
    inner[last] = value


def _section(kind: type[Section], table: Any, where: str) -> Section:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} is {table!r}: expected a section with keys")
    values = dict(table)
    if kind is ModelSection:
        options = {key: values.pop(key) for key in list(values) if key != "name"}
        values["options"] = options
    if kind is PipelineSection and "steps" in values:
        values["steps"] = _steps(values["steps"])
    return _build(kind, values, where)


def _steps(tables: Any) -> tuple[Step, ...]:
    if not isinstance(tables, list) or not tables:
        raise RecipeError(
            f"[pipeline] steps = {tables!r}: expected a list of at least one table with a key 'step'"
        )
    steps = []
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping) or not isinstance(table.get("step"), str):
            raise RecipeError(
                f'[pipeline] step {number} is {table!r}: expected a table such as {{ step = "Log1p" }}'
            )
        steps.append(Step(table["step"], {key: value for key, value in table.items() if key != "step"}))
    return tuple(steps)


def _build(kind: type[Section], values: dict[str, Any], where: str) -> Section:
    """Make one dataclass, with every key checked."""
    allowed = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in allowed:
            raise RecipeError(
                f"{where} has no key {key!r}{_nearest(key, allowed)}: expected {', '.join(allowed)}"
            )
        values[key] = _check(value, hints[key], allowed[key], f"{where} {key}")
    for name, spec in allowed.items():
        if name not in values and spec.default is MISSING and spec.default_factory is MISSING:
            what = f"the section [{name}]" if name in _SECTIONS else f"the key {name!r}"
            raise RecipeError(f"{where} lacks {what}")
    return kind(**values)


def _check(value: Any, hint: Any, spec: Field[Any], where: str) -> Any:
    """Return the value, a whole number as a float where one is expected."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise RecipeError(
                f"{where} = {value!r}{_nearest(str(value), get_args(hint))}: expected one of {choices}"
            )
        return value
    if hint not in _KINDS:
        return value
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise RecipeError(f"{where} = {value!r} is of type {type(value).__name__}: expected {_KINDS[hint]}")
    low, high = spec.metadata.get("range", (None, None))
    if low is not None and not low <= value <= high:
        bounds = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
        raise RecipeError(f"{where} = {value}: expected {_KINDS[hint]} {bounds}")
    return value


def _nearest(name: str, allowed: Iterable[str]) -> str:
    close = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
