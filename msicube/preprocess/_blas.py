"""One BLAS thread to a task.

Tasks run beside one another already; threads inside each would fight over the processors. And a matrix product that is
cut among threads may round differently from one that is not, so a result could depend on where it was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the linear algebra of this process to one thread while the block runs.

    OpenBLAS knows one limit for a process, which threadpoolctl lets the thread that first asked control. So the thread
    that starts the tasks of a local scheduler asks for all of them, and each task asks once more for the case that it
    has a process to itself. The workers of a cluster are held to one thread by Dask's nanny from the start.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
