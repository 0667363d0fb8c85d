"""Looking up what a stream draws from: slides, masks, labels, weights and pools; no spectra are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, UnknownSlide, UsageError
from msicube.samples import samples_frame
from msicube.store.packed import PackedMask
from msicube.stream.order import Integers
from msicube.stream.selection import Fitted, Selection

if TYPE_CHECKING:
    import pandas as pd

    from msicube.store import CubeArray, Study
    from msicube.stream.options import Source

UNLABELLED = -1
#: Name of a pool's one image, of the attribute that describes it, and of the variable that says where spectra are from.
POOL, ORIGIN = "pool", "origin"
#: The largest weight of a sample, as a whole number.
WEIGHT_STEPS = 2**20


def select(study: Study, source: Source) -> Selection:
    """Look up what a stream draws from; reads masks, axes and metadata, no spectra.

    Parameters
    ----------
    study
        A study, or a pool.
    source
        Slides, variable, mask, pipeline, labels and weights, as the stream's arguments have them.

    Raises
    ------
    UnknownSlide
        A name that the study does not have.
    AxisMismatch
        Slides with different spectral axes.
    UsageError
        A slide twice or without a label, or no such column, mask or variable.
    """
    if is_pool(study):
        return _select_pool(study, source)
    names = known_slides(study, source.slides)
    cubes = tuple(study.cube(name, source.variable) for name in names)
    _check_axes(study, names, cubes)
    _check_pipeline(source.pipeline, cubes[0], study)
    classes, codes = slide_codes(study, names, source.labels)
    masks = tuple(PackedMask.of(study.mask(name, source.where)) for name in names)
    pixel_labels = source.pixel_labels and tuple(
        _integers(study, name, source.pixel_labels) for name in names
    )
    weights = None if source.weights is None else _weights(study, names, masks, source.weights)
    return Selection(
        names,
        cubes,
        masks,
        source.pipeline,
        classes,
        codes,
        pixel_labels=pixel_labels or None,
        weights=weights,
    )


def known_slides(study: Study, slides: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the slides to draw from.

    Raises
    ------
    UnknownSlide
        A name that the study does not have.
    UsageError
        None at all, or one twice.
    """
    names = tuple(study.slides if slides is None else slides)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"slides={list(names)}: name at least one slide, and each only once")
    if unknown := [name for name in names if name not in study.slides]:
        raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {', '.join(study.slides[:8])}")
    return names


def is_pool(study: Study) -> bool:
    """Return whether a study is a pool: one image of shuffled spectra, as ``msicube pool`` writes it."""
    return POOL in study.slide_attrs and POOL in study.slide_attrs[POOL]


def _select_pool(study: Study, source: Source) -> Selection:
    """Look up a pool; its spectra were chosen when it was written."""
    given = {name: getattr(source, name) for name in ("slides", "pixel_labels", "weights")}
    given = {name: value for name, value in given.items() if value is not None}
    if source.where != "acquired":
        given["where"] = source.where
    if given or source.variable != "intensity":
        named = (
            ", ".join(f"{name}={value!r}" for name, value in given.items()) or f"variable={source.variable!r}"
        )
        raise UsageError(
            f"{study.path} is a pool, whose spectra were chosen when it was written: choose {named} there"
        )
    known = study.slide_attrs[POOL][POOL]
    slides = tuple(known["slides"])
    samples = samples_frame({name: known["samples"].get(name, {}) for name in slides})
    classes, codes = codes_of(samples, slides, source.labels, of=study.path)
    cube, origin = study.cube(POOL), study.cube(POOL, ORIGIN)
    _check_pipeline(source.pipeline, cube)
    mask = PackedMask.of(study.acquired(POOL))
    return Selection(slides, (cube,), (mask,), source.pipeline, classes, codes, origin)


def slide_codes(study: Study, slides: Sequence[str], column: str | None) -> tuple[tuple[str, ...], Integers]:
    """Return the sorted names in a column of the samples table, and the number of each slide's name.

    Raises
    ------
    UsageError
        There is no such column, or it is empty for one of the slides.
    """
    return codes_of(study.samples, slides, column, of=study.path)


def codes_of(
    samples: pd.DataFrame, slides: Sequence[str], column: str | None, *, of: str
) -> tuple[tuple[str, ...], Integers]:
    """Return what :func:`slide_codes` does, from a samples table; ``of`` names it in messages."""
    if column is None:
        return (), np.full(len(slides), UNLABELLED, np.int64)
    if column not in samples.columns:
        raise UsageError(
            f"the samples of {of} have no column {column!r}, only "
            f"{', '.join(map(str, samples.columns)) or 'none'}: choose one of them, or None"
        )
    known = samples[column].dropna()
    if missing := [slide for slide in slides if slide not in known.index]:
        raise UsageError(
            f"{len(missing)} slides have no {column!r} in {of}, the first is {missing[0]!r}: leave them out "
            f"with slides=, or pass None for the column"
        )
    names = sorted(set(known))
    code = {name: number for number, name in enumerate(names)}
    return tuple(map(str, names)), np.array([code[known[slide]] for slide in slides], np.int64)


def slide_groups(study: Study, slides: Sequence[str], column: str | None) -> Integers:
    """Return the group of each slide by a column of the samples table; without a column all are of one group.

    Raises
    ------
    UsageError
        As for :func:`slide_codes`.
    """
    return slide_codes(study, slides, column)[1] if column else np.zeros(len(slides), np.int64)


def _check_axes(study: Study, slides: Sequence[str], cubes: Sequence[CubeArray]) -> None:
    first = cubes[0]
    for slide, cube in zip(slides, cubes, strict=True):
        if cube.shape[2] != first.shape[2]:
            raise AxisMismatch(
                f"slide {slide} has {cube.shape[2]} channels and {slides[0]} has {first.shape[2]}: stream slides of "
                f"one axis, or what apply has stored of them (variable=)"
            )
    if first.variable != "intensity":
        return
    axis = study.axis(slides[0])
    for slide in slides[1:]:
        if not np.array_equal(study.axis(slide), axis):
            raise AxisMismatch(
                f"slides {slides[0]} and {slide} lie on different spectral axes of {len(axis)} channels: stream slides "
                f"of one axis, or what apply has stored of them (variable=)"
            )


def _check_pipeline(pipeline: Fitted | None, cube: CubeArray, study: Study | None = None) -> None:
    """Check that the spectra lie on the axis of the fit; of a pool, which has none of its own, their number."""
    from msicube.preprocess.studies import study_channels

    if pipeline is None:
        return
    if pipeline.chain.n_in != cube.shape[2]:
        raise AxisMismatch(
            f"{cube.variable} of slide {cube.slide} has {cube.shape[2]} channels, the pipeline was fitted on "
            f"{pipeline.chain.n_in}: stream spectra on the axis of the fit"
        )
    channels = getattr(pipeline, "channels_in", None)
    if channels is not None and study is not None and cube.variable == "intensity":
        channels.require(study_channels(study, cube.slide), where=f"slide {cube.slide}")


def _integers(study: Study, slide: str, variable: str) -> NDArray[Any]:
    """Return a ``(y, x)`` variable of whole numbers or of a mask."""
    values = _image(study, slide, variable, "pixel_labels")
    if values.dtype.kind not in "biu":
        raise UsageError(
            f"{variable!r} of slide {slide} holds {values.dtype}: pixel_labels= takes a variable of whole numbers"
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _image(study: Study, slide: str, variable: str, argument: str) -> NDArray[Any]:
    dataset = study[slide]
    if variable not in dataset or dataset[variable].dims != ("y", "x"):
        raise UsageError(f"slide {slide} has no (y, x) variable {variable!r} for {argument}=")
    return study.small(slide, variable)


def _weights(
    study: Study, slides: Sequence[str], masks: Sequence[PackedMask], name: str
) -> tuple[Integers, ...]:
    """Return how much each pixel counts, as whole numbers: from a column of the samples table or from a variable."""
    if name in study.samples.columns:
        column = study.samples[name]
        images = [
            np.broadcast_to(np.float64(column[slide]), mask.shape)
            for slide, mask in zip(slides, masks, strict=True)
        ]
    else:
        images = [_image(study, slide, name, "weights").astype(np.float64) for slide in slides]
    inside = [image[mask.whole()] for image, mask in zip(images, masks, strict=True)]
    for slide, values in zip(slides, inside, strict=True):
        if not np.isfinite(values).all() or (values < 0).any():
            raise UsageError(
                f"weights={name!r} of slide {slide} are negative or not finite for some samples: weights are 0 or more"
            )
    most = max(float(values.max(initial=0)) for values in inside)
    if not most:
        raise UsageError(f"weights={name!r} are all 0: no sample would come")
    return tuple(
        np.rint(np.where(mask.whole(), image, 0) * (WEIGHT_STEPS / most)).astype(np.int64)
        for image, mask in zip(images, masks, strict=True)
    )
