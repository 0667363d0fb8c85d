"""Checking the masks of a slide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from msicube import schema
from msicube.store.draft import location_metadata
from msicube.store.masks import ACQUIRED, RECORD, mask_names
from msicube.store.study import Study

#: What the record of a mask has to hold.
KEYS = frozenset({"steps", "learned", "fitted_on", "where", "spectra", "held", "fingerprint", "software"})


def mask_schema_problems(study: Study, name: str) -> Iterator[str]:
    """Yield where the variables that call themselves masks depart from the schema."""
    folder = study.location / name
    for variable in folder.children():
        metadata = location_metadata(folder / variable)
        record = None if metadata is None else metadata.get("attributes", {}).get(RECORD)
        if metadata is None or record is None:
            continue
        dims = tuple(metadata.get("dimension_names") or ())
        for problem in schema.MASK.problems(dims=dims, dtype=np.dtype(metadata["data_type"])):
            yield problem.replace(schema.MASK.name, variable)
        missing = KEYS - set(record)
        if missing:
            yield f"the record of mask {variable} lacks {', '.join(sorted(missing))}"


def mask_problems(study: Study, name: str, acquired: NDArray[np.bool_]) -> Iterator[str]:
    """Yield where the masks of a slide contradict it or their own record."""
    for variable in mask_names(study.location, name):
        if variable == ACQUIRED:
            continue
        mask = study.small(name, variable)
        if mask.shape != acquired.shape:
            yield f"mask {variable} has shape {mask.shape}, the slide {acquired.shape}"
            continue
        metadata = location_metadata(study.location / name / variable) or {}
        record = metadata.get("attributes", {}).get(RECORD)
        if record is None:
            continue
        if (mask & ~acquired).any():
            yield f"mask {variable} holds {int((mask & ~acquired).sum())} pixels that were not acquired"
        if record.get("held") != int(mask.sum()):
            yield f"mask {variable} holds {int(mask.sum())} pixels, its record says {record.get('held')}"
