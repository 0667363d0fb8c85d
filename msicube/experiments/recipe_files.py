"""Read, check and find recipes: TOML files whose every key is known before anything else is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from msicube.errors import RecipeError, UsageError
from msicube.experiments.recipe import (
    DataSection,
    ModelSection,
    PatchesSection,
    PretrainSection,
    Recipe,
    SpectraSection,
    TrainSection,
)
from msicube.preprocess.masks import Mask
from msicube.preprocess.recipes import PipelineSection, build_pipeline, parse_pipeline
from msicube.preprocess.sections import build_section, nearest
from msicube.store.masks import check_mask_name

_SECTIONS: dict[str, type[Any]] = {
    "data": DataSection,
    "pipeline": PipelineSection,
    "patches": PatchesSection,
    "spectra": SpectraSection,
    "model": ModelSection,
    "train": TrainSection,
    "pretrain": PretrainSection,
}


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
    return parse_pipeline(table["pipeline"])


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
        if key == "masks":
            values[key] = parse_masks(value)
        elif key in _SECTIONS:
            values[key] = _section(_SECTIONS[key], value, f"[{key}]")
        else:
            values[key] = value
    recipe = build_section(Recipe, values, "the recipe")
    if (recipe.patches is None) == (recipe.spectra is None):
        found = "both [patches] and [spectra]" if recipe.patches else "neither [patches] nor [spectra]"
        raise RecipeError(
            f"recipe {recipe.name!r} has {found}: a sample is one of them, so give exactly one section"
        )
    _check_validation(recipe)
    return recipe


def _check_validation(recipe: Recipe) -> None:
    """Refuse early stopping on what is held out for testing, and a validation part where patients are not split."""
    data, train = recipe.data, recipe.train
    if train.patience and not data.validation_fraction:
        raise RecipeError(
            f"[train] patience = {train.patience} needs patients to watch: set data.validation_fraction, such as 0.2, "
            f"since the held-out ones must not decide when training ends"
        )
    if data.validation_fraction and data.split == "patch":
        raise RecipeError(
            f"[data] validation_fraction = {data.validation_fraction} takes whole patients out of training, and "
            f"split = 'patch' tests on all of them: set it to 0, or split by patient"
        )


def parse_masks(table: Any) -> dict[str, PipelineSection]:
    """Check the sections ``[masks.<name>]``.

    Raises
    ------
    RecipeError
        A name that no mask may have, steps that do not end in a mask, or anything else that is wrong with them.
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"[masks] is {table!r}: expected sections such as [masks.outlier]")
    found = {}
    for name, section in table.items():
        try:
            check_mask_name(name)
        except UsageError as error:
            raise RecipeError(f"[masks.{name}]: {error}") from error
        if isinstance(section, Mapping) and "name" in section:
            raise RecipeError(f"[masks.{name}] has a key 'name': the section's own name is that of the mask")
        values = {**section, "name": name} if isinstance(section, Mapping) else section
        found[name] = parse_pipeline(values, what=f"[masks.{name}]")
        last = build_pipeline(found[name]).steps[-1]
        if not isinstance(last, Mask):
            raise RecipeError(
                f"[masks.{name}] ends in {type(last).__name__}: its last step has to be a mask such as OutlierMask"
            )
    return found


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
    hint = nearest(name, builtin_recipes())
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
    inner[last] = deepcopy(value)  # a later key may change a part of it, which is the caller's


def _section(kind: type[Any], table: Any, where: str) -> Any:
    if kind is PipelineSection:
        return parse_pipeline(table)
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} is {table!r}: expected a section with keys")
    values = dict(table)
    if kind is ModelSection:
        own = {one.name for one in fields(ModelSection)} - {"options"}
        options = {key: values.pop(key) for key in list(values) if key not in own}
        values["options"] = options
    return build_section(kind, values, where)
