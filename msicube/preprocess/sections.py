"""Sections of TOML files against the dataclasses that say what they may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from msicube.errors import RecipeError

Section = TypeVar("Section")

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_LISTS = (list, tuple, Sequence, Iterable)


def build_section(kind: type[Section], values: Mapping[str, Any], where: str) -> Section:
    """Make a dataclass from the keys of a section, each checked.

    Parameters
    ----------
    kind
        A field is an allowed key; its annotation, its default and the ``range`` of its metadata are what is checked.
    values
        As read from TOML.
    where
        The section, for messages.

    Raises
    ------
    RecipeError
        An unknown key, a missing one, or a value of the wrong type or range.
    """
    allowed = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        if key not in allowed:
            raise RecipeError(
                f"{where} has no key {key!r}{nearest(key, allowed)}: expected {', '.join(allowed)}"
            )
        checked[key] = check_value(value, hints[key], f"{where} {key}")
        _check_range(checked[key], allowed[key], f"{where} {key}")
    for name, spec in allowed.items():
        if name not in checked and spec.default is MISSING and spec.default_factory is MISSING:
            what = f"the section [{name}]" if spec.metadata.get("section") else f"the key {name!r}"
            raise RecipeError(f"{where} lacks {what}")
    return kind(**checked)


def check_value(value: Any, hint: Any, where: str) -> Any:
    """Return a value as its annotation wants it: a whole number as a float, a list as a tuple.

    Annotations other than numbers, texts, truth values, literals, None, and lists and unions of these pass anything:
    what takes the value looks at it.

    Raises
    ------
    RecipeError
        It is of another type.
    """
    try:
        return _converted(value, hint)
    except _Mismatch:
        pass
    literals = [choice for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]
    if literals and (isinstance(value, str) or len(_parts(hint)) == 1):
        raise RecipeError(
            f"{where} = {value!r}{nearest(str(value), map(str, literals))}: expected one of "
            f"{', '.join(map(repr, literals))}"
        )
    raise RecipeError(f"{where} = {value!r} is of type {type(value).__name__}: expected {_described(hint)}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a question that suggests the nearest of the allowed names, or nothing."""
    close = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Mismatch(Exception):
    """A value is not of the annotated type."""


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the annotation itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _converted(value: Any, hint: Any) -> Any:
    parts = _parts(hint)
    if len(parts) > 1:
        return _first(value, parts)
    origin = get_origin(hint)
    if hint in _KINDS:
        if hint is float and type(value) is int:
            return float(value)
        return _only_if(type(value) is hint, value)
    if hint in (None, NoneType):
        return _only_if(value is None, value)
    if origin is Literal:
        return _only_if(value in get_args(hint), value)
    if origin in _LISTS:
        return _converted_list(value, hint)
    return value


def _first(value: Any, parts: Sequence[Any]) -> Any:
    """Return the value as the first alternative that takes it, its own type before others."""
    for part in sorted(parts, key=lambda part: type(value) is not part):
        try:
            return _converted(value, part)
        except _Mismatch:
            continue
    raise _Mismatch


def _converted_list(value: Any, hint: Any) -> Any:
    """Return a list with its items converted; a tuple of fixed length must have that length."""
    args = get_args(hint)
    fixed = get_origin(hint) is tuple and args[-1:] != (Ellipsis,)
    _only_if(isinstance(value, list | tuple) and (not fixed or len(value) == len(args)), value)
    hints = args if fixed else args[:1] * len(value)
    items = [_converted(item, one) for item, one in zip(value, hints, strict=True)]
    return tuple(items) if get_origin(hint) is tuple else items


def _only_if(holds: bool, value: Any) -> Any:
    if not holds:
        raise _Mismatch
    return value


def _described(hint: Any) -> str:
    """Return an annotation in words."""
    words: list[str] = []
    for part in _parts(hint):
        if part in _KINDS:
            words.append(_KINDS[part])
        elif get_origin(part) in _LISTS:
            items = [one for one in get_args(part) if one is not Ellipsis]
            length = f" of {len(items)}" if len(items) > 1 else ""
            words.append(f"a list{length}, each {_described(items[0])}")
        elif get_origin(part) is Literal:
            words.append("one of " + ", ".join(map(repr, get_args(part))))
    return " or ".join(words)


def _check_range(value: Any, spec: Field[Any], where: str) -> None:
    low, high = spec.metadata.get("range", (None, None))
    if low is not None and not low <= value <= high:
        bounds = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
        kind: Callable[..., str] | str = _KINDS[type(value)]
        raise RecipeError(f"{where} = {value}: expected {kind} {bounds}")
