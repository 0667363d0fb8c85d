"""Where work runs on one machine; ``cluster/`` has the same on a real Dask cluster."""

from __future__ import annotations

import pytest
from dask.delayed import delayed

from msicube.errors import CorruptSource, UsageError
from msicube.scheduling import compute, run_tasks


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
