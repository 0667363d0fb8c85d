"""One pass over the data: a task for each piece, and a tree of merges in a fixed order.

The tree depends on the data alone, so the result has the same bits on any scheduler, with any number of workers, and
after a worker is lost and its tasks ran again elsewhere. Another chunking changes the tree, and the result by what
float64 rounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.chain import Chain
from msicube.preprocess.kept import DamagedEntry, Kept
from msicube.preprocess.moments import Statistic
from msicube.preprocess.request import Request
from msicube.preprocess.sources import ArrayCube, Piece, SlidePieces, Source, spectra
from msicube.scheduling import SchedulerLike, compute, connect, is_local
from msicube.tiling import Window

#: Called with what is being done, such as ``pass 1: moments, slide_001``, the number of pieces done, and their total.
Progress: TypeAlias = Callable[[str, int, int], None]

#: Statistics merged by one task. Two keep the fewest of them waiting in memory, which matters for covariances.
FAN_IN = 2


@dataclass(frozen=True, eq=False)
class Tally:
    """What was gathered from some pieces.

    Attributes
    ----------
    statistic
        None where the pieces hold no spectrum.
    irregular
        For each stage of the chain, what it found irregular.
    """

    statistic: Statistic | None
    irregular: NDArray[np.int64]

    def merge(self, other: Tally) -> Tally:
        """Return what was gathered from both."""
        irregular = self.irregular + other.irregular
        if self.statistic is None or other.statistic is None:
            return Tally(self.statistic or other.statistic, irregular)
        return Tally(self.statistic.merge(other.statistic), irregular)


def run_pass(
    source: Source,
    chain: Chain,
    request: Request,
    *,
    kept: Kept | None = None,
    scheduler: SchedulerLike = "threads",
    workers: int | None = None,
    progress: Progress | None = None,
    label: str = "",
) -> Tally:
    """Gather a statistic of all spectra of a source behind a chain of fitted steps.

    Parameters
    ----------
    source
        What to read.
    chain
        The steps between the data and the statistic.
    request
        The statistic.
    kept
        Statistics of slides that earlier passes have left, and where to leave those of this one. A slide's statistic is
        kept as soon as all of its pieces are merged, so a pass that was stopped goes on where it was.
    scheduler, workers
        As for :func:`msicube.scheduling.compute`.
    progress
        Called in this process after each piece.
    label
        Handed to ``progress``, followed by the name of the slide.

    Notes
    -----
    A task holds one strip of :data:`~msicube.preprocess.sources.STRIP_BYTES` (or one cell of the store, if that is
    larger), a block of it on its way through the steps, and two statistics.
    """
    while True:
        graph, leaves, root = _graph(source, chain, request, kept)
        report = _reporter(progress, leaves, label)
        try:
            if is_local(scheduler):
                with one_blas_thread():
                    return _run_here(graph, leaves, root, report, scheduler=scheduler, workers=workers)
            return _run_on_cluster(graph, leaves, root, report, scheduler=scheduler)
        except DamagedEntry as error:
            if kept is None:
                raise
            kept.store.remove(error.entry)
            kept = kept.without(error.entry)


def gather(
    piece: Piece,
    request: Request,
    chain: Chain,
    chunk: NDArray[Any] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Tally:
    """Gather a statistic of one piece; the work of one task.

    Parameters
    ----------
    piece, request, chain
        Which spectra, which statistic, and the steps between them.
    chunk
        The piece's intensities, where it has no cube.
    mask
        The mask of the whole slide, where the piece has none.
    """
    if chunk is not None:
        here = Window(0, chunk.shape[0], 0, chunk.shape[1])
        piece = replace(piece, cube=ArrayCube(np.asarray(chunk)), window=here)
    elif mask is not None:
        piece = replace(piece, mask=mask[piece.window.slices])
    irregular = np.zeros(len(chain.stages), np.int64)
    statistic: Statistic | None = None
    rows = request.rows(chain.n_in, chain.n_out)
    with one_blas_thread():
        for block, labels in spectra(piece, columns=chain.columns):
            for start in range(0, len(block), rows):
                span = slice(start, start + rows)
                measured = request.measure(
                    chain.run(block[span], irregular),
                    labels[span] if isinstance(labels, np.ndarray) else labels,
                )
                statistic = measured if statistic is None else statistic.merge(measured)
            del block
    return Tally(statistic, irregular)


def merge_tallies(tallies: Sequence[Tally]) -> Tally:
    """Merge in the given order; the work of one task."""
    return reduce(Tally.merge, tallies)


def _graph(
    source: Source, chain: Chain, request: Request, kept: Kept | None
) -> tuple[dict[Any, Any], dict[Hashable, str], Hashable]:
    """Return the Dask graph of a pass, what each leaf of it is a piece of, and the key of its result."""
    token = uuid4().hex
    # Once in the graph, not in every task: both may hold matrices.
    chain_key, request_key = f"chain-{token}", f"request-{token}"
    graph: dict[Any, Any] = {chain_key: chain, request_key: request}
    leaves: dict[Hashable, str] = {}
    roots: list[Hashable] = []
    for slide in source.pieces(request.by):
        name = f"{len(roots)}-{token}"
        if kept is not None and slide.name in kept.present:
            key = f"kept-{name}"
            graph[key] = (kept.store.read, kept.entries[slide.name])
            leaves[key] = f"{slide.name} (kept)"
            roots.append(key)
            continue
        own, own_key = chain.for_slide(slide.name), chain_key
        if slide.channels is not None:
            own = own.on_axis(slide.channels)
        if own is not chain:
            own_key = f"chain-{name}"
            graph[own_key] = own
        keys = _slide_graph(graph, slide, request_key, own_key, name)
        leaves.update(dict.fromkeys(keys, slide.name))
        root = _merge_tree(graph, keys, f"slide-{name}")
        if kept is not None and slide.name in kept.entries:
            graph[f"keep-{name}"] = (kept.store.keep, root, kept.entries[slide.name])
            root = f"keep-{name}"
        roots.append(root)
    return graph, leaves, _merge_tree(graph, roots, f"all-{token}")


def _slide_graph(
    graph: dict[Any, Any], slide: SlidePieces, request_key: str, chain_key: str, token: str
) -> list[Hashable]:
    """Add the tasks of a slide's pieces to a graph and return their keys."""
    mask_key = None
    if slide.read_mask is not None:
        mask_key = f"mask-{token}"
        graph[mask_key] = (slide.read_mask,)
    graph.update(slide.graph or {})
    keys: list[Hashable] = []
    for number, piece in enumerate(slide.pieces):
        key = ("piece-" + token, number)
        chunk_key = None if slide.chunks is None else slide.chunks[number]
        graph[key] = (gather, piece, request_key, chain_key, chunk_key, mask_key)
        keys.append(key)
    return keys


def _merge_tree(graph: dict[Any, Any], keys: list[Hashable], name: str) -> Hashable:
    """Add a tree of merges over keys to a graph and return the key of its root."""
    level = 0
    while len(keys) > 1:
        merged: list[Hashable] = []
        for start in range(0, len(keys), FAN_IN):
            key = (name, level, len(merged))
            graph[key] = (merge_tallies, keys[start : start + FAN_IN])
            merged.append(key)
        keys, level = merged, level + 1
    return keys[0]


def _reporter(
    progress: Progress | None, leaves: Mapping[Hashable, str], label: str
) -> Callable[[Hashable], None]:
    """Return a function to call with each leaf that is done."""
    total, done = Counter(leaves.values()), Counter[str]()

    def report(leaf: Hashable) -> None:
        slide = leaves[leaf]
        done[slide] += 1
        if progress is not None:
            progress(f"{label}, {slide}" if slide else label, done[slide], total[slide])

    return report


def _run_here(
    graph: dict[Any, Any],
    leaves: Mapping[Hashable, str],
    root: Hashable,
    report: Callable[[Hashable], None],
    *,
    scheduler: SchedulerLike,
    workers: int | None,
) -> Tally:
    from dask.delayed import Delayed

    def finished(key: Hashable, _: Any) -> None:
        if key in leaves:
            report(key)

    tally: Tally = compute([Delayed(root, graph)], scheduler=scheduler, workers=workers, on_task=finished)[0]
    return tally


def _run_on_cluster(
    graph: dict[Any, Any],
    leaves: Mapping[Hashable, str],
    root: Hashable,
    report: Callable[[Hashable], None],
    *,
    scheduler: SchedulerLike,
) -> Tally:
    from distributed import as_completed

    with connect(scheduler) as client:
        *pieces, result = client.get(graph, [*leaves, root], sync=False)
        # A piece is let go as soon as it is counted: its statistic lives on only until it is merged.
        for piece in as_completed(pieces):
            if piece.status == "error":
                break
            report(piece.key)
            piece.release()
        tally: Tally = result.result()
    return tally
