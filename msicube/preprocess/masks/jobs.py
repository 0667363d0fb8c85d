"""Storing a mask in a slide, with how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import msicube
from msicube import schema
from msicube.errors import UsageError
from msicube.preprocess.masks.base import Mask
from msicube.preprocess.pipeline import Pipeline
from msicube.store import Study, read_mask
from msicube.store.draft import location_metadata, read_attrs
from msicube.store.masks import RECORD, write_image

Bools = NDArray[np.bool_]
#: The attribute of an image that names its mask.
IMAGE_OF = "msicube_mask_image"


@dataclass(frozen=True)
class MadeMask:
    """The mask of one slide.

    Attributes
    ----------
    slide
        Name.
    status
        ``"made"``, or ``"present"`` where the same mask was there already.
    spectra
        Spectra that were looked at: acquired, and chosen by ``where``.
    held
        Those of them that the mask holds.
    remark
        What is out of the ordinary; empty as a rule.
    """

    slide: str
    status: str
    spectra: int
    held: int
    remark: str = ""

    @property
    def fraction(self) -> float | None:
        """The held fraction; None where there was nothing to look at."""
        return self.held / self.spectra if self.spectra else None


@dataclass(frozen=True)
class Origin:
    """How a mask came about.

    Attributes
    ----------
    record
        For the attributes: the steps, what was learned, and the slides it was learned on.
    identity
        What two masks must share to be the same.
    remark
        For the user.
    """

    record: Mapping[str, Any]
    identity: Any
    remark: str = ""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Origin:
        """Return the origin of what a fitted pipeline makes."""
        last = pipeline.steps_[-1]
        assert isinstance(last, Mask)
        record = {
            "steps": steps_of(pipeline),
            "learned": plain({name: getattr(last, name) for name in last.recorded}),
            "fitted_on": pipeline.slides_,
        }
        return cls(record, pipeline.fingerprint())


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes
    ----------
    study, name
        Where the masks go.
    where
        An expression of masks: the pixels to look at.
    images
        Names of the numbers that the mask is decided on, as far as they are to be stored.
    overwrite
        Whether a mask that was made in another way may be replaced.
    """

    study: Study
    name: str
    where: str
    images: tuple[str, ...]
    overwrite: bool

    def looked_at(self, slide: str) -> Bools:
        """Return the pixels of a slide to look at."""
        return read_mask(self.study.location, slide, self.where)

    def fingerprint(self, looked_at: Bools, identity: Any) -> str:
        """Return a hash of all that a mask depends on."""
        digest = hashlib.sha256(json.dumps([identity, self.where, self.images], sort_keys=True).encode())
        digest.update(np.packbits(looked_at).tobytes())
        return digest.hexdigest()

    def present(self, slide: str, looked_at: Bools, identity: Any) -> MadeMask | None:
        """Return the mask where it is there already.

        Raises
        ------
        UsageError
            Something else of its name is.
        """
        for image in self.images:
            attrs = read_attrs(self.study.location / slide / f"{self.name}_{image}")
            if attrs is not None and attrs.get(IMAGE_OF) != self.name:
                raise UsageError(
                    f"slide {slide} has a variable '{self.name}_{image}' that belongs to no mask '{self.name}': choose "
                    f"another name"
                )
        metadata = location_metadata(self.study.location / slide / self.name)
        if metadata is None:
            return None
        record = metadata.get("attributes", {}).get(RECORD)
        if record is not None and record["fingerprint"] == self.fingerprint(looked_at, identity):
            return MadeMask(slide, "present", record["spectra"], record["held"], record.get("remark", ""))
        if record is None:
            raise UsageError(
                f"slide {slide} has a variable '{self.name}' that is no mask of msicube's: choose another name"
            )
        if not self.overwrite:
            raise UsageError(
                f"slide {slide} has a mask '{self.name}' that was made in another way: say overwrite=True to replace "
                f"it, or choose another name"
            )
        return None

    def store(
        self, slide: str, held: Bools, looked_at: Bools, origin: Origin, numbers: Mapping[str, NDArray[Any]]
    ) -> MadeMask:
        """Write a mask, its images first."""
        held = held & looked_at
        record = {
            **origin.record,
            "where": self.where,
            "spectra": int(looked_at.sum()),
            "held": int(held.sum()),
            "fingerprint": self.fingerprint(looked_at, origin.identity),
            "software": f"msicube {msicube.__version__}",
        }
        if origin.remark:
            record["remark"] = origin.remark
        for image, values in numbers.items():
            name = f"{self.name}_{image}"
            long_name = {"long_name": f"{image} of mask {self.name}", IMAGE_OF: self.name}
            write_image(self.study.location, slide, name, values, spec=schema.MASK_IMAGE, attrs=long_name)
        attrs = {"long_name": f"mask {self.name}", RECORD: record}
        write_image(self.study.location, slide, self.name, held, spec=schema.MASK, attrs=attrs)
        return MadeMask(slide, "made", record["spectra"], record["held"], origin.remark)


def steps_of(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return the steps of a pipeline and their parameters, for JSON."""
    return [
        {"class": type(step).__name__, "params": plain(step.get_params(deep=False))}
        for step in pipeline.steps
    ]


def plain(value: Any) -> Any:
    """Return a value in the types of JSON."""
    return json.loads(json.dumps(value, default=lambda array: np.asarray(array).tolist()))
