"""Fitted pipelines in a study: ``_pipelines/<name>/``, JSON and arrays.

A Zarr group whose attribute ``msicube_pipeline`` holds the steps with their parameters and learned values, what they
were fitted on, and a fingerprint. Its array ``channel_values`` is the spectral axis of the fit, or the number of each
column. A step that learned arrays has a subgroup ``<number>_<class>``, numbered from 0, with its arrays under their
names without the final underscore; dimensions are named.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import msicube
from msicube import schema
from msicube.errors import CorruptStore, FormatVersionError, UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.fingerprints import (
    class_name,
    learned_arrays,
    plain,
    step_document,
    update_with_array,
    update_with_steps,
)
from msicube.preprocess.fitting import Pass
from msicube.store import Draft, Location, Study, group_metadata, open_study
from msicube.store.draft import METADATA, read_attrs
from msicube.store.lock import write_lock
from msicube.store.study import PIPELINES

if TYPE_CHECKING:
    from msicube.preprocess.pipeline import Pipeline

    AnyPipeline = TypeVar("AnyPipeline", bound=Pipeline)

#: Raised by one when the old code cannot read what the new code writes.
PIPELINE_VERSION = 2
HEADER = "msicube_pipeline"
AXIS_ARRAY = "channel_values"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: A pipeline gives its name to a variable, which must not hide one of the schema.
RESERVED = frozenset({*schema.BY_NAME, *(dim for spec in schema.SPECS for dim in spec.dims), "peaks"})


def fingerprint(pipeline: Pipeline) -> str:
    """Return the SHA-256 of the steps, their parameters and what they learned, and of the axis of the fit."""
    digest = hashlib.sha256()
    update_with_steps(digest, pipeline.steps_)
    update_with_array(digest, pipeline.channels_in.kind, pipeline.channels_in.values)
    return digest.hexdigest()


def save_pipeline(
    pipeline: Pipeline, study: Study | str | os.PathLike[str], *, name: str, overwrite: bool
) -> None:
    """Write a fitted pipeline into a study; see :meth:`msicube.preprocess.pipeline.Pipeline.save`."""
    opened = study if isinstance(study, Study) else open_study(study)
    with write_lock(opened.location):
        check_free(opened, name, overwrite=overwrite)
        parent = opened.location / PIPELINES / METADATA
        if parent.get() is None:
            parent.put(group_metadata({}))
        draft = Draft.of(opened.location, f"{PIPELINES}/{name}")
        draft.discard()
        try:
            _write_array(draft.work, AXIS_ARRAY, pipeline.channels_in.values, ("input_channel",))
            for number, step in enumerate(pipeline.steps_):
                _write_step(draft.work / _folder(number, step), step)
            draft.commit(group_metadata({HEADER: _header(pipeline)}))
        except BaseException:
            draft.discard()
            raise


def load_pipeline(
    kind: type[AnyPipeline], study: Study | str | os.PathLike[str], *, name: str
) -> AnyPipeline:
    """Read a fitted pipeline from a study; see :meth:`msicube.preprocess.pipeline.Pipeline.load`."""
    opened = study if isinstance(study, Study) else open_study(study)
    location = opened.location / PIPELINES / name
    attrs = read_attrs(location) if NAME.fullmatch(name) else None
    if attrs is None or HEADER not in attrs:
        known = ", ".join(opened.pipelines()) or "none"
        raise UsageError(f"{opened.path} has no pipeline '{name}', it has {known}: fit and save it first")
    header = attrs[HEADER]
    if header["format_version"] > PIPELINE_VERSION:
        raise FormatVersionError(
            f"pipeline '{name}' of {opened.path} has format version {header['format_version']}, this msicube reads up "
            f"to {PIPELINE_VERSION}: upgrade msicube"
        )
    try:
        pipeline = _restored(kind, location, header)
    except (KeyError, ValueError, TypeError, FileNotFoundError) as error:
        raise CorruptStore(
            f"pipeline '{name}' of {opened.path} is incomplete ({error!r}): fit and save it again"
        ) from error
    if fingerprint(pipeline) != header["fingerprint"]:
        raise CorruptStore(
            f"pipeline '{name}' of {opened.path} does not meet its fingerprint {header['fingerprint'][:12]}: its "
            f"numbers were changed after it was saved, fit and save it again"
        )
    return pipeline


def check_free(study: Study, name: str, *, overwrite: bool) -> None:
    """Check that a pipeline can be saved under a name.

    Raises
    ------
    UsageError
        It is not a simple name, or is taken and not to be overwritten.
    """
    check_name(name)
    if not overwrite and name in study.pipelines():
        raise UsageError(
            f"{study.path} has a pipeline '{name}' already: choose another name, or say overwrite=True"
        )


def check_name(name: str) -> None:
    """Check the name of a pipeline.

    Raises
    ------
    UsageError
        It is not a simple name.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a pipeline: begin with a letter, then letters, digits and underscores"
        )
    if name in RESERVED:
        raise UsageError(
            f"'{name}' is the name of a variable of every slide: choose another for the pipeline"
        )


def _header(pipeline: Pipeline) -> dict[str, Any]:
    import zarr

    return {
        "format_version": PIPELINE_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {"msicube": msicube.__version__, "numpy": np.__version__, "zarr": zarr.__version__},
        "fingerprint": fingerprint(pipeline),
        "channels": {"kind": pipeline.channels_in.kind, "n": pipeline.channels_in.n},
        "steps": [step_document(step) for step in pipeline.steps_],
        "slides": pipeline.slides_,
        "slide_digests": pipeline.slide_digests_,
        "where": pipeline.where_,
        "labels": plain(pipeline.labels_),
        "passes": [one.as_dict() for one in pipeline.passes_],
    }


def _restored(kind: type[AnyPipeline], location: Location, header: Mapping[str, Any]) -> AnyPipeline:
    """Return the pipeline that a header and the arrays beside it stand for."""
    known = {class_name(cls): cls for cls in _subclasses(Step)}
    first = channels = Channels(header["channels"]["kind"], _read_array(location, AXIS_ARRAY))
    steps: list[Step] = []
    for number, document in enumerate(header["steps"]):
        if document["class"] not in known:
            raise FormatVersionError(
                f"{location} uses the step {document['class']}, which this msicube does not know: upgrade msicube, or "
                f"import the module that defines it"
            )
        step = known[document["class"]](**document["params"])
        folder = location / _folder(number, step)
        arrays = {name: _read_array(folder, name.rstrip("_")) for name in step.learned_arrays}
        step.restore(channels, {**document["learned"], **arrays})
        channels = step.channels_out()
        steps.append(step)
    record = {
        "passes_": [Pass(**one) for one in header["passes"]],
        "slides_": list(header["slides"]),
        "slide_digests_": dict(header.get("slide_digests", {})),
        "where_": header.get("where"),
        "labels_": list(header["labels"]),
    }
    return kind([_unfitted(step) for step in steps]).restore(steps, first, record)


def _unfitted(step: Step) -> Step:
    return type(step)(**step.get_params(deep=False))


def _write_step(folder: Location, step: Step) -> None:
    if not step.learned_arrays:
        return
    (folder / METADATA).put(group_metadata({}))
    for name, array in learned_arrays(step).items():
        _write_array(folder, name.rstrip("_"), array, step.learned_arrays[name])


def _write_array(folder: Location, name: str, array: NDArray[Any], dims: tuple[str, ...]) -> None:
    import zarr

    stored = zarr.create_array(
        (folder / name).zarr_store(),
        shape=array.shape,
        chunks=array.shape,
        dtype=array.dtype,
        dimension_names=dims,
        zarr_format=3,
    )
    stored[...] = array


def _read_array(folder: Location, name: str) -> NDArray[Any]:
    import zarr

    return np.asarray(zarr.open_array((folder / name).zarr_store(), mode="r", zarr_format=3)[...])


def _folder(number: int, step: Step) -> str:
    return f"{number}_{type(step).__name__.lower()}"


def _subclasses(cls: type[Step]) -> list[type[Step]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]
