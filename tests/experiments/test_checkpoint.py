"""Files of tensors are written whole or not at all, and a disk that is full is an error that says so."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from msicube.experiments.checkpoint import write_state


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a disk without room does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_the_file_before_stays_and_the_error_is_the_systems(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    write_state(path, {"weight": torch.ones(3)})
    with files_of_at_most(64 * 1024), pytest.raises(OSError, match="too large") as caught:
        write_state(path, {"weight": torch.ones(100_000)})
    assert caught.value.errno == errno.EFBIG
    assert torch.load(path, weights_only=True)["weight"].tolist() == [1, 1, 1]
