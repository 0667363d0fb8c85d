"""A run of fitted steps as one function of a block: linear steps folded, channels chosen as early as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from msicube.errors import AxisMismatch, UsageError
from msicube.preprocess.affine import Affine
from msicube.preprocess.channels import Channels, same_axis

#: Bytes of a block, in float64, on its way through the steps: what stays in the cache of a core is twice as fast.
BLOCK_BYTES = 4 * 2**20
MIN_ROWS = 16

if TYPE_CHECKING:
    from msicube.preprocess.base import Step


class Stage(Protocol):
    """A step, or an affine map that several steps folded into."""

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block; see :meth:`msicube.preprocess.base.Step.kernel`."""

    def for_slide(self, slide: str) -> Stage:
        """Return the stage of one slide; see :meth:`msicube.preprocess.base.Step.for_slide`."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Fitted steps, ready to run; picklable, safe to use from many threads.

    Attributes
    ----------
    n_in, n_out
        Columns of the blocks that go in and come out.
    stages
        What to do, in order.
    columns
        The only columns of the input that matter, or None for all. The stages expect just these.
    """

    n_in: int
    n_out: int
    stages: tuple[Stage, ...]
    columns: NDArray[np.intp] | None = None

    def for_slide(self, slide: str) -> Chain:
        """Return the chain of one slide: this one, unless a step has numbers of its own for each slide.

        Parameters
        ----------
        slide
            Its name; empty for the spectra of an array or a dataset.

        Raises
        ------
        UsageError
            A step that works by slide has not seen this one.
        """
        stages = tuple(stage.for_slide(slide) for stage in self.stages)
        same = all(own is stage for own, stage in zip(stages, self.stages, strict=True))
        return self if same else replace(self, stages=stages)

    @property
    def takes_any_axis(self) -> bool:
        """Whether it begins with a step that brings spectra of any axis onto one."""
        return bool(self.stages) and getattr(self.stages[0], "takes_any_axis", False)

    def on_axis(self, channels: Channels) -> Chain:
        """Return the chain for spectra on another axis than those of the fit; its first step takes any."""
        first = self.stages[0].on_axis(channels)  # type: ignore[attr-defined]
        return replace(self, n_in=channels.n, stages=(first, *self.stages[1:]))

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        """Map a block ``(n, n_in)`` to ``(n, n_out)`` and leave it unchanged."""
        if block.ndim != 2 or block.shape[1] != self.n_in:
            raise UsageError(f"a block of shape {block.shape} came in, expected (n, {self.n_in})")
        return self.map(block if self.columns is None else np.take(block, self.columns, axis=1))

    def map(self, block: NDArray[Any]) -> NDArray[Any]:
        """Map a block that holds just the chosen columns, of any length, a part that suits the cache at a time."""
        rows = max(MIN_ROWS, BLOCK_BYTES // (8 * block.shape[1]))
        features = np.empty((len(block), self.n_out), working_dtype(block.dtype))
        for start in range(0, len(block), rows):
            features[start : start + rows] = self.run(block[start : start + rows])
        return features

    def run(self, block: NDArray[Any], irregular: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Map a short block that holds just the chosen columns and leave it unchanged.

        Parameters
        ----------
        block
            ``(n, columns)`` of real numbers.
        irregular
            One count for each stage; what the stages find irregular is added to it. Not counted by default.

        Returns
        -------
        ndarray
            ``(n, n_out)`` in :func:`working_dtype`; the block itself where there is no stage.
        """
        given = block
        block = np.ascontiguousarray(block, working_dtype(block.dtype))
        for number, stage in enumerate(self.stages):
            # What may be part of the caller's array is not overwritten, what a stage has made is.
            out = None if np.may_share_memory(block, given) else block
            tally = None if irregular is None else irregular[number : number + 1]
            block = np.ascontiguousarray(stage.kernel(block, out, tally))
        return block


@dataclass(frozen=True, eq=False)
class Beside:
    """A stage that gives what several chains make of one block, side by side.

    Attributes
    ----------
    chains
        In the order of their columns.
    """

    chains: tuple[Chain, ...]

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Map a block to as many columns as the chains have together."""
        return np.concatenate([chain(block) for chain in self.chains], axis=1)

    def for_slide(self, slide: str) -> Beside:
        """Return the stage of one slide."""
        return Beside(tuple(chain.for_slide(slide) for chain in self.chains))


def axis_of_its_own(chain: Chain, fitted: Channels, found: Channels, *, where: str) -> Channels | None:
    """Return the axis to give to ``chain.on_axis`` for some spectra; None where they lie on that of the fit.

    Raises
    ------
    AxisMismatch
        They lie on another, and the chain cannot take them.
    UsageError
        They have another number of channels.
    """
    if not (chain.takes_any_axis and fitted.on_axis and found.on_axis) or same_axis(fitted, found):
        fitted.require(found, where=where)
        return None
    try:
        chain.on_axis(found)
    except UsageError as error:
        raise AxisMismatch(f"{where}: {error}") from error
    return found


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that kernels compute in: float32, or float64 for types that float32 does not hold exactly.

    Raises
    ------
    UsageError
        Not a real number type.
    """
    if dtype.kind not in "biuf":
        raise UsageError(f"spectra of type {dtype} came in, expected real numbers")
    return np.dtype(np.float64) if np.result_type(dtype, np.float32).itemsize > 4 else np.dtype(np.float32)


def chain_of(steps: Sequence[Step], n_in: int, *, before: Step | None = None) -> Chain:
    """Fold fitted steps into a chain, which ends with the channels that the step ``before`` which it stands looks at.

    Neighbouring affine steps become one map. A choice of channels moves in front of the steps that treat every value
    by itself; where it reaches the start, only those channels have to be read.
    """
    stages: list[Stage] = []
    for step in steps:
        for stage in (step.reads(), step.as_affine() or step):
            _fold(stages, stage)
    n_out = steps[-1].n_features_out_ if steps else n_in
    chosen = None if before is None else before.reads()
    if chosen is not None:
        _fold(stages, chosen)
        n_out = chosen.n_out
    columns = _choose_early(stages)
    return Chain(n_in, n_out, tuple(stages), columns)


def _fold(stages: list[Stage], stage: Stage | None) -> None:
    """Append a stage; an affine one becomes part of an affine one before it."""
    if isinstance(stage, Affine) and stages and isinstance(stages[-1], Affine):
        stages[-1] = stages[-1].then(stage)
    elif stage is not None:
        stages.append(stage)


def _choose_early(stages: list[Stage]) -> NDArray[np.intp] | None:
    """Move choices of columns as far to the front as they go; return and take out one that reaches the start."""
    for number in reversed(range(len(stages))):
        stage = stages[number]
        if not isinstance(stage, Affine) or stage.columns is None:
            continue
        first = number
        while first > 0 and getattr(stages[first - 1], "elementwise", False):
            first -= 1
        if first == 0:
            stages[number] = stage.without_columns()
            return stage.columns
        if first < number:
            stages[number] = stage.without_columns()
            stages.insert(first, Affine.selection(stage.columns))
    return None
