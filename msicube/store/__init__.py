"""Layer 2: the store. Open a study, write a slide, validate."""

from __future__ import annotations

from msicube.store.cube import CubeArray, CubeWriter
from msicube.store.draft import Draft, array_metadata, group_metadata
from msicube.store.location import Location
from msicube.store.masks import parse_where, read_mask
from msicube.store.study import Study, open_study
from msicube.store.validation import Finding, validate
from msicube.store.variable import new_variable

__all__ = [
    "CubeArray",
    "CubeWriter",
    "Draft",
    "Finding",
    "Location",
    "Study",
    "array_metadata",
    "group_metadata",
    "new_variable",
    "open_study",
    "parse_where",
    "read_mask",
    "validate",
]
