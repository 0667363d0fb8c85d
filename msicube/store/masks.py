"""Masks of a slide: boolean ``(y, x)`` variables, named in expressions such as ``"tissue & ~dead"``."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.errors import UsageError
from msicube.store.draft import METADATA, Draft, array_metadata, location_metadata
from msicube.store.location import Location
from msicube.store.packed import PackedMask
from msicube.tiling import image_chunks

#: The mask that every slide has, and that every other lies within.
ACQUIRED = "acquired"
#: The attribute of a mask that says how it was made.
RECORD = "msicube_mask"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = frozenset({*schema.BY_NAME, *(dim for spec in schema.SPECS for dim in spec.dims), "peaks"})
_LONGEST = 1000

Bools = NDArray[np.bool_]


def read_mask(
    study: Location, slide: str, where: str = ACQUIRED, given: Mapping[str, PackedMask] | None = None
) -> Bools:
    """Return which pixels of a slide an expression chooses; reads nothing else, so it suits a task on a worker.

    Parameters
    ----------
    study, slide
        Which slide.
    where
        Names of masks, joined by ``&`` (both), ``|`` (either), ``~`` (not) and parentheses.
    given
        Masks by name that are not stored; they come before stored ones of the same name.

    Returns
    -------
    ndarray
        ``(y, x)`` bool; False where nothing was acquired, whatever the expression.

    Raises
    ------
    UsageError
        No expression of masks, or a mask that the slide lacks; the message lists those it has.
    """
    expression = parse_where(where)
    acquired = _read(study, slide, ACQUIRED)
    if where == ACQUIRED:
        return acquired
    known = given or {}

    def mask(name: str) -> Bools:
        if name == ACQUIRED:
            return acquired
        return known[name].whole() if name in known else _read(study, slide, name)

    return expression(mask) & acquired


def parse_where(where: str) -> Callable[[Callable[[str], Bools]], Bools]:
    """Return a function that combines masks as an expression says; it takes what gives the mask of a name.

    Raises
    ------
    UsageError
        Anything but names, ``&``, ``|``, ``~`` and parentheses.
    """
    try:
        if len(where) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        tree = ast.parse(where.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _no_expression(where) from error
    _check(tree, where)
    return lambda mask: _combine(tree, mask)


def mask_names(study: Location, slide: str) -> list[str]:
    """Return the names of a slide's masks, ``acquired`` first."""
    others = [
        name
        for name in (study / slide).children()
        if name != ACQUIRED and _is_mask(location_metadata(study / slide / name))
    ]
    return [ACQUIRED, *others]


def check_mask_name(name: str) -> None:
    """Check the name of a mask to be made.

    Raises
    ------
    UsageError
        It is not a simple name, or that of a variable that every slide has.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a mask: begin with a letter, then letters, digits and underscores"
        )
    if name in _RESERVED:
        raise UsageError(f"'{name}' is the name of a variable of every slide: choose another for the mask")


def write_image(
    study: Location,
    slide: str,
    name: str,
    values: NDArray[Any],
    *,
    spec: schema.VariableSpec,
    attrs: Mapping[str, Any],
) -> None:
    """Write a ``(y, x)`` variable into a slide that is in the study already; it appears whole, or not at all.

    Parameters
    ----------
    study, slide, name
        Where it goes; a variable of this name is replaced.
    values
        ``(y, x)``; cast to the type of ``spec``.
    spec
        :data:`msicube.schema.MASK` or :data:`msicube.schema.MASK_IMAGE`.
    attrs
        On top of the spec's.
    """
    values = np.asarray(values, spec.dtype)
    metadata, chunks = _encoded(values, spec, attrs)
    draft = Draft.of(study, f"{slide}/{name}")
    draft.discard()
    try:
        for key, data in chunks.items():
            (draft.work / key).put(data)
        draft.commit(metadata)
    except BaseException:
        draft.discard()
        raise


def _encoded(
    values: NDArray[Any], spec: schema.VariableSpec, attrs: Mapping[str, Any]
) -> tuple[bytes, dict[str, bytes]]:
    """Return the metadata and the chunks of an array, so that the metadata can be stored last."""
    import zarr

    metadata = array_metadata(
        values.shape,
        values.dtype,
        chunks=image_chunks(values.shape),
        dims=spec.dims,
        attrs={**spec.attributes(), **attrs},
        fill_value=spec.fill_value,
    )
    objects: dict[str, Any] = {
        METADATA: zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(metadata)
    }
    zarr.open_array(zarr.storage.MemoryStore(objects), mode="r+", zarr_format=3)[...] = values
    return metadata, {key: data.to_bytes() for key, data in objects.items() if key != METADATA}


def _read(study: Location, slide: str, name: str) -> Bools:
    import zarr

    location = study / slide / name
    if not _is_mask(location_metadata(location)):
        known = ", ".join(mask_names(study, slide))
        raise UsageError(
            f"slide {slide} of {study} has no mask '{name}', it has {known}: make it with `msicube mask`"
        )
    return np.asarray(zarr.open_array(location.zarr_store(), mode="r", zarr_format=3)[...], bool)


def _is_mask(metadata: Mapping[str, Any] | None) -> bool:
    return (
        metadata is not None
        and metadata.get("data_type") == "bool"
        and tuple(metadata.get("dimension_names") or ()) == schema.MASK.dims
    )


def _check(node: ast.expr, where: str) -> None:
    """Check that a tree holds nothing but names and the three operators."""
    match node:
        case ast.Name():
            return
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            _check(operand, where)
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr(), right=right):
            _check(left, where)
            _check(right, where)
        case _:
            raise _no_expression(where)


def _combine(node: ast.expr, mask: Callable[[str], Bools]) -> Bools:
    match node:
        case ast.UnaryOp(operand=operand):
            return ~_combine(operand, mask)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _combine(left, mask) & _combine(right, mask)
        case ast.BinOp(left=left, right=right):
            return _combine(left, mask) | _combine(right, mask)
        case ast.Name(id=name):
            return mask(name)
    raise AssertionError(node)


def _no_expression(where: str) -> UsageError:
    shown = where if len(where) <= 60 else where[:60] + "..."
    return UsageError(
        f"where={shown!r} is no expression of masks: write names joined by & (and), | (or), ~ (not) and parentheses, "
        f'such as "tissue & ~dead"'
    )
