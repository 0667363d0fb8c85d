"""Simulate, convert and mask the studies; a study that is there and as it should be is not made again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.commands import Cost, receipt, run_commands, write_receipt
from benchmarks.experiments.table import StudySpec
from msicube.store import Study, open_study


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is.

    Attributes
    ----------
    folder
        Holds the files, the study and the receipt.
    """

    folder: Path

    @property
    def files(self) -> Path:
        """The simulated files."""
        return self.folder / "files"

    @property
    def study(self) -> Path:
        """The study made of them."""
        return self.folder / "study.zarr"

    @property
    def truth(self) -> dict[str, Any]:
        """What the simulator says."""
        document: dict[str, Any] = json.loads((self.files / "truth.json").read_text("utf-8"))
        return document

    @property
    def receipt(self) -> Path:
        """What it was made with, and what that cost; written last."""
        return self.folder / "receipt.json"

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.folder / "log.txt"


def find_study(spec: StudySpec, folder: Path) -> StudyPlace | None:
    """Return the study in a folder if the same commands of the same version have made it; None if not."""
    place = StudyPlace(folder)
    return place if receipt(place.receipt).get("key") == fingerprint(spec.commands) else None


def make_study(spec: StudySpec, folder: Path) -> StudyPlace:
    """Make a study in a folder, unless it is there."""
    found = find_study(spec, folder)
    if found is not None:
        return found
    place = StudyPlace(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = [line.format(files=place.files, study=place.study) for line in spec.commands]
    cost: Cost = run_commands(lines, place.log)
    data = data_fingerprint(open_study(place.study))
    write_receipt(
        place.receipt, {"key": fingerprint(spec.commands), "data": data, "commands": spec.commands}, cost
    )
    return place


def fingerprint(value: Any) -> str:
    """Return a digest of what JSON can hold, and of the version of msicube."""
    from msicube import __version__

    text = json.dumps([__version__, value], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def data_fingerprint(study: Study) -> str:
    """Return a digest of the samples table, and of every slide's axis, mean spectrum and masks."""
    digest = hashlib.sha256(study.samples.to_csv().encode())
    for slide in study.slides:
        dataset = study[slide]
        digest.update(np.ascontiguousarray(study.axis(slide)).tobytes())
        digest.update(np.ascontiguousarray(dataset["mean_spectrum"].to_numpy()).tobytes())
        for name in sorted(study.masks(slide)):
            digest.update(np.packbits(study.mask(slide, name)).tobytes())
    return digest.hexdigest()
