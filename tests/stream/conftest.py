"""Fixtures of the stream tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stream_helpers import stream_threads

from msicube.store import Study, open_study


@pytest.fixture
def stored(study: Study) -> list[NDArray[np.float32]]:
    """The intensities of each slide, read by xarray."""
    return [study[name]["intensity"].to_numpy() for name in study.slides]


@pytest.fixture
def own_study(study: Study, tmp_path: Path) -> Study:
    """A copy of the study that a test may write to."""
    shutil.copytree(study.path, tmp_path / "own.zarr")
    return open_study(tmp_path / "own.zarr")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert stream_threads() == []
