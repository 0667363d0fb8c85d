"""Threads that work ahead: order, room, errors, and that they end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from stream_helpers import stream_threads

from msicube.stream.crew import Crew, Ticket


@dataclass(frozen=True)
class Number:
    ticket: Ticket
    value: int


class Desk:
    """Collects numbers; room for a few at a time."""

    def __init__(self, room: int = 3, bad: int | None = None) -> None:
        self.room, self.bad = room, bad
        self.tickets = [Ticket(2) for _ in range(20)]
        self.admitted: list[int] = []
        self.done: list[int] = []

    def jobs(self) -> Iterator[Number]:
        for value in range(40):
            yield Number(self.tickets[value // 2], value)

    def admit(self, job: Number) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.admitted.append(job.value)
        return True

    def work(self, job: Number) -> None:
        if job.value == self.bad:
            raise OSError(f"{job.value} is bad")
        self.done.append(job.value)

    def give(self) -> None:
        self.room += 2

    def crew(self, threads: int = 2) -> Crew[Number]:
        return Crew(self.jobs(), admit=self.admit, work=self.work, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_jobs_are_taken_in_order_as_far_as_there_is_room(threads: int) -> None:
    desk = Desk()
    crew = desk.crew(threads)
    for number, ticket in enumerate(desk.tickets):
        crew.wait(ticket)
        assert {2 * number, 2 * number + 1} <= set(desk.done)
        assert len(desk.admitted) <= 3 + 2 * number
        crew.release(desk.give)
    crew.close()
    assert desk.admitted == list(range(40))


def test_threads_end_with_the_jobs() -> None:
    desk = Desk(room=40)
    crew = desk.crew()
    for ticket in desk.tickets:
        crew.wait(ticket)
    for thread in threading.enumerate():
        if thread.name in stream_threads():
            thread.join(10)
    assert stream_threads() == []
    crew.close()


def test_an_error_reaches_who_waits_for_it_and_nobody_earlier() -> None:
    desk = Desk(room=40, bad=9)
    crew = desk.crew(1)
    with pytest.raises(OSError, match="9 is bad"):
        crew.wait(desk.tickets[4])
    for ticket in desk.tickets[:4]:
        crew.wait(ticket)
    with pytest.raises(OSError, match="9 is bad"):
        crew.wait(desk.tickets[19])
    crew.close()


def test_an_error_in_making_the_jobs_reaches_the_consumer() -> None:
    def jobs() -> Iterator[Number]:
        yield Number(Ticket(1), 0)
        raise ValueError("no more")

    desk = Desk()
    crew = Crew(jobs(), admit=desk.admit, work=desk.work, threads=2)
    with pytest.raises(ValueError, match="no more"):
        crew.wait(Ticket(1))
    crew.close()


def test_a_forgotten_crew_stops() -> None:
    crew = Desk().crew()
    assert len(stream_threads()) == 2
    del crew
    gc.collect()
    assert stream_threads() == []


def test_a_waiting_crew_does_not_keep_the_interpreter_alive() -> None:
    code = (
        "from msicube.stream.crew import Crew, Ticket\n"
        "class Job: ticket = Ticket(1)\n"
        "crew = Crew(iter([Job()]), admit=lambda job: False, work=print, threads=3)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
