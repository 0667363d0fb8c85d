"""Dataclasses of numbers and arrays as bytes, and back, without running anything that the bytes name.

A packed value is a magic, the length of a JSON header, the header, the arrays one after another, and the SHA-256 of all
of it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptStore
from msicube.preprocess.fingerprints import is_own

MAGIC = b"msicube statistic 1\n"
_LENGTH = struct.Struct("<Q")
_HASH = hashlib.sha256().digest_size


def pack(value: Any) -> bytes:
    """Return a value as bytes.

    Parameters
    ----------
    value
        Numbers, texts, None, arrays, lists, mappings, and dataclasses of this package that are made of them.

    Raises
    ------
    TypeError
        Something else is in it.
    """
    arrays: list[NDArray[Any]] = []
    structure = _structure(value, arrays)
    header = json.dumps({"value": structure, "arrays": [[a.dtype.str, a.shape] for a in arrays]}).encode()
    body = b"".join([MAGIC, _LENGTH.pack(len(header)), header, *(a.tobytes() for a in arrays)])
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes) -> Any:
    """Return the value that was packed; its arrays can be written to.

    Raises
    ------
    CorruptStore
        The bytes are not those that were packed.
    """
    body = memoryview(data)[:-_HASH]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[-_HASH:]:
        raise CorruptStore(
            f"{len(data)} bytes are no packed statistic: remove the file, it is gathered again"
        )
    at = len(MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack(body[len(MAGIC) : at])
    header = json.loads(bytes(body[at : at + length]))
    at += length
    arrays = []
    for dtype, shape in header["arrays"]:
        array = np.frombuffer(body, dtype, int(np.prod(shape)), at).reshape(shape).copy()
        arrays.append(array)
        at += array.nbytes
    return _value(header["value"], arrays)


def _structure(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _structure(value.item(), arrays)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(np.ascontiguousarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, Mapping):
        return {"mapping": [[_structure(k, arrays), _structure(v, arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_structure(v, arrays) for v in value]}
    cls = type(value)
    if is_dataclass(cls) and is_own(cls):
        parts = {f.name: _structure(getattr(value, f.name), arrays) for f in fields(cls) if f.init}
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "fields": parts}
    raise TypeError(f"a value of type {cls.__name__} cannot be packed")


def _value(structure: Any, arrays: list[NDArray[Any]]) -> Any:
    if not isinstance(structure, dict):
        return structure
    if "array" in structure:
        return arrays[structure["array"]]
    if "mapping" in structure:
        return {_value(key, arrays): _value(item, arrays) for key, item in structure["mapping"]}
    if "list" in structure:
        return [_value(item, arrays) for item in structure["list"]]
    if "tuple" in structure:
        return tuple(_value(item, arrays) for item in structure["tuple"])
    cls = _dataclass(structure["class"])
    return cls(**{name: _value(part, arrays) for name, part in structure["fields"].items()})


def _dataclass(name: str) -> Any:
    """Return a dataclass of this package by its name; nothing else is ever looked up."""
    module, _, qualname = name.partition(":")
    cls = getattr(import_module(module), qualname, None) if module.startswith("msicube.preprocess.") else None
    if not isinstance(cls, type) or not is_dataclass(cls) or not is_own(cls):
        raise CorruptStore(f"{name!r} is no statistic of this msicube: remove the file, it is gathered again")
    return cls
