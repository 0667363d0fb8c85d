"""Damaged shards, and what is left behind when an iteration ends in any other way than it should."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_helpers import left_in_shared_memory, places, stream_threads

import msicube as mc
from msicube.errors import CorruptStore
from msicube.store import Study
from msicube.stream import PatchStream, SpectrumStream


def of(study: Study, **arguments: Any) -> SpectrumStream:
    return SpectrumStream(study, **{"batch_size": 64, "memory": "3 MiB", "seed": 5, **arguments})


@pytest.fixture
def damaged(own_study: Study) -> Study:
    """A study with one shard cut short."""
    folder = Path(own_study.path) / "slide_003" / "intensity" / "c"
    shard = sorted(path for path in folder.rglob("*") if path.is_file())[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    return mc.open_study(own_study.path)


def test_a_damaged_shard_is_an_error_that_names_slide_and_tile(damaged: Study) -> None:
    with pytest.raises(
        CorruptStore, match=r"cannot read slide slide_003, rows \d+ to \d+, columns .* Window"
    ):
        list(of(damaged))
    assert stream_threads() == []


def test_a_damaged_shard_is_skipped_and_counted_where_asked(study: Study, damaged: Study) -> None:
    whole, stream = list(of(study)), of(damaged, on_error="skip")
    assert stream.skipped == {}
    batches = list(stream)
    lost = 0
    for batch, good in zip(batches, whole, strict=True):
        assert places(batch) == places(good)
        bad = (batch["weight"] == 0) & (good["weight"] == 1)
        lost += int(bad.sum())
        assert not batch["spectra"][bad].any()
        assert np.array_equal(batch["spectra"][~bad].numpy(), good["spectra"][~bad].numpy()) or not (
            good["weight"].all()
        )
        assert {stream.slides[slide] for slide in batch["slide"][bad].tolist()} <= {"slide_003"}
    assert lost == sum(stream.skipped.values()) > 0
    assert all(name.startswith("slide slide_003, rows") for name in stream.skipped)


def test_patches_of_a_damaged_shard_are_zero_where_asked(damaged: Study) -> None:
    options: dict[str, Any] = {"size": 8, "stride": 8, "batch_size": 8, "memory": "8 MiB"}
    with pytest.raises(CorruptStore, match="slide_003"):
        list(PatchStream(damaged, **options))
    stream = PatchStream(damaged, **options, on_error="skip")
    assert len(list(stream)) == len(stream)
    assert sum(stream.skipped.values()) > 0


def _handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _left(stream: SpectrumStream) -> None:
    for _ in stream:
        break


def _failed(stream: SpectrumStream) -> None:
    try:
        for _ in stream:
            raise RuntimeError
    except RuntimeError:
        pass


def _closed(stream: SpectrumStream) -> None:
    iterator = iter(stream)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]


def _never_started(stream: SpectrumStream) -> None:
    iter(stream)


@pytest.mark.parametrize("end", [list, _left, _failed, _closed, _never_started])
def test_nothing_is_left_however_an_iteration_ends(
    study: Study, end: Callable[[SpectrumStream], Any]
) -> None:
    end(of(study))
    handles = _handles()
    for _ in range(3):
        end(of(study))
        assert stream_threads() == []
    # Each stream shares three numbers with workers it might get; they go with it.
    assert _handles() <= handles + 1
    assert left_in_shared_memory() == []


INTERRUPTED = """
import sys, threading, time
import msicube as mc
stream = mc.SpectrumStream(mc.open_study(sys.argv[1]), batch_size=64, memory="3 MiB")
try:
    for step, batch in enumerate(stream):
        if step == 3:
            print("ready", flush=True)
        time.sleep(0.01)
except KeyboardInterrupt:
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("msicube")]
    print("stopped", names, flush=True)
"""


def test_nothing_is_left_after_ctrl_c(study: Study) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, study.path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "stopped []\n"
    assert process.returncode == 0


ABANDONED = """
import sys
import msicube as mc
stream = mc.SpectrumStream(mc.open_study(sys.argv[1]), batch_size=64, memory="3 MiB")
iterator = iter(stream)
next(iterator)
print("done")
"""


def test_the_interpreter_ends_in_the_middle_of_an_epoch(study: Study) -> None:
    command = [sys.executable, "-c", ABANDONED, study.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
