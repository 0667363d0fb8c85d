"""What ``run.json`` holds: how a run was made, with what, and how it ended."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import msicube
from msicube.experiments.interruption import Interruption, interruption
from msicube.experiments.ranks import Ranks
from msicube.experiments.run import INFO, Run
from msicube.experiments.split import Split
from msicube.experiments.thumbnails import pixel_size
from msicube.models import provenance
from msicube.store import Study
from msicube.store.content import slide_digest

PACKAGES = ("msicube", "torch", "torchvision", "numpy", "scikit-learn", "xarray", "zarr", "dask")


def first_info(
    study: Study, split: Split, labels: Mapping[str, str] | None, seed: int, device: torch.device
) -> dict[str, Any]:
    """Return what is known before anything is fitted.

    Parameters
    ----------
    study, split
        The data.
    labels
        Shuffled ones of the training slides, if any.
    seed, device
        Of the run.
    """
    return {
        "state": "running",
        "started": now(),
        "seed": seed,
        "shuffled_labels": labels is not None,
        "study": {"path": study.path, "modality": study.modality, "n_slides": len(study.slides)},
        "classes": list(split.classes),
        "positive": split.positive,
        "split": {
            "by": split.by,
            "train": slide_rows(study, split, split.train, labels),
            "validation": slide_rows(study, split, split.validation),
            "test": slide_rows(study, split, split.test),
            "unused": list(split.unused),
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "versions": versions(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
        },
    }


def slide_rows(
    study: Study, split: Split, slides: tuple[str, ...], labels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return what is recorded of slides: patient, class, size, and a digest that tells their spectra from others.

    Parameters
    ----------
    study, split
        The data.
    slides
        Names.
    labels
        What they are trained as, where that is not their class.
    """
    rows = []
    for slide in slides:
        row = {"slide": slide, "patient": split.patients[slide], "label": split.labels[slide]}
        if labels is not None:
            row["trained_as"] = labels[slide]
        shape = list(study.cube(slide).shape[:2])
        digest = slide_digest(study, slide)
        rows.append({**row, "shape": shape, "pixel_size": pixel_size(study, slide), "digest": digest})
    return rows


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return a network's class and code, where its weights are from, and how much of it is trained."""
    found = provenance(model)
    parameters = list(model.parameters())
    return {
        "class": f"{type(model).__module__}:{type(model).__qualname__}",
        "code": _code(type(model)),
        "weights": found.weights,
        "note": found.note,
        "trained": list(found.trained),
        "n_parameters": sum(p.numel() for p in parameters),
        "n_trained": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _code(kind: type[Any]) -> str | None:
    """Return a hash of the file that a class is written in; None where there is none, as in a notebook."""
    try:
        return file_digest(Path(inspect.getfile(kind)))
    except (OSError, TypeError):
        return None


def file_digest(path: Path) -> str:
    """Return a hash of what a file holds."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@contextmanager
def recorded(run: Run, info: dict[str, Any]) -> Iterator[None]:
    """Write in the run's folder how the run ended."""
    state = "failed"
    try:
        yield
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        info |= {"state": state, "ended": now()}
        run.write_json(INFO, info)


@contextmanager
def writing(run: Run, info: dict[str, Any], ranks: Ranks) -> Iterator[Interruption]:
    """Hold a run's folder and record how the run ended, on the first rank; on all of them take the signals to stop."""
    with interruption() as asked:
        if not ranks.leads:
            yield asked
            return
        with run.locked(), recorded(run, info):
            yield asked


def now() -> str:
    """Return the time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers, and msicube's commit where it has one."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _commit(Path(msicube.__file__).parent)
    return found | ({"msicube_commit": commit} if commit else {})


def _commit(folder: Path) -> str:
    """Return the git commit of a folder, with a plus where files differ from it; empty where git knows of none."""
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "."))
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + "+" * bool(changed)


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
