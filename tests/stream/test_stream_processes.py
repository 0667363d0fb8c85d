"""Streams across processes: DataLoader workers, a new process, training on several ranks."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
import warnings
from itertools import chain

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stream_helpers import Batch, all_same, places
from torch.utils.data import DataLoader

from msicube.errors import UsageError
from msicube.store import Study
from msicube.stream import PatchStream, SpectrumStream


@pytest.fixture
def stream(study: Study) -> SpectrumStream:
    return SpectrumStream(study, batch_size=64, memory="3 MiB", seed=5)


def test_a_loader_without_workers_gives_the_same_batches(stream: SpectrumStream) -> None:
    loader = DataLoader(stream, batch_size=None)
    assert len(loader) == len(stream)
    assert all_same(loader, stream)
    for _ in zip(range(3), loader, strict=False):
        pass
    assert stream.state_dict()["step"] == 3


def test_spawned_workers_give_the_same_batches_in_every_epoch(stream: SpectrumStream) -> None:
    loader = DataLoader(
        stream, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True
    )
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        batches = [{key: value.clone() for key, value in batch.items()} for batch in loader]
        assert len(batches) == len(loader)
        with pytest.raises(UsageError, match=r"pass state_dict\(step=...\)"):
            stream.state_dict()
        assert stream.state_dict(step=3)["step"] == 3
        assert all_same(batches, stream)
    stream.load_state_dict(stream.state_dict(step=88))
    assert len(list(loader)) == 2


def test_spawned_workers_share_the_patches(study: Study) -> None:
    stream = PatchStream(study, size=8, stride=8, batch_size=8, memory="8 MiB")
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    batches = [{key: value.clone() for key, value in batch.items()} for batch in loader]
    assert all_same(batches, stream)


def test_forked_workers_are_refused_with_the_remedy(stream: SpectrumStream) -> None:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 and later warn of forking beside threads
        child = os.fork()
    if (
        child == 0
    ):  # a forked worker in all but name; DataLoader's own would wait for minutes if this ever hung
        try:
            iter(stream)
        except UsageError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert "multiprocessing_context='spawn'" in pipe.read()
    os.waitpid(child, 0)


def test_a_pickled_stream_is_the_same_stream(stream: SpectrumStream) -> None:
    next(iter(stream))
    copy = pickle.loads(pickle.dumps(stream))
    assert all_same(copy, stream)
    assert len(pickle.dumps(stream)) < 100_000


RANK = """
import hashlib, json, os, sys
import torch
import torch.distributed as dist
import msicube as mc

path, state = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo")
size = 64 // dist.get_world_size()
stream = mc.SpectrumStream(mc.open_study(path), batch_size=size, memory="3 MiB", seed=5, remainder="drop")
stream.load_state_dict(state)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(160, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
steps = []
for batch in stream:
    rows = zip(*(batch[key].tolist() for key in ("slide", "y", "x")), batch["spectra"].numpy())
    steps.append([[s, y, x, hashlib.md5(values.tobytes()).hexdigest()] for s, y, x, values in rows])
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(batch["spectra"]), batch["label"]).backward()
    optimizer.step()
print(json.dumps([steps, model.module.weight.tolist()]))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_in_new_processes_train_as_one_would(study: Study, world_size: int) -> None:
    """A state from one rank, resumed by several under gloo: the same samples bit for bit, and the same network."""
    stream = SpectrumStream(study, batch_size=64, memory="3 MiB", seed=5, remainder="drop")
    state = {**stream.state_dict(), "step": 74}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [sys.executable, "-c", RANK, study.path, json.dumps(state)]
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
    }
    ranks = [
        subprocess.Popen(arguments, env={**shared, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(world_size)
    ]
    outputs = [json.loads(rank.communicate(timeout=240)[0]) for rank in ranks]
    together = [sorted(chain(*step)) for step in zip(*(steps for steps, _ in outputs), strict=True)]
    batches = list(stream)[74:]
    assert together == [
        sorted(
            [*place, hashlib.md5(values.tobytes()).hexdigest()]
            for place, values in zip(places(batch), batch["spectra"].numpy(), strict=True)
        )
        for batch in batches
    ]
    weights = [np.array(weight) for _, weight in outputs]
    assert all(np.array_equal(weight, weights[0]) for weight in weights)
    np.testing.assert_allclose(weights[0], _trained(batches), rtol=1e-4, atol=1e-6)


def _trained(batches: list[Batch]) -> NDArray[np.float32]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(160, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for batch in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch["spectra"]), batch["label"]).backward()
        optimizer.step()
    return model.weight.detach().numpy()
