"""Threads that do jobs in the order of need, as far ahead as there is room."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Ticket:
    """What a consumer waits for; it is ready when all of its jobs are done."""

    def __init__(self, jobs: int) -> None:
        self.pending = jobs


class Job(Protocol):
    """A piece of work that belongs to a ticket."""

    @property
    def ticket(self) -> Ticket:
        """What the job is a part of."""


J = TypeVar("J", bound=Job)
T = TypeVar("T")


class Stopped(Exception):
    """The crew was closed while something was waited for."""


class _Queue(Generic[J]):
    """What the threads and the consumer share. It does not know the crew, so a forgotten crew can be collected."""

    def __init__(self, jobs: Iterator[J], admit: Callable[[J], bool], work: Callable[[J], None]) -> None:
        self.jobs, self.admit, self.work = jobs, admit, work
        self.head: J | None = None
        self.stopped = False
        self.error: BaseException | None = None
        lock = threading.Lock()
        self.room, self.done = threading.Condition(lock), threading.Condition(lock)

    def take(self) -> J | None:
        """Return the next job once there is room for it, or None when there is no more to do."""
        with self.room:
            try:
                while not self.stopped and self.error is None:
                    if self.head is None:
                        self.head = next(self.jobs, None)
                    if self.head is None:
                        self.room.notify()
                        return None
                    if self.admit(self.head):
                        job, self.head = self.head, None
                        self.room.notify()
                        return job
                    self.room.wait()
            except BaseException as error:
                self._fail(error)
        return None

    def step(self) -> bool:
        """Do one job; return whether there was one."""
        job = self.take()
        if job is None:
            return False
        try:
            self.work(job)
        except BaseException as error:
            with self.room:
                self._fail(error)
            return False
        with self.done:
            job.ticket.pending -= 1
            if job.ticket.pending == 0:
                self.done.notify_all()
        return True

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.room.notify_all()
        self.done.notify_all()


class Crew(Generic[J]):
    """A few threads working ahead of one consumer.

    Parameters
    ----------
    jobs
        The work, in the order in which the consumer will need it. Drawn lazily, one at a time, under a lock.
    admit
        Takes the memory that a job needs and returns True, or returns False when there is not enough. Called under
        the same lock. A job that is not admitted is offered again after :meth:`release`.
    work
        Does an admitted job, outside the lock.
    threads
        How many.

    Notes
    -----
    The threads end when the jobs do, on :meth:`close`, after an error, when the crew is garbage-collected, and when
    the interpreter exits.
    """

    def __init__(
        self, jobs: Iterator[J], *, admit: Callable[[J], bool], work: Callable[[J], None], threads: int
    ) -> None:
        self._queue = _Queue(jobs, admit, work)
        self._threads = [
            threading.Thread(target=_run, args=(self._queue,), name=f"msicube-stream-{number}", daemon=True)
            for number in range(threads)
        ]
        self._finalizer = weakref.finalize(self, _stop, self._queue, self._threads)
        for thread in self._threads:
            thread.start()

    def wait(self, ticket: Ticket) -> None:
        """Return when a ticket is ready; raise what went wrong if it will never be."""
        with self._queue.done:
            while ticket.pending and self._queue.error is None and not self._queue.stopped:
                self._queue.done.wait()
            if ticket.pending:
                raise self._queue.error or Stopped

    def release(self, give_back: Callable[[], None]) -> None:
        """Give memory back, under the lock, and let the next job in."""
        with self._queue.room:
            give_back()
            self._queue.room.notify()

    def close(self) -> None:
        """Stop after the jobs in hand and wait for the threads to end."""
        self._finalizer()


def _run(queue: _Queue[J]) -> None:
    while queue.step():
        pass


def _stop(queue: _Queue[J], threads: list[threading.Thread]) -> None:
    with queue.room:
        queue.stopped = True
        queue.room.notify_all()
        queue.done.notify_all()
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join()


class Ahead(Generic[T]):
    """A thread that draws from an iterator before its items are asked for.

    Parameters
    ----------
    items
        Drawn from in the thread alone.
    depth
        How many items may wait; one more is being made.
    stop
        Makes an item that is waited for in ``items`` raise, so that the thread can end.
    """

    def __init__(self, items: Iterator[T], *, depth: int, stop: Callable[[], None]) -> None:
        self._items, self._depth, self._stop = items, depth, stop
        self._ready: deque[T] = deque()
        self._over = self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="msicube-stream-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not self._ready and not self._over:
                self._changed.wait()
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify()
                return item
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._stop()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._ready.clear()

    def _run(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    while len(self._ready) >= self._depth and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._ready.append(item)
                    self._changed.notify()
                del item
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()
