"""One BLAS thread while reading threads transform spectra, however many streams are read at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msicube.stream.selection import Selection

_lock = threading.Lock()
_readers = 0
_limits: Any = None


@contextmanager
def one_blas_thread(selection: Selection) -> Iterator[None]:
    """Hold NumPy's linear algebra to one thread while any stream with a pipeline is read.

    The reading threads work beside one another already; threads inside each would fight over the processors. The limit
    is one of the whole process, and iterations end in any order: the last one to end lifts it.
    """
    if selection.pipeline is None:
        yield
        return
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    global _readers, _limits
    from threadpoolctl import threadpool_limits

    with _lock:
        _readers += 1
        if _readers == 1:
            _limits = threadpool_limits(1, user_api="blas")


def _end() -> None:
    global _readers, _limits
    with _lock:
        _readers -= 1
        if _readers == 0:
            _limits.restore_original_limits()
            _limits = None
