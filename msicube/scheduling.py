"""Where work runs: threads, processes, or a Dask cluster, by one argument everywhere.

A scheduler is ``"threads"``, ``"processes"``, ``"synchronous"``, the address of a Dask scheduler
(``"tcp://host:8786"``) or a :class:`distributed.Client`. Nothing here changes Dask's global configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union
from uuid import uuid4

from msicube.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

SchedulerLike: TypeAlias = Union[str, "Client"]
CONNECT_TIMEOUT = "10s"
LOCAL = ("threads", "processes", "synchronous")

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute(
    tasks: Iterable[Any], *, scheduler: SchedulerLike = "threads", workers: int | None = None
) -> list[Any]:
    """Compute Dask objects and return their results in order.

    Parameters
    ----------
    tasks
        Delayed objects or Dask collections.
    scheduler
        Where to run; see the module's docstring.
    workers
        Threads or processes of a local scheduler; the number of processors by default.

    Raises
    ------
    UsageError
        An unknown scheduler, or a cluster that does not answer.
    """
    from dask.base import compute as dask_compute

    if isinstance(scheduler, str) and scheduler in LOCAL:
        get = _local(scheduler)
        return list(dask_compute(*tasks, scheduler=get, num_workers=workers or default_workers()))
    with connect(scheduler) as client:
        return list(client.gather(client.compute(list(tasks))))


def _local(scheduler: str) -> Callable[..., Any]:
    """Return Dask's function for a local scheduler; by its name, Dask would first import all of ``distributed``."""
    module, name = {
        "threads": ("dask.threaded", "get"),
        "processes": ("dask.multiprocessing", "get"),
        "synchronous": ("dask.local", "get_sync"),
    }[scheduler]
    get: Callable[..., Any] = getattr(import_module(module), name)
    return get


def run_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    on_result: Callable[[Result], None],
) -> None:
    """Apply a function to each item and hand over results as they finish.

    Independent tasks have no graph, so threads of this process take them without Dask, which a small conversion would
    spend more time importing than working. A local scheduler keeps at most ``workers`` tasks in flight, so memory is
    bounded by the bound of one task times ``workers``. The first error stops the rest and is raised.

    Parameters
    ----------
    function
        Picklable for processes and clusters.
    items
        The arguments, one task each.
    scheduler, workers
        As for :func:`compute`.
    on_result
        Called in this process with each result, in the order in which they finish.
    """
    if not isinstance(scheduler, str) or scheduler not in LOCAL:
        _run_on_cluster(function, items, scheduler, on_result)
    elif scheduler == "processes":
        _run_in_processes(function, items, workers, on_result)
    else:
        n_threads = 1 if scheduler == "synchronous" else workers or default_workers()
        _run_in_threads(function, items, n_threads, on_result)


def _run_in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_threads: int,
    on_result: Callable[[Result], None],
) -> None:
    if n_threads == 1:
        for item in items:
            on_result(function(item))
        return
    with ThreadPoolExecutor(n_threads, "msicube") as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                on_result(future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _run_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    on_result: Callable[[Result], None],
) -> None:
    from dask.callbacks import Callback
    from dask.delayed import delayed

    # Keys in the order of the items: Dask starts equal tasks by key, and neighbouring tiles lie together on disk.
    name = f"{getattr(function, '__name__', 'task')}-{uuid4().hex}"
    # As partials: Dask would look through the fields of an item for tasks.
    calls = (delayed(partial(function, item), pure=False) for item in items)
    tasks = [call(dask_key_name=f"{name}-{i:09d}") for i, call in enumerate(calls)]
    keys = {task.key for task in tasks}

    def finished(key: Any, result: Any, *_: Any) -> None:
        if key in keys:
            on_result(result)

    with Callback(posttask=finished):
        compute(tasks, scheduler="processes", workers=workers)


def _run_on_cluster(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    scheduler: SchedulerLike,
    on_result: Callable[[Result], None],
) -> None:
    import distributed

    with connect(scheduler) as client:
        futures = client.map(function, items, pure=False)
        try:
            for _, result in distributed.as_completed(futures, with_results=True):
                on_result(result)
        finally:
            client.cancel(futures)


@contextmanager
def connect(scheduler: SchedulerLike) -> Iterator[Client]:
    """Yield a client of a cluster; one that was opened here is closed again.

    Raises
    ------
    UsageError
        An unknown scheduler, or a cluster that does not answer.
    """
    from distributed import Client

    if isinstance(scheduler, Client):
        yield scheduler
        return
    if not isinstance(scheduler, str) or "://" not in scheduler:
        raise UsageError(
            f"unknown scheduler {scheduler!r}: expected one of {', '.join(LOCAL)}, the address of a Dask scheduler "
            f"such as tcp://host:8786, or a distributed.Client"
        )
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler}: start one with `dask scheduler`, or use --scheduler threads"
        ) from error
    with client:
        yield client
