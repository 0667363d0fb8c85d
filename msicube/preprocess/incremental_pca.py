"""Principal components one batch after another, as scikit-learn's ``IncrementalPCA`` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray
from sklearn.decomposition import IncrementalPCA as SklearnIncrementalPCA

from msicube.errors import UsageError
from msicube.preprocess._blas import one_blas_thread
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.datasets import Where, as_spectra, require_columns
from msicube.preprocess.engine import Progress
from msicube.preprocess.inputs import source_of
from msicube.preprocess.moments import FloatArray, finite_spectra
from msicube.preprocess.sources import ArrayCube, Piece, SlidePieces, Source, spectra
from msicube.scheduling import SchedulerLike
from msicube.tiling import Window


class IncrementalPCA(Step):
    """Principal components from one batch after another: scikit-learn's ``IncrementalPCA`` over studies.

    For those who need its semantics: ``partial_fit``, or the very numbers of scikit-learn on the same batches.
    Otherwise :class:`PCA` is the better choice: it is exact, its passes run in parallel, and it is many times as fast.
    What this one learns is an approximation that depends on the order and the size of the batches, so it takes no part
    in the fit of a :class:`Pipeline`, and its fit runs in one thread.

    Parameters
    ----------
    n_components
        How many; at most the number of channels, and of spectra in each batch.
    whiten
        Whether to scale each component to unit variance.
    batch_size
        Spectra in a batch of ``fit``; five times the number of channels by default.

    Attributes
    ----------
    components_, mean_, var_, singular_values_, explained_variance_, explained_variance_ratio_
        As in scikit-learn.
    noise_variance_ : float
    n_samples_seen_ : int
        Spectra that were fitted on.
    n_nonfinite_ : int
        Spectra that were left out because of a NaN or an infinity; ``transform`` gives them NaN.
    batch_size_ : int

    References
    ----------
    D. A. Ross et al., "Incremental learning for robust visual tracking", International Journal of Computer Vision 77
    (2008) 125.
    """

    linear = True
    alone = (
        "IncrementalPCA learns from batches in their order and takes no part in the fit of a Pipeline: use PCA, or fit "
        "the steps before it and give it what comes out of them"
    )
    learned_arrays: ClassVar = {
        "components_": ("component", "channel"),
        "mean_": ("channel",),
        "var_": ("channel",),
        "singular_values_": ("component",),
        "explained_variance_": ("component",),
        "explained_variance_ratio_": ("component",),
    }
    learned_values = ("noise_variance_", "n_samples_seen_", "n_nonfinite_", "batch_size_", "n_irregular_")

    components_: FloatArray
    mean_: FloatArray
    explained_variance_: FloatArray
    noise_variance_: float
    n_samples_seen_: int
    n_nonfinite_: int
    batch_size_: int

    def __init__(self, n_components: int, *, whiten: bool = False, batch_size: int | None = None) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size

    def plan(self, n_channels: int) -> int:
        """Return the number of components, and check it and the size of the batches."""
        if not 1 <= self.n_components <= n_channels:
            raise UsageError(
                f"IncrementalPCA(n_components={self.n_components}): choose between 1 and the {n_channels} channels "
                f"that come in"
            )
        if self.batch_size is not None and self.batch_size < self.n_components:
            raise UsageError(
                f"IncrementalPCA(batch_size={self.batch_size}): a batch holds at least n_components="
                f"{self.n_components} spectra"
            )
        return int(self.n_components)

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        slides: Iterable[str] | None = None,
        where: Where = None,
        allow_test: bool = False,
        cache: bool | None = None,
        scheduler: SchedulerLike = "synchronous",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from spectra in batches, in the order of slides, tiles and pixels; see :meth:`PCA.fit`.

        ``y``, ``cache``, ``scheduler`` and ``workers`` change nothing: the batches follow one another in this process.
        """
        source = source_of(X, slides=slides, where=where, allow_test=allow_test)
        for name in ("_model", "_chain", *self.learned_arrays):
            self.__dict__.pop(name, None)
        self.batch_size_ = self.batch_size or 5 * source.channels.n
        self.n_nonfinite_ = 0
        self.prepare(source.channels)
        blocks = self._finite(_blocks(source, progress))
        for batch in batches(blocks, self.batch_size_, self.n_components):
            self._update(batch)
        if not hasattr(self, "_model"):
            raise UsageError("no spectrum is acquired and finite, there is nothing to fit on")
        self.seal()
        return self

    def partial_fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """Learn from one batch more.

        Parameters
        ----------
        X
            ``(n, channels)`` spectra, at least ``n_components`` of them in the first batch.
        y
            Not looked at.
        **options
            None: those of ``fit`` are about studies, and a batch is an array.
        """
        if options:
            raise UsageError(f"IncrementalPCA.partial_fit takes a batch and no {', '.join(options)}: see fit")
        values = as_spectra(X)
        if not hasattr(self, "_channels"):
            self.n_nonfinite_, self.batch_size_ = 0, len(values)
            self.prepare(Channels.numbered("x", values.shape[1]))
        else:
            require_columns(values, self._channels.n, type(self).__name__)
        for batch in self._finite(iter([values])):
            self._update(batch)
        if hasattr(self, "components_"):
            self.seal()
        return self

    def as_affine(self) -> Affine:
        """Return ``(x - mean) @ components.T``, whitened where asked."""
        weight = self.components_.T / self._scale()
        return Affine(self.mean_, weight, np.zeros(weight.shape[1]))

    def inverse_stage(self) -> Affine:
        """Return ``scores @ components + mean``, the whitening undone."""
        return Affine(np.zeros(len(self.components_)), self.components_ * self._scale()[:, None], self.mean_)

    def channels_out(self) -> Channels:
        """Return the components, numbered from 1."""
        return Channels.numbered("PC", len(self.components_), start=1)

    def _update(self, batch: NDArray[Any]) -> None:
        least = max(2, self.n_components)
        if not hasattr(self, "components_") and len(batch) < least:
            raise UsageError(
                f"IncrementalPCA(n_components={self.n_components}): the first batch has {len(batch)} finite spectra, "
                f"at least {least} are needed"
            )
        if not hasattr(self, "_model"):
            self._model = self._new_model()
        # A copy, because scikit-learn centres it in place.
        batch = np.array(batch, np.float32 if batch.dtype == np.float32 else np.float64)
        with one_blas_thread(), np.errstate(invalid="ignore"):  # 0 / 0 where nothing varies
            self._model.partial_fit(batch, check_input=False)
        if not self._model.var_.any():
            self._model.explained_variance_ratio_ = np.zeros(self.n_components)
        for name in (*self.learned_arrays, "noise_variance_", "n_samples_seen_"):
            value = getattr(self._model, name)
            setattr(self, name, np.asarray(value, np.float64) if name in self.learned_arrays else value)
        self.noise_variance_, self.n_samples_seen_ = float(self.noise_variance_), int(self.n_samples_seen_)

    def _new_model(self) -> SklearnIncrementalPCA:
        """Return scikit-learn's estimator, with what was learned before this object was saved and loaded."""
        model = SklearnIncrementalPCA(self.n_components, whiten=self.whiten)
        if hasattr(self, "components_"):
            for name in self.learned_arrays:
                setattr(model, name, getattr(self, name).copy())
            model.n_samples_seen_, model.n_components_ = np.int64(self.n_samples_seen_), self.n_components
            model.n_features_in_ = self._channels.n
        return model

    def _finite(self, blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the finite spectra of blocks and count the others."""
        for block in blocks:
            finite, n_nonfinite = finite_spectra(block)
            self.n_nonfinite_ += n_nonfinite
            if len(finite):
                yield finite

    def _scale(self) -> FloatArray:
        """Return what each score is divided by."""
        if not self.whiten:
            return np.ones(len(self.components_))
        return np.maximum(np.sqrt(self.explained_variance_), np.finfo(np.float64).eps)


def batches(blocks: Iterator[NDArray[Any]], size: int, at_least: int) -> Iterator[NDArray[Any]]:
    """Cut blocks of any length into batches as scikit-learn's ``gen_batches`` does, none of them too short.

    Parameters
    ----------
    blocks
        ``(n, channels)`` each.
    size
        Spectra in a batch.
    at_least
        Spectra in the last batch; where fewer are left, they join the batch before.
    """
    held: list[NDArray[Any]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held < size + at_least:
            continue
        rows = np.concatenate(held)
        start = 0
        while start + size + at_least <= n_held:
            yield rows[start : start + size]
            start += size
        held, n_held = [rows[start:].copy()], n_held - start
    if n_held:
        yield np.concatenate(held)


def _blocks(source: Source, progress: Progress | None) -> Iterator[NDArray[Any]]:
    """Yield the acquired spectra of a source in order, a strip at a time."""
    for slide in source.pieces(None):
        mask = None if slide.read_mask is None else slide.read_mask()
        for number, piece in enumerate(slide.pieces):
            for block, _ in spectra(_whole(piece, slide, number, mask)):
                yield block
            if progress is not None:
                progress(f"batches {slide.name}".rstrip(), number + 1, len(slide.pieces))


def _whole(piece: Piece, slide: SlidePieces, number: int, mask: NDArray[np.bool_] | None) -> Piece:
    """Return a piece with what a task would be given beside it: its Dask chunk, or its part of the slide's mask."""
    if slide.chunks is not None:
        chunk = np.asarray(
            Delayed(slide.chunks[number], dict(slide.graph or {})).compute(scheduler="synchronous")
        )
        return replace(piece, cube=ArrayCube(chunk), window=Window(0, chunk.shape[0], 0, chunk.shape[1]))
    return piece if mask is None else replace(piece, mask=mask[piece.window.slices])
