"""Batches on a device: the same as the stream's, transformed, ahead of the step, with a state that counts the step."""

from __future__ import annotations

import pytest
import torch
from stream_helpers import all_same, stream_threads

import msicube as mc
from msicube.errors import UsageError
from msicube.store import Study
from msicube.stream import PatchStream, SpectrumStream, on_device


def of(study: Study) -> SpectrumStream:
    return SpectrumStream(study, batch_size=64, memory="3 MiB", seed=5)


class Half(torch.nn.Module):
    """Divides by a buffer, so that it has to be moved."""

    divisor: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("divisor", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.divisor


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: the copies are checked where one is"
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_batches_on_a_device_are_those_of_the_stream(study: Study, device: str) -> None:
    batches = []
    for batch in on_device(of(study), device, transform=Half(), ahead=3):
        assert {tensor.device.type for tensor in batch.values()} == {device}
        batches.append({key: value.cpu() for key, value in batch.items()})
    expected = [{**batch, "spectra": batch["spectra"] / 2} for batch in of(study)]
    assert all_same(batches, expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_patches_keep_their_memory_order(study: Study, device: str) -> None:
    stream = PatchStream(study, size=8, stride=8, batch_size=8, memory="8 MiB")
    for batch, plain in zip(on_device(stream, device), stream, strict=True):
        assert batch["patches"].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch["patches"].cpu(), plain["patches"])


def test_the_state_counts_what_the_step_has_taken(study: Study) -> None:
    batches = on_device(of(study), "cpu", ahead=4)
    batches.set_epoch(2)
    iterator = iter(batches)
    seen = [next(iterator) for _ in range(9)]
    state = batches.state_dict()
    assert (state["epoch"], state["step"]) == (2, 9)
    iterator.close()  # type: ignore[attr-defined]
    assert stream_threads() == []
    again = on_device(of(study), "cpu")
    again.load_state_dict(state)
    rest = list(again)
    whole = of(study)
    whole.set_epoch(2)
    assert all_same([*seen, *rest], whole)
    assert len(again) == len(whole)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(study: Study) -> None:
    with pytest.raises(UsageError, match="device='cuda' cannot be used here"):
        on_device(of(study), "cuda")
    with pytest.raises(UsageError, match="ahead=0"):
        on_device(of(study), "cpu", ahead=0)
    assert mc.on_device is on_device
