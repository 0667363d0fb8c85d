"""Slides of a study as a source of spectra: which, on which axis, and which of their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, LeakageError, UnknownSlide, UsageError
from msicube.preprocess.chain import Chain
from msicube.preprocess.channels import Channels, describe, same_axis
from msicube.preprocess.datasets import VARIABLE, Where
from msicube.preprocess.request import SLIDE
from msicube.preprocess.sources import Piece, SlidePieces
from msicube.schema import AXIS_NAME
from msicube.store import Study, slide_digest
from msicube.store.location import spread
from msicube.store.masks import ACQUIRED

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class StudySource:
    """Slides of a study; each tile is a piece.

    Attributes
    ----------
    study
        Where they are.
    slides
        Names.
    channels
        The spectral axis that they share; that of the first of them where they do not.
    where
        Which of their pixels, as a name or an expression.
    axes
        The axes of the slides that lie on another.
    """

    study: Study
    slides: list[str]
    channels: Channels
    where: str | None = None
    axes: Mapping[str, Channels] = field(default_factory=dict)

    @classmethod
    def of(
        cls, study: Study, slides: list[str], *, where: str | None = None, any_axis: bool = False
    ) -> StudySource:
        """Check that the slides share one axis, unless they need not.

        Raises
        ------
        AxisMismatch
            They do not; the message names two of them.
        """
        first = study_channels(study, slides[0])
        # Equal bytes are equal axes: nothing needs to be decoded for a thousand slides.
        stored = spread(partial(_stored_axis, study), slides, remote=study.location.local is None)
        known, axes = {stored[0]: first}, {}
        for slide, data in zip(slides, stored, strict=True):
            if data not in known:
                known[data] = study_channels(study, slide)
            if same_axis(first, other := known[data]):
                continue
            if not any_axis:
                raise AxisMismatch(
                    f"slides {slides[0]} ({describe(first)}) and {slide} ({describe(other)}) lie on different axes: "
                    f"begin the pipeline with Resample(axis), which brings each slide from its own axis onto a stated "
                    f"one, convert the study onto one axis, or fit on slides that share one"
                )
            axes[slide] = other
        return cls(study, slides, first, where, axes)

    def own_chain(self, chain: Chain, slide: str) -> Chain:
        """Return the chain of a slide, on its own axis."""
        own = chain.for_slide(slide)
        return own.on_axis(self.axes[slide]) if slide in self.axes else own

    @cached_property
    def digests(self) -> dict[str, str]:
        """Hashes that tell the content of each slide from another."""
        return dict(zip(self.slides, self._spread(partial(slide_digest, self.study)), strict=True))

    @cached_property
    def mask_digests(self) -> dict[str, str]:
        """Hashes of the pixels of each slide that are fitted on; none where these are all that are acquired."""
        if self.where is None:
            return {}
        read = partial(mask_digest, self.study, self.where)
        return dict(zip(self.slides, self._spread(read), strict=True))

    def inside(self, where: str) -> StudySource:
        """Return the pixels of a mask, or of an expression, of the same slides."""
        return replace(self, where=where)

    def classes(self, by: str) -> list[Any]:
        """Return the classes in a column of the samples table."""
        return sorted(set(self.labels(by).values()), key=str)

    def pieces(self, by: str | None) -> Iterator[SlidePieces]:
        """Yield the tiles."""
        labels = {} if by is None else self.labels(by)
        cubes = self._spread(partial(self.study.cube, variable=VARIABLE))
        for slide, cube in zip(self.slides, cubes, strict=True):
            pieces = [Piece(tile, cube, labels.get(slide)) for tile in cube.tiles()]
            mask = mask_reader(self.study, slide, self.where)
            yield SlidePieces(slide, pieces, read_mask=mask, channels=self.axes.get(slide))

    def _spread(self, function: Callable[[str], Result]) -> list[Result]:
        return spread(function, self.slides, remote=self.study.location.local is None)

    def labels(self, by: str) -> dict[str, Any]:
        """Return the value of each slide in a column of the samples table.

        Raises
        ------
        UsageError
            No such column, or a slide without a value.
        """
        if by == SLIDE:
            return {slide: slide for slide in self.slides}
        samples = self.study.samples
        if by not in samples:
            raise UsageError(
                f"{self.study.path} has no column '{by}' in its samples table, only "
                f"{', '.join(map(str, samples.columns)) or 'none'}: convert with --samples, or name another with by="
            )
        column = samples[by]
        missing = [slide for slide in self.slides if pd.isna(column[slide]) or column[slide] == ""]
        if missing:
            raise UsageError(
                f"{_some(missing)} without a value of '{by}' in the samples table: give one, or leave them out with "
                f"slides="
            )
        return {slide: _plain(column[slide]) for slide in self.slides}


def chosen_slides(study: Study, slides: Iterable[str] | None, *, allow_test: bool) -> list[str]:
    """Return the slides to fit on, in the order of the study.

    Parameters
    ----------
    study
        Its samples table may have a column ``split``.
    slides
        Names. None stands for those whose ``split`` is ``train``, or for all where there is no such column.
    allow_test
        Whether slides whose ``split`` is ``test`` may be among them.

    Raises
    ------
    LeakageError
        A slide that is held out for testing.
    UnknownSlide
        A name that the study does not have.
    UsageError
        No slides.
    """
    samples = study.samples
    split = samples["split"].astype(object) if "split" in samples else None
    if slides is None:
        names = study.slides if split is None else [s for s in study.slides if split[s] == "train"]
        if not names:
            raise UsageError(
                f"{study.path} has {len(study.slides)} slides and none with split == 'train': name the slides to fit "
                f"on with slides="
            )
        return names
    wanted = {slides} if isinstance(slides, str) else set(slides)
    unknown = sorted(wanted - set(study.slides))
    if unknown:
        raise UnknownSlide(f"{study.path} has no slide {unknown[0]!r}; it has {len(study.slides)} slides")
    names = [name for name in study.slides if name in wanted]
    if not names:
        raise UsageError("slides= is empty: name at least one slide to fit on")
    held_out = [] if split is None else [name for name in names if split[name] == "test"]
    if held_out and not allow_test:
        raise LeakageError(
            f"{_some(held_out)} held out for testing (split == 'test'): leave out what must not be seen, or say "
            f"allow_test=True"
        )
    return names


def study_channels(study: Study, slide: str) -> Channels:
    """Return the spectral axis of a slide."""
    return Channels(AXIS_NAME[study.modality], study.axis(slide))


def mask_reader(study: Study, slide: str, where: str | None) -> Callable[[], NDArray[np.bool_]]:
    """Return what reads, in a task, which pixels of a slide are acquired, and inside ``where``."""
    return study.mask_reader(slide, ACQUIRED if where is None else where)


def mask_digest(study: Study, where: str, slide: str) -> str:
    """Return the SHA-256 of the pixels of a slide that a mask or an expression stands for."""
    mask = study.mask_reader(slide, where)()
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


def study_where(where: Where) -> str | None:
    """Check what names the pixels of a study.

    Raises
    ------
    UsageError
        It is no text.
    """
    if where is None or isinstance(where, str):
        return where
    raise UsageError(
        f"where= of type {type(where).__name__} came with a study: give the name of a mask, or an expression such as "
        f"'tissue & ~dead'"
    )


def _stored_axis(study: Study, slide: str) -> tuple[bytes | None, ...]:
    """Return the stored bytes of a slide's spectral axis."""
    axis = study.location / slide / AXIS_NAME[study.modality]
    return (axis / "zarr.json").get(), (axis / "c/0").get()


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python value."""
    return value.item() if isinstance(value, np.generic) else value


def _some(names: Sequence[str]) -> str:
    """Return slides as the subject of a sentence: ``slides a, b and 3 more are``."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"slides {shown} are" if len(names) > 1 else f"slide {shown} is"
