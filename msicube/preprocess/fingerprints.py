"""Hashes of fitted steps, and of what else decides the numbers of a pass."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from msicube.preprocess.base import Step

_NAMED = (type, FunctionType, BuiltinFunctionType)


def update_with_steps(digest: Any, steps: Sequence[Step]) -> None:
    """Add fitted steps, their parameters and what they learned, to a hash."""
    for step in steps:
        document = json.dumps(step_document(step), sort_keys=True, allow_nan=False)
        digest.update(document.encode())
        for name, array in learned_arrays(step).items():
            update_with_array(digest, name, array)


def update_with_array(digest: Any, name: str, array: NDArray[Any]) -> None:
    """Add a named array to a hash."""
    digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


def step_document(step: Step) -> dict[str, Any]:
    """Return the class, the parameters and the learned values of a fitted step, for JSON."""
    return {
        "class": class_name(type(step)),
        "params": plain(step.get_params(deep=False)),
        "learned": plain({name: getattr(step, name) for name in step.learned_values}),
    }


def learned_arrays(step: Step) -> dict[str, NDArray[Any]]:
    """Return what a step learned as float64 or int64 arrays, in the order of their names."""
    arrays = {name: np.asarray(getattr(step, name)) for name in sorted(step.learned_arrays)}
    return {
        name: array.astype("<i8" if array.dtype.kind in "iu" else "<f8") for name, array in arrays.items()
    }


def class_name(cls: type) -> str:
    """Return the name under which a step is saved; those of other packages carry their module."""
    return cls.__name__ if cls.__module__.startswith("msicube.") else f"{cls.__module__}:{cls.__qualname__}"


def plain(value: Any) -> Any:
    """Return a value in the types of JSON; arrays become lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 of the code that makes statistics: this package's source, and the release of NumPy.

    A version number would have to be raised by hand with every change that moves a bit, and once it would be forgotten.
    """
    digest = hashlib.sha256(np.__version__.encode())
    for name, entry in sorted(source_files(resources.files(__package__)).items()):
        digest.update(name.encode() + entry.read_bytes())
    return digest.hexdigest()


def source_files(folder: Traversable, before: str = "") -> dict[str, Traversable]:
    """Return the Python files in a folder and in those within it, by their names relative to it."""
    found: dict[str, Traversable] = {}
    for entry in folder.iterdir():
        name = before + entry.name
        if entry.is_dir():
            found |= source_files(entry, name + "/")
        elif name.endswith(".py"):
            found[name] = entry
    return found


def is_own(value: Any) -> bool:
    """Return whether a class or a function is msicube's, so that :func:`code_digest` covers it."""
    return str(getattr(value, "__module__", "")).startswith("msicube.preprocess.")


def description(value: Any) -> Any:
    """Return what decides a value's behaviour, for JSON: arrays as hashes, functions by their name.

    Raises
    ------
    TypeError
        The value is not made of numbers, texts, arrays, and dataclasses, functions and fitted steps of this package.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufSU":
        data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": value.dtype.str, "shape": value.shape, "sha256": data}
    if isinstance(value, Mapping):
        return {"mapping": [[description(key), description(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [description(item) for item in value]
    return _description_of_code(value)


def _description_of_code(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return {"partial": [description(part) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, MethodType):
        return {"method": value.__func__.__qualname__, "of": description(value.__self__)}
    if isinstance(value, _NAMED) and is_own(value) and "<" not in value.__qualname__:
        return f"{value.__module__}:{value.__qualname__}"
    if is_own(type(value)) and hasattr(value, "learned_arrays"):
        arrays = {name: description(array) for name, array in learned_arrays(value).items()}
        return {**step_document(value), "arrays": arrays}
    if is_own(type(value)) and is_dataclass(value):
        named = [field.name for field in fields(value) if not field.name.startswith("_")]
        return {"class": type(value).__qualname__, **{n: description(getattr(value, n)) for n in named}}
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be told from others of its kind")
