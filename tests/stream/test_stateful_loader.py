"""torchdata's StatefulDataLoader, and every way to start a worker."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from stream_helpers import Batch, all_same, left_in_shared_memory, stream_threads
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from msicube.errors import UsageError
from msicube.store import Study
from msicube.stream import SpectrumStream

# torchdata calls a function of torch that a newer torch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def of(study: Study) -> SpectrumStream:
    return SpectrumStream(study, batch_size=64, memory="3 MiB", seed=5)


def copied(batches: Iterable[Batch]) -> list[Batch]:
    return [{key: value.clone() for key, value in batch.items()} for batch in batches]


def loader_of(study: Study, workers: int, every: int = 1) -> StatefulDataLoader:
    kind: dict[str, Any] = {"multiprocessing_context": "spawn"} if workers else {}
    return StatefulDataLoader(
        of(study), batch_size=None, num_workers=workers, snapshot_every_n_steps=every, **kind
    )


@pytest.mark.parametrize(("workers", "step", "every"), [(0, 17, 1), (2, 17, 1), (2, 18, 5), (0, 0, 1)])
def test_a_stateful_loader_goes_on_where_it_was(study: Study, workers: int, step: int, every: int) -> None:
    expected = list(of(study))
    loader = loader_of(study, workers, every)
    batches = iter(loader)
    for _ in range(step):
        next(batches)
    state = loader.state_dict()
    del batches
    again = loader_of(study, workers, every)
    again.load_state_dict(state)
    assert all_same(copied(again), expected[step:])
    assert all_same(copied(again), expected)  # the next epoch is whole
    assert len(str(state)) < 8192


def test_the_state_of_a_worker_is_refused_elsewhere(study: Study) -> None:
    state = {**of(study).state_dict(), "step": 4, "worker": 0, "workers": 2}
    with pytest.raises(
        UsageError, match="that of DataLoader worker 0 of 2: load it through a StatefulDataLoader"
    ):
        of(study).load_state_dict(state)
    json.dumps(state)


def test_workers_from_a_fork_server_give_the_same_batches(study: Study) -> None:
    loader = DataLoader(of(study), batch_size=None, num_workers=2, multiprocessing_context="forkserver")
    assert all_same(copied(loader), of(study))
    assert stream_threads() == []
    assert left_in_shared_memory() == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_workers_are_refused_by_a_real_loader(study: Study) -> None:
    loader = DataLoader(of(study), batch_size=None, num_workers=2, multiprocessing_context="fork")
    with pytest.raises(UsageError, match="multiprocessing_context='spawn'"):
        next(iter(loader))
