"""Where work runs on one machine; ``cluster/`` has the same on a real Dask cluster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from dask.delayed import delayed

from msicube.errors import CorruptSource, UsageError
from msicube.scheduling import SchedulerLike, compute, run_tasks, shared


def double(n: int) -> int:
    if n == 13:
        raise CorruptSource("thirteen is damaged")
    return 2 * n


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_every_item_gives_one_result(scheduler: str) -> None:
    found: list[int] = []
    run_tasks(double, range(12), scheduler=scheduler, workers=2, on_result=found.append)
    assert sorted(found) == [2 * n for n in range(12)]
    assert compute([delayed(double)(n) for n in range(5)], scheduler=scheduler) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_computations_of_several_threads_get_their_own_results(scheduler: str) -> None:
    found: dict[int, list[int]] = {caller: [] for caller in range(8)}

    def call(caller: int, pool: SchedulerLike) -> None:
        for start in range(100 * caller + 20, 100 * caller + 40, 4):
            run_tasks(double, range(start, start + 4), scheduler=pool, on_result=found[caller].append)

    with shared(scheduler, workers=2) as pool, ThreadPoolExecutor(8) as threads:
        list(threads.map(call, found, [pool] * 8))
    for caller, results in found.items():
        assert sorted(results) == [2 * n for n in range(100 * caller + 20, 100 * caller + 40)]


def test_processes_are_shared_too() -> None:
    found: list[int] = []
    with shared("processes", workers=1) as pool:
        for _ in range(2):
            run_tasks(double, [1, 2], scheduler=pool, on_result=found.append)
        with pytest.raises(CorruptSource, match="thirteen"):
            run_tasks(double, [13], scheduler=pool, on_result=found.append)
    assert sorted(found) == [2, 2, 4, 4]


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_an_error_is_raised_as_it_was(scheduler: str) -> None:
    with pytest.raises(CorruptSource, match="thirteen"):
        run_tasks(double, [1, 13, 2], scheduler=scheduler, on_result=lambda _: None)


@pytest.mark.parametrize(
    ("scheduler", "message"), [("fibres", "unknown scheduler"), ("tcp://127.0.0.1:1", "no Dask")]
)
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there_is_said(
    scheduler: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msicube.scheduling.CONNECT_TIMEOUT", "1s")
    with pytest.raises(UsageError, match=message):
        run_tasks(double, [1], scheduler=scheduler, on_result=lambda _: None)
