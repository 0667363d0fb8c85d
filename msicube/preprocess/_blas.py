"""One BLAS thread to a task.

Tasks run beside one another already; threads inside each would fight over the processors. And a matrix product that is
cut among threads may round differently from one that is not, so a result could depend on where it was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the linear algebra of this process to one thread while the block runs.

    OpenBLAS has one limit for a process, while tasks of a process overlap: were each to set the limit and to take it
    back, the first to end would take it from the others. So it is counted who needs it, and set until the last has
    ended, by a thread of its own, because threadpoolctl lets only the thread that has set a limit take it back.
    """
    _limit.hold()
    try:
        yield
    finally:
        _limit.release()


class _Limit:
    """The limit of this process, and how many need it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._is_set, self._over = Event(), Event()
        self._keeper = Thread()

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._is_set, self._over = Event(), Event()
                self._keeper = Thread(target=self._keep, name="one-blas-thread", daemon=True)
                self._keeper.start()
                self._is_set.wait()
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._over.set()
                self._keeper.join()

    def _keep(self) -> None:
        from threadpoolctl import threadpool_limits

        try:
            with threadpool_limits(1, user_api="blas"):
                self._is_set.set()
                self._over.wait()
        finally:
            self._is_set.set()


_limit = _Limit()
