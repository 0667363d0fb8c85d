"""Fixtures of the stream tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from stream_helpers import stream_threads

from msicube.store import Study

# No test depends on the time that it takes.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def stored(study: Study) -> list[NDArray[np.float32]]:
    """The intensities of each slide, read by xarray."""
    return [study[name]["intensity"].to_numpy() for name in study.slides]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert stream_threads() == []
