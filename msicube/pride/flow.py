"""Slides flowing by: downloaded by threads, handled one at a time as they arrive, within bounds on the disk."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msicube.bytesize import format_bytes
from msicube.errors import DiskSpaceError, MSICubeError
from msicube.readers.imzml.cache import cache_files
from msicube.remote import Receipt, RemoteFile, Servers, fetch
from msicube.remote.pairs import RemotePair
from msicube.remote.pool import SPARE
from msicube.remote.transfer import Progress, forget, here

Fetched = tuple[tuple[RemoteFile, Receipt], ...]


class Action(Protocol):
    """What is done with a slide that has arrived; picklable."""

    def __call__(self, pair: RemotePair, fetched: Fetched) -> Any:
        """Do it; errors of msicube are caught and reported for this slide."""


@dataclass(frozen=True)
class Plan:
    """How slides flow.

    Attributes
    ----------
    folder
        Where files go.
    servers
        How they are read.
    connections
        Downloads at once.
    keep
        Whether files stay when their slide has been handled.
    disk_limit
        Bound on the bytes of files that are here, whole or in part; None for no bound but the disk's.
    in_flight
        Slides at once, downloading and being handled.
    """

    folder: Path
    servers: Servers
    connections: int
    keep: bool
    disk_limit: int | None = None
    in_flight: int = 3

    def why_not(self, pair: RemotePair) -> DiskSpaceError | None:
        """Return why a slide can never be downloaded within the limit."""
        if self.disk_limit is None or pair.size <= self.disk_limit:
            return None
        return DiskSpaceError(
            f"{pair.slide} has {format_bytes(pair.size)}, the limit on the disk is "
            f"{format_bytes(self.disk_limit)}: raise --disk-limit"
        )


@dataclass(frozen=True)
class Handled:
    """What became of one slide.

    Attributes
    ----------
    pair
        Of files.
    result
        What the action returned.
    error
        Why there is none.
    download_seconds, handle_seconds
        Wall time.
    """

    pair: RemotePair
    result: Any = None
    error: MSICubeError | None = None
    download_seconds: float = 0.0
    handle_seconds: float = 0.0


@dataclass
class _Active:
    """A slide that is being downloaded."""

    pair: RemotePair
    futures: list[Future[tuple[RemoteFile, Receipt]]]
    started: float = field(default_factory=time.perf_counter)
    ended: float = 0.0

    def __post_init__(self) -> None:
        for future in self.futures:
            future.add_done_callback(self._file_ended)

    def _file_ended(self, _: object) -> None:
        self.ended = time.perf_counter()

    @property
    def arrived(self) -> bool:
        return all(future.done() for future in self.futures)


@dataclass
class _Flow:
    """The slides that wait and those that are being downloaded."""

    plan: Plan
    threads: ThreadPoolExecutor
    progress: Progress | None
    pending: deque[RemotePair]
    active: list[_Active] = field(default_factory=list)
    #: Slides that are not active and of which something is here: of a stopped run, or of a download that failed.
    parked: list[RemotePair] = field(default_factory=list)

    def start(self) -> Iterator[Handled]:
        """Begin as many downloads as the bounds allow; yield the slides that they never allow."""
        while self.pending and len(self.active) < self.plan.in_flight:
            pair = self.pending[0]
            refused = _admit(pair, [active.pair for active in self.active], self.plan)
            if refused is _LATER:
                return
            self.pending.popleft()
            self.parked = [other for other in self.parked if other is not pair]
            if refused is not None:
                yield Handled(pair, error=refused)
                continue
            futures = [
                self.threads.submit(_fetch, remote, target, self.plan.servers, self.progress)
                for remote, target in pair.places(self.plan.folder)
            ]
            self.active.append(_Active(pair, futures))
            self.make_room()

    def make_room(self) -> None:
        """Give up what is here of slides that are not active where it would take more than the limit on the disk."""
        if self.plan.disk_limit is None:
            return
        room = self.plan.disk_limit - sum(active.pair.size for active in self.active)
        while self.parked and sum(_here(pair, self.plan) for pair in self.parked) > room:
            drop(self.parked.pop(), self.plan.folder)

    def arrivals(self) -> list[_Active]:
        """Wait for the next file, and return the slides that are here whole or have failed."""
        running = [future for active in self.active for future in active.futures if not future.done()]
        if running and not any(active.arrived for active in self.active):
            wait(running, return_when=FIRST_COMPLETED)
        return [active for active in self.active if active.arrived]

    def stop(self) -> None:
        """Let the threads end soon."""
        self.plan.servers.client.stop()
        for active in self.active:
            for future in active.futures:
                future.cancel()


def flow(
    pairs: Sequence[RemotePair], plan: Plan, action: Action, *, progress: Progress | None = None
) -> Iterator[Handled]:
    """Download slides and hand each to an action in this thread, while others are being downloaded.

    Yields
    ------
    Handled
        In the order in which they end. What goes wrong with one slide does not stop the others.
    """
    with ThreadPoolExecutor(plan.connections, thread_name_prefix="download") as threads:
        slides = _Flow(plan, threads, progress, deque(resumed_first(pairs, plan.folder)))
        slides.parked = [pair for pair in pairs if _here(pair, plan)]
        try:
            while slides.pending or slides.active:
                yield from slides.start()
                for arrived in slides.arrivals():
                    yield _handle(arrived, plan, action)
                    slides.active.remove(arrived)
                    if _here(arrived.pair, plan):
                        slides.parked.append(arrived.pair)
                    yield from slides.start()
        except BaseException:
            slides.stop()
            raise


def resumed_first(pairs: Sequence[RemotePair], folder: Path) -> list[RemotePair]:
    """Return slides in order, those first of which a stopped run has left files: their room is taken already."""
    return sorted(pairs, key=lambda pair: not any(here(target) for _, target in pair.places(folder)))


def drop(pair: RemotePair, folder: Path) -> None:
    """Remove the files of a slide, and the index that was kept of them."""
    for _, target in pair.places(folder):
        for place in cache_files(target):
            place.unlink(missing_ok=True)
        forget(target)


_LATER = DiskSpaceError("later")


def _admit(pair: RemotePair, active: Sequence[RemotePair], plan: Plan) -> DiskSpaceError | None:
    """Return None where a slide may be downloaded now, ``_LATER``, or why it never may."""
    never = plan.why_not(pair)
    if never is not None:
        return never
    taken = sum(other.size for other in active)
    if plan.disk_limit is not None and active and taken + pair.size > plan.disk_limit:
        return _LATER
    done = sum(here(target) for _, target in pair.places(plan.folder))
    coming = sum(max(0, other.size - _here(other, plan)) for other in active)
    plan.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.folder).free
    if max(0, pair.size - done) + coming + SPARE <= free:
        return None
    if active:
        return _LATER
    return DiskSpaceError(
        f"{pair.slide} has {format_bytes(pair.size)}, {format_bytes(free)} are free in {plan.folder}: make room, or "
        f"choose another folder with --folder"
    )


def _here(pair: RemotePair, plan: Plan) -> int:
    return sum(here(target) for _, target in pair.places(plan.folder))


def _fetch(
    remote: RemoteFile, target: Path, servers: Servers, progress: Progress | None
) -> tuple[RemoteFile, Receipt]:
    return remote, fetch(remote, target, servers.transport(remote.url), progress=progress)


def _handle(arrived: _Active, plan: Plan, action: Action) -> Handled:
    pair, seconds = arrived.pair, (arrived.ended or time.perf_counter()) - arrived.started
    errors = [error for future in arrived.futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, MSICubeError):
            raise error
    if errors:
        whole = MSICubeError("; ".join(str(error) for error in errors))
        return Handled(pair, error=whole, download_seconds=seconds)
    fetched = tuple(future.result() for future in arrived.futures)
    return run_action(pair, fetched, action, plan, seconds)


def run_action(
    pair: RemotePair, fetched: Fetched, action: Action, plan: Plan, download_seconds: float
) -> Handled:
    """Hand a slide that has arrived to the action, and remove its files where they are not to stay."""
    started = time.perf_counter()
    result, failed = None, None
    try:
        result = action(pair, fetched)
    except MSICubeError as error:
        failed = error
    # Not after anything else, such as Ctrl-C: then the next run goes on with the files.
    if not plan.keep:
        drop(pair, plan.folder)
    return Handled(pair, result, failed, download_seconds, time.perf_counter() - started)


#: Gives slides to an action, here or on a cluster.
Runner = Callable[[Sequence[RemotePair], Plan, Action], Iterator[Handled]]
