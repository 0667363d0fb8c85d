"""The folder of a run: what it holds, how it is written, how it is read again.

::

    RUN/
      recipe.toml        the recipe, with every default and override
      run.json           seed, split with a digest of each slide, hashes of pipeline and weights, versions, state
      pipeline.zarr      the fitted pipeline: ``Pipeline.load("RUN/pipeline.zarr", name=...)``
      metrics.jsonl      one line per epoch
      weights.pt         the network after the last finished epoch, or the best one on validation patients
      checkpoint.pt      where the training is, until it is finished: see :mod:`msicube.experiments.checkpoint`
      predictions.csv    one row per held-out sample: slide, patient, y, x, label, predicted, p_<class>
      summary.json       the metrics of these predictions, by sample, slide and patient, with confidence intervals
      tensorboard/       events for TensorBoard, with ``train.tensorboard``
      examples.npz       samples for the figures: the most confident right and wrong ones, and the least confident
      tsne.csv           where t-SNE of the penultimate layer puts some of the held-out samples
      tissue.npz         which pixels of some held-out slides were measured
      figures/           PNG and SVG
      report.html        made by ``msicube report``
      explanation/       made by ``msicube explain``: attributions, the strongest channels, shares of bands
      evaluation/        made by ``msicube evaluate``: a folder for each study

The folder of a pretraining has the same, as far as it applies: ``weights.pt`` is the encoder, ``decoder.pt`` what it
was taught with, ``summary.json`` how well masked values are reconstructed, and there are no predictions.

A run of several folds has a folder ``fold_1``, ``fold_2``, ... like this for each, beside recipe, ``run.json``,
figures, and the predictions of all folds in ``predictions.csv`` and ``summary.json``.

Every file but ``metrics.jsonl``, which grows by lines, appears whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msicube.errors import UsageError
from msicube.experiments.recipe import Recipe
from msicube.experiments.recipe_files import load_recipe
from msicube.experiments.toml import dump_toml

if TYPE_CHECKING:
    import pandas as pd

RECIPE, INFO, METRICS, WEIGHTS = "recipe.toml", "run.json", "metrics.jsonl", "weights.pt"
CHECKPOINT, LOCK = "checkpoint.pt", ".lock"
PIPELINE, FOLD = "pipeline.zarr", "fold_"
EMBEDDING, TISSUE = "tsne.csv", "tissue.npz"
PREDICTIONS, SUMMARY, EXAMPLES, FIGURES = "predictions.csv", "summary.json", "examples.npz", "figures"


@dataclass(frozen=True)
class Run:
    """A run's folder; everything is read when it is asked for."""

    path: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe, with every default and override."""
        return load_recipe(self.path / RECIPE)

    @property
    def info(self) -> dict[str, Any]:
        """Seed, split, pipeline, weights, versions, machine and state of the run."""
        return _read_json(self.path / INFO)

    @property
    def is_pretraining(self) -> bool:
        """Whether an encoder was learned here without labels, and no classes."""
        return "pretraining" in self.info

    @property
    def summary(self) -> dict[str, Any]:
        """The metrics on held-out slides; empty before the first epoch is over."""
        path = self.path / SUMMARY
        return _read_json(path) if path.is_file() else {}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One entry per finished epoch; a line that was cut off by a crash is left out."""
        path = self.path / METRICS
        lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def history(self) -> pd.DataFrame:
        """:attr:`metrics` as a table, with columns such as ``train_loss`` and ``test_roc_auc``."""
        import pandas as pd

        return pd.json_normalize(self.metrics, sep="_")

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per held-out sample."""
        import pandas as pd

        text = dict.fromkeys(("slide", "patient", "label", "predicted"), str)
        return pd.read_csv(self.path / PREDICTIONS, dtype=text, keep_default_na=False, na_values={})

    @property
    def folds(self) -> list[Run]:
        """The runs of the folds, as far as they came; none where there are no folds."""
        wanted = (self.path / f"{FOLD}{number}" for number in range(1, self.info.get("n_folds", 0) + 1))
        return [Run(path) for path in wanted if (path / INFO).is_file()]

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of the run as JSON."""
        with replacing(self.path / name) as partial:
            partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def keep_metrics(self, *, before: int) -> None:
        """Leave out the epochs from ``before`` on, and a line that was cut off."""
        path = self.path / METRICS
        if path.is_file():
            lines = [
                line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")
            ]
            kept = [line for line in lines if json.loads(line)["epoch"] < before]
            with replacing(path) as partial:
                partial.write_text("".join(kept), "utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing; the operating system frees it when the process ends, however it ends.

        Raises
        ------
        UsageError
            Another process holds it.
        """
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"{self.path} is being written by another process: wait until it has ended, or stop it"
                ) from error
            try:
                yield
            finally:
                (self.path / LOCK).unlink(missing_ok=True)
        finally:
            os.close(handle)

    def append_metrics(self, entry: Mapping[str, Any]) -> None:
        """Add one epoch."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open the folder of a run.

    Raises
    ------
    UsageError
        The folder holds no run, or a pretraining.
    """
    run = Run(Path(path))
    if not (run.path / INFO).is_file():
        raise UsageError(
            f"{run.path} is no run (it has no {INFO}): make one with `msicube train RECIPE STUDY --out RUN`"
        )
    if run.is_pretraining:
        raise UsageError(
            f"{run.path} is a pretraining, which tells no classes apart: train on it with "
            f"`msicube train RECIPE STUDY --out RUN --set model.pretrained={run.path}`"
        )
    return run


def create_run(path: str | os.PathLike[str], recipe: Recipe, *, overwrite: bool) -> Run:
    """Make the folder of a new run and write the recipe.

    Raises
    ------
    UsageError
        Something is there already, and it is no run that may be overwritten.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        is_run = (folder / INFO).is_file()
        if not (is_run and overwrite):
            hint = "pass resume=True (--resume) to go on with it, overwrite=True (--overwrite), or choose"
            hint = hint if is_run else "choose"
            what = "holds a run" if is_run else "is not empty and holds no run"
            raise UsageError(f"{folder} {what}: {hint} another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RECIPE) as partial:
        partial.write_text(dump_toml(recipe.table()), "utf-8")
    return Run(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and put what was written in the place of ``path`` if nothing went wrong."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value
