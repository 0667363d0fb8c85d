"""Where Dask work runs: threads, processes, or a cluster, by one argument everywhere.

A scheduler is ``"threads"``, ``"processes"``, ``"synchronous"``, the address of a Dask scheduler
(``"tcp://host:8786"``) or a :class:`distributed.Client`. Nothing here changes Dask's global configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union
from uuid import uuid4

from msicube.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

SchedulerLike: TypeAlias = Union[str, "Client", "LocalPool"]
CONNECT_TIMEOUT = "10s"
LOCAL = ("threads", "processes", "synchronous")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LocalPool:
    """Threads or processes of this machine that several computations share; see :func:`shared`.

    Attributes
    ----------
    scheduler
        ``"threads"`` or ``"processes"``.
    executor
        What runs the tasks.
    """

    scheduler: str
    executor: Executor


def is_local(scheduler: SchedulerLike) -> bool:
    """Return whether a scheduler is one of this machine's."""
    return isinstance(scheduler, LocalPool) or (isinstance(scheduler, str) and scheduler in LOCAL)


def default_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute(
    tasks: Iterable[Any],
    *,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    on_task: Callable[[Any, Any], None] | None = None,
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
    on_task
        Called in this process with key and result of every task that a local scheduler has finished.

    Raises
    ------
    UsageError
        An unknown scheduler, or a cluster that does not answer.
    """
    from dask.base import compute as dask_compute
    from dask.callbacks import Callback

    if is_local(scheduler):
        ours = [] if on_task is None else [Callback(posttask=lambda key, result, *_: on_task(key, result))]
        options: dict[str, Any] = {"num_workers": workers or default_workers()}
        name = str(scheduler)
        if isinstance(scheduler, LocalPool):
            name, options = scheduler.scheduler, {"pool": scheduler.executor}
        # Given, not made active: what is active changes hands between the computations of several threads.
        options["callbacks"] = [*Callback.active, *(callback._callback for callback in ours)]
        return list(dask_compute(*tasks, scheduler=_local(name), **options))
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
    """Apply a function to each item, as one Dask task each, and hand over results as they finish.

    A local scheduler keeps at most ``workers`` tasks in flight, so memory is bounded by the bound of one task times
    ``workers``. The first error stops the rest and is raised.

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
    if not is_local(scheduler):
        _run_on_cluster(function, items, scheduler, on_result)
        return
    if isinstance(scheduler, LocalPool) and scheduler.scheduler == "threads":
        _run_in_pool(function, items, scheduler.executor, on_result)
        return
    from dask.delayed import delayed

    # Keys in the order of the items: Dask starts equal tasks by key, and neighbouring tiles lie together on disk.
    name = f"{getattr(function, '__name__', 'task')}-{uuid4().hex}"
    # As partials: Dask would look through the fields of an item for tasks.
    calls = (delayed(partial(function, item), pure=False) for item in items)
    tasks = [call(dask_key_name=f"{name}-{i:09d}") for i, call in enumerate(calls)]
    keys = {task.key for task in tasks}

    def finished(key: Any, result: Any) -> None:
        if key in keys:
            on_result(result)

    compute(tasks, scheduler=scheduler, workers=workers, on_task=finished)


def _run_in_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    pool: Executor,
    on_result: Callable[[Result], None],
) -> None:
    futures = [pool.submit(function, item) for item in items]
    try:
        for future in as_completed(futures):
            on_result(future.result())
    finally:
        for future in futures:
            future.cancel()
        wait(futures)  # those that run: nothing goes on once this has returned


def for_each(function: Callable[[Item], None], items: Sequence[Item], *, threads: int) -> None:
    """Call a function with each item, in the order of the items or on threads of this moment's own.

    For work of milliseconds, which is also done inside of tasks.
    """
    if threads <= 1 or len(items) <= 1:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        _run_in_pool(function, items, pool, lambda _: None)


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
def shared(scheduler: SchedulerLike, workers: int | None = None) -> Iterator[SchedulerLike]:
    """Yield a scheduler on which several threads can compute at once.

    Together they have no more tasks of a local scheduler in flight than one of them would have by itself, and one
    connection to a cluster.
    """
    if scheduler == "threads":
        with ThreadPoolExecutor(workers or default_workers()) as threads:
            yield LocalPool(scheduler, threads)
    elif scheduler == "processes":
        from dask.multiprocessing import get_context

        with ProcessPoolExecutor(workers or default_workers(), mp_context=get_context()) as processes:
            yield LocalPool(scheduler, processes)
    elif is_local(scheduler):
        yield scheduler
    else:
        with connect(scheduler) as client:
            yield client


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
