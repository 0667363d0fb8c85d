"""Data in memory, the same data as a dataset, and what NumPy and scikit-learn make of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from sklearn import decomposition
from sklearn.preprocessing import StandardScaler

import msicube as mc
from msicube.preprocess import PCA, Log1p, Pipeline, SelectChannels, Standardize, TICNormalize
from msicube.store import Location, Study
from msicube.store.slide import SlideDraft
from msicube.store.study import create_study
from msicube.tiling import plan_tiles


@dataclass(frozen=True)
class Slide:
    """A slide in memory."""

    cube: NDArray[Any]
    acquired: NDArray[np.bool_]
    labels: NDArray[Any]
    mz: NDArray[np.float64]

    @property
    def X(self) -> NDArray[Any]:  # noqa: N802
        return self.cube[self.acquired]

    @property
    def y(self) -> NDArray[Any]:
        return self.labels[self.acquired]

    def dataset(self, chunks: tuple[Any, ...] | None = None) -> xr.Dataset:
        """Return the slide as a dataset, lazy where chunks are given."""
        values = self.cube.copy() if chunks is None else da.from_array(self.cube.copy(), chunks=chunks)
        ny, nx, _ = self.cube.shape
        return xr.Dataset(
            {"intensity": (("y", "x", "channel"), values), "acquired": (("y", "x"), self.acquired.copy())},
            {"mz": ("channel", self.mz), "y": np.arange(ny) * 50.0, "x": np.arange(nx) * 50.0},
            {"sample": {"patient": "p1"}},
        )


@pytest.fixture
def slide() -> Slide:
    """23 x 19 pixels, 40 channels, float64; a fifth of the pixels not acquired, two classes."""
    rng = np.random.default_rng(11)
    labels = np.where(rng.random((23, 19)) < 0.4, "tumour", "normal")
    scale = rng.gamma(2.0, 3.0, 40)
    cube = rng.gamma(1.5, 1.0, (23, 19, 40)) * scale
    cube[labels == "tumour", 5:12] *= 1.7
    acquired = rng.random((23, 19)) < 0.8
    cube[~acquired] = 0
    return Slide(cube, acquired, labels, np.linspace(600.0, 900.0, 40))


def paper_chain(k: int = 10, n_components: int = 3) -> Pipeline:
    """Return the chain of the paper, unfitted."""
    return Pipeline([TICNormalize(), Log1p(), Standardize(), SelectChannels(k), PCA(n_components)])


@pytest.fixture
def chain() -> Callable[..., Pipeline]:
    return paper_chain


@dataclass(frozen=True)
class Oracle:
    """What NumPy and scikit-learn learn from data in memory, and make of it."""

    scaler: StandardScaler
    scores: NDArray[np.float64]
    indices: NDArray[np.intp]
    pca: decomposition.PCA

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        return self.pca.transform(self.scaler.transform(_logged(X))[:, self.indices])


def _logged(X: NDArray[Any]) -> NDArray[Any]:
    return np.log1p(X / X.sum(axis=1, keepdims=True) * X.shape[1])


@pytest.fixture
def oracle() -> Callable[..., Oracle]:
    def fit(X: NDArray[Any], y: NDArray[Any], k: int = 10, n_components: int = 3) -> Oracle:
        X = X.astype(np.float64)
        scaler = StandardScaler().fit(_logged(X))
        Z = scaler.transform(_logged(X))
        one, other = np.unique(y)
        scores = np.abs(Z[y == one].mean(axis=0) - Z[y == other].mean(axis=0))
        indices = np.sort(np.argsort(-scores, kind="stable")[:k])
        return Oracle(
            scaler, scores, indices, decomposition.PCA(n_components, svd_solver="full").fit(Z[:, indices])
        )

    return fit


@pytest.fixture
def client() -> Iterator[Client]:
    """A Dask cluster of two workers in this process, on loopback.

    Not shared by tests: its heartbeats draw random numbers, which Hypothesis finds out and does not like.
    """
    options = {
        "n_workers": 2,
        "threads_per_worker": 2,
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
    }
    with LocalCluster(protocol="tcp", **options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def own_study(study: Study, tmp_path: Path) -> Study:
    """A copy of the shared study, to write to."""
    path = tmp_path / "study.zarr"
    shutil.copytree(study.path, path)
    return mc.open_study(path)


@pytest.fixture
def build_study(tmp_path: Path) -> Callable[..., Study]:
    """Write slides in memory as a study."""

    def build(
        slides: Mapping[str, Slide], samples: Mapping[str, Any] | None = None, shard_bytes: int = 64 * 1024
    ) -> Study:
        study = create_study(Location.of(tmp_path / "built.zarr"), modality="msi")
        for name, slide in slides.items():
            write_slide(study, name, slide, (samples or {}).get(name, {}), shard_bytes)
        return mc.open_study(study.path)

    return build


def write_slide(study: Study, name: str, slide: Slide, sample: Mapping[str, Any], shard_bytes: int) -> None:
    draft = SlideDraft.of(study.location, name, "msi")
    plan = plan_tiles(slide.cube.shape, slide.cube.itemsize, shard_bytes=shard_bytes)
    writer = draft.cube_writer(plan, slide.cube.dtype, "zstd")
    for window in plan.tiles():
        writer.write(window, slide.cube[window.slices])
    ny, nx, _ = slide.cube.shape
    small = {"acquired": slide.acquired, "mz": slide.mz, "y": np.arange(ny) * 50.0, "x": np.arange(nx) * 50.0}
    for variable, values in small.items():
        draft.write(variable, values)
    draft.commit({"sample": dict(sample)})


@dataclass(frozen=True)
class InMemory:
    """The acquired spectra of some slides of a study, and the label of each."""

    X: NDArray[Any]
    y: NDArray[Any]


@pytest.fixture
def load() -> Callable[[Study, list[str]], InMemory]:
    def read(study: Study, slides: list[str]) -> InMemory:
        spectra = [study[name]["intensity"].values[study.acquired(name)] for name in slides]
        labels = [
            np.full(len(X), study.samples["label"][name]) for name, X in zip(slides, spectra, strict=True)
        ]
        return InMemory(np.concatenate(spectra), np.concatenate(labels))

    return read
