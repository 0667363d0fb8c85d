"""Put what a trained network says of every spectrum or patch back on the map, out of core."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from msicube.errors import UnknownSlide, UsageError
from msicube.experiments.heldout import load_network
from msicube.experiments.recipe import Recipe
from msicube.experiments.run import PIPELINE, WEIGHTS, Run, open_run
from msicube.experiments.torch_settings import choose_device
from msicube.preprocess import Pipeline
from msicube.preprocess.channels import Channels
from msicube.schema import AXIS_NAME
from msicube.store import CubeArray, CubeWriter, Study, new_variable, open_study
from msicube.store.draft import read_attrs
from msicube.store.lock import write_lock
from msicube.stream import PatchStream, SpectrumStream
from msicube.tiling import Window

FINGERPRINT = "prediction_fingerprint"
Progress = Callable[[str, int, int], None]


def predict(
    run: Run | str | os.PathLike[str],
    study: Study | str | os.PathLike[str],
    *,
    name: str = "prediction",
    slides: Iterable[str] | None = None,
    where: str = "acquired",
    stride: int | None = None,
    batch_size: int | None = None,
    memory: str | int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Write the probability of each class into the slides of a study.

    Each slide gets a float32 variable ``<name>`` of dims ``(y, x, <name>_feature)``, one feature a class, with the
    tiles of its intensities; all are 0 where nothing was predicted. It appears when all of it is written. A network of
    patches gives each pixel the mean over the patches that cover it.

    Parameters
    ----------
    run
        A finished run or its folder: network, pipeline and recipe are taken from it.
    study
        A study or its path, with the spectral axis of the run's.
    name
        Of the variable.
    slides
        Names; all by default.
    where
        Which pixels: a mask or an expression such as ``"tissue & ~dead"``.
    stride
        Pixels between one patch and the next; by default as held-out patches were scored.
    batch_size, memory
        Of the stream; by default the recipe's.
    device
        Where the network runs: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    overwrite
        Whether to replace a variable of this name that is not this very prediction.
    progress
        Called with slide, batches done and batches in all.

    Returns
    -------
    list of str
        The slides that were written. Those that have this very prediction already are not.

    Raises
    ------
    UsageError
        No finished run, a variable of this name from elsewhere, or a slide without a single patch.
    AxisMismatch
        The study has another number of channels than the run's pipeline.

    Notes
    -----
    Memory is the stream's budget, the network, and two rows of tiles of probabilities.
    """
    run = run if isinstance(run, Run) else open_run(run)
    opened = study if isinstance(study, Study) else open_study(study)
    wanted = opened.slides if slides is None else list(dict.fromkeys(slides))
    if unknown := [slide for slide in wanted if slide not in opened]:
        raise UnknownSlide(f"{opened.path} has no slide {unknown[0]!r}; it has {len(opened.slides)} slides")
    network = _load(run, choose_device(device))
    options: dict[str, Any] = {
        "where": where,
        "pipeline": network.pipeline,
        "labels": None,
        "shuffle": False,
        "batch_size": batch_size or network.recipe.train.batch_size,
        "memory": memory or network.recipe.train.memory,
        "rank": 0,
        "world_size": 1,
    }
    made_by = {
        FINGERPRINT: network.fingerprint(where, stride),
        "classes": list(network.classes),
        "where": where,
    }
    with write_lock(opened.location):
        todo = [slide for slide in wanted if not _is_done(opened, slide, name, made_by, overwrite)]
        for slide in todo:
            axis = Channels(AXIS_NAME[opened.modality], opened.axis(slide))
            network.pipeline.channels_in.require(axis, where=f"slide {slide}")
            stream = network.stream(opened, slide, stride, options)
            attrs = {
                "long_name": "probability of each class; all 0 where nothing was predicted",
                "feature_names": list(network.classes),
                "run": str(run.path),
                **made_by,
            }
            cube = opened.cube(slide)
            with new_variable(
                opened,
                slide,
                name,
                like=cube,
                n_features=len(network.classes),
                dtype=np.dtype(np.float32),
                attrs=attrs,
            ) as writer:
                strips = _Strips(cube, writer, opened.mask(slide, where), len(network.classes))
                for done, (y, x, probability) in enumerate(network.run(stream), start=1):
                    strips.add(y, x, probability, network.size)
                    if progress is not None:
                        progress(slide, done, len(stream))
                strips.finish()
    return todo


@dataclass(frozen=True)
class _Network:
    """A trained network with what comes before it."""

    recipe: Recipe
    pipeline: Pipeline
    model: nn.Module
    classes: tuple[str, ...]
    device: torch.device
    digest: str

    @property
    def size(self) -> int:
        """Pixels of a sample's edge."""
        return self.recipe.patches.size if self.recipe.patches else 1

    def fingerprint(self, where: str, stride: int | None) -> str:
        """Return a hash of all that decides the numbers."""
        known = (self.digest, self.pipeline.fingerprint(), where, stride)
        return hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()

    def stream(
        self, study: Study, slide: str, stride: int | None, options: dict[str, Any]
    ) -> SpectrumStream | PatchStream:
        """Return the samples of a slide, from the top down."""
        patches = self.recipe.patches
        if patches is None:
            return SpectrumStream(study, slides=[slide], lanes=1, **options)
        return PatchStream(
            study,
            slides=[slide],
            size=patches.size,
            stride=stride or patches.test_stride or patches.size,
            min_coverage=patches.min_coverage,
            edges="shift",
            scale=None if patches.scale == "none" else patches.scale,
            **options,
        )

    def run(
        self, stream: SpectrumStream | PatchStream
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Yield place and probabilities of the samples, batch by batch."""
        key = "patches" if self.recipe.patches else "spectra"
        with torch.inference_mode():
            for batch in stream:
                real = batch["weight"] > 0
                logits = self.model(batch[key][real].to(self.device, non_blocking=True))
                probability = torch.softmax(logits.float(), dim=1).cpu().numpy()
                yield batch["y"][real].numpy(), batch["x"][real].numpy(), probability


def _load(run: Run, device: torch.device) -> _Network:
    recipe = run.recipe
    pipeline = Pipeline.load(run.path / PIPELINE, name=recipe.pipeline.name)
    model = load_network(run, n_channels=pipeline.n_features_out_, device=device)
    digest = hashlib.blake2b((run.path / WEIGHTS).read_bytes(), digest_size=16).hexdigest()
    return _Network(recipe, pipeline, model, tuple(run.info["classes"]), device, digest)


class _Strips:
    """Rows of tiles that fill from the top down; one is written as soon as no later sample can reach it."""

    def __init__(self, cube: CubeArray, writer: CubeWriter, mask: NDArray[np.bool_], n_classes: int) -> None:
        self._cube, self._writer, self._mask, self._n_classes = cube, writer, mask, n_classes
        self._open: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._next = 0

    def add(
        self, y: NDArray[np.int64], x: NDArray[np.int64], probability: NDArray[np.float32], size: int
    ) -> None:
        """Add the samples of a batch, which begin no higher than those of any later one."""
        height = self._cube.tile[0]
        self._write(until=int(y.min()) // height)
        if size == 1:
            for row in np.unique(y // height).tolist():
                here = y // height == row
                total, count = self._strip(row)
                total[y[here] - row * height, x[here]] = probability[here]
                count[y[here] - row * height, x[here]] = 1
            return
        for top, left, found in zip(y.tolist(), x.tolist(), probability, strict=True):
            for row in range(top // height, (top + size - 1) // height + 1):
                total, count = self._strip(row)
                inside = (
                    slice(max(0, top - row * height), top + size - row * height),
                    slice(left, left + size),
                )
                total[inside] += found
                count[inside] += 1

    def finish(self) -> None:
        """Write what is left."""
        self._write(until=-(-self._cube.shape[0] // self._cube.tile[0]))

    def _strip(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if row not in self._open:
            height, width = self._cube.tile[0], self._cube.shape[1]
            shape = min(height, self._cube.shape[0] - row * height), width
            self._open[row] = np.zeros((*shape, self._n_classes), np.float32), np.zeros(shape, np.float32)
        return self._open[row]

    def _write(self, *, until: int) -> None:
        height, width = self._cube.tile
        for row in range(self._next, until):
            total, count = self._strip(row)
            total /= np.maximum(count, 1)[..., None]
            y0, y1 = row * height, row * height + len(total)
            total[~self._mask[y0:y1]] = 0
            for x in range(0, self._cube.shape[1], width):
                window = Window(y0, y1, x, min(x + width, self._cube.shape[1]))
                self._writer.write(window, np.ascontiguousarray(total[:, window.x0 : window.x1]))
            del self._open[row]
        self._next = max(self._next, until)


def _is_done(study: Study, slide: str, name: str, made_by: dict[str, Any], overwrite: bool) -> bool:
    """Return whether a slide has this very prediction.

    Raises
    ------
    UsageError
        It has another variable of this name.
    """
    attrs = read_attrs(study.location / slide / name)
    if attrs is None:
        return False
    if attrs.get(FINGERPRINT) == made_by[FINGERPRINT]:
        return True
    if FINGERPRINT not in attrs:
        raise UsageError(f"'{name}' of slide {slide} is no prediction: choose another name")
    if not overwrite:
        raise UsageError(
            f"slide {slide} has another prediction '{name}': say overwrite=True to replace it, or choose another name"
        )
    return False
