"""Slides on the workers of a Dask cluster: a task is one slide, and connections are counted over all workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msicube.errors import MSICubeError
from msicube.pride.flow import Action, Handled, Plan, drop, resumed_first, run_action
from msicube.remote import fetch
from msicube.remote.pairs import RemotePair
from msicube.scheduling import SchedulerLike, connect

if TYPE_CHECKING:
    from distributed import Semaphore


@dataclass(frozen=True)
class SlideTask:
    """One slide: download it, hand it to the action, remove it where it is not to stay; picklable."""

    pair: RemotePair
    plan: Plan
    action: Action

    def run(self, connections: Semaphore) -> Handled:
        """Do it on a worker; a lease of the semaphore is held for each file while it is downloaded, and no longer."""
        started = time.perf_counter()
        fetched = []
        try:
            for remote, target in self.pair.places(self.plan.folder):
                with connections:
                    transport = self.plan.servers.transport(remote.url)
                    fetched.append((remote, fetch(remote, target, transport)))
        except MSICubeError as error:
            if self.plan.disk_limit is not None:
                drop(self.pair, self.plan.folder)
            return Handled(self.pair, error=error, download_seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        return run_action(self.pair, tuple(fetched), self.action, self.plan, seconds)


def flow_on_cluster(
    pairs: Sequence[RemotePair], plan: Plan, action: Action, scheduler: SchedulerLike
) -> Iterator[Handled]:
    """Run slides as tasks of a cluster, as many at once as its threads and the limit on the disk allow.

    A task is retried by the cluster where its worker is lost; what it had downloaded is resumed.
    """
    from distributed import Semaphore, as_completed

    with connect(scheduler) as client:
        name = f"msicube-connections-{uuid4().hex}"
        connections = Semaphore(max_leases=plan.connections, name=name)
        threads = sum(client.nthreads().values())
        in_flight = max(plan.in_flight, threads + plan.connections)
        pending = deque(resumed_first(pairs, plan.folder))
        sizes: dict[Any, int] = {}
        running: Any = as_completed()

        def start() -> Iterator[Handled]:
            while pending and len(sizes) < in_flight:
                pair = pending[0]
                never = plan.why_not(pair)
                if never is None and _full(plan, sizes, pair):
                    return
                pending.popleft()
                if never is not None:
                    yield Handled(pair, error=never)
                    continue
                future = client.submit(SlideTask(pair, plan, action).run, connections, pure=False)
                sizes[future.key] = pair.size
                running.add(future)

        try:
            yield from start()
            while sizes:
                future = next(running)
                sizes.pop(future.key)
                yield future.result()
                yield from start()
        finally:
            client.cancel(list(running.futures))
            running.clear()
            connections.close()


def _full(plan: Plan, sizes: dict[Any, int], pair: RemotePair) -> bool:
    """Return whether the limit on the disk keeps a slide waiting."""
    if plan.disk_limit is None or not sizes:
        return False
    return sum(sizes.values()) + pair.size > plan.disk_limit
