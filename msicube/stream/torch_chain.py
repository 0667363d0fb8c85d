"""A fitted pipeline as a ``torch.nn.Module``, for loaders that leave the arithmetic to a GPU.

The stages of the pipeline's :class:`~msicube.preprocess.chain.Chain` become modules one by one: linear steps are folded
already, the others have a form in :mod:`msicube.stream.torch_forms`, and those that work by slide a table of slides. A
step of another package brings its own form by :func:`torch_form`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import msicube.stream.torch_forms  # noqa: F401  registers the forms
from msicube.errors import UsageError
from msicube.preprocess import Step
from msicube.preprocess.affine import Affine
from msicube.preprocess.chain import Chain
from msicube.preprocess.transformer import Transformer
from msicube.stream.torch_registry import FORMS, WITHOUT, buffer, form_of, torch_form
from msicube.stream.torch_tables import SlideTable, table_of

__all__ = ["FORMS", "WITHOUT", "AffineMap", "TorchChain", "to_torch", "torch_form"]


def to_torch(fitted: Transformer, *, slides: Sequence[str] | None = None) -> TorchChain:
    """Return a fitted pipeline or step as a module.

    Parameters
    ----------
    fitted
        Fitted.
    slides
        Where a step works by slide: what the numbers in ``batch["slide"]`` stand for, which is ``stream.slides``.

    Returns
    -------
    TorchChain
        Without parameters to learn; move it with ``.to(device)``.

    Raises
    ------
    NotFittedError
        It is not.
    UsageError
        A step has no form in torch, or works by slide and has not seen one of them; the message names it.
    """
    return TorchChain(fitted.chain, slides)


class TorchChain(nn.Module):
    """The map of a fitted pipeline on tensors.

    Takes ``(n, channels)`` spectra or ``(n, channels, y, x)`` patches of float32 or float64 and returns
    ``(n, features)`` or ``(n, features, y, x)`` of the same type. The numbers agree with those of
    :meth:`~msicube.preprocess.transformer.Transformer.transform_block` to 1e-5 of the largest.

    Parameters
    ----------
    chain
        What to do.
    slides
        As for :func:`to_torch`.
    """

    columns: Tensor | None

    def __init__(self, chain: Chain, slides: Sequence[str] | None = None) -> None:
        super().__init__()
        self.n_in, self.n_out = chain.n_in, chain.n_out
        self.register_buffer("columns", buffer(chain.columns))
        self.stages = nn.ModuleList([_module(stage, slides) for stage in chain.stages])

    def forward(self, x: Tensor, slide: Tensor | None = None) -> Tensor:
        """Map spectra or patches; ``x`` is not written to.

        Parameters
        ----------
        x
            ``(n, channels)`` or ``(n, channels, y, x)``.
        slide
            ``(n,)`` int64: the slide of each, ``batch["slide"]``. Needed where a step works by slide and knows several.
        """
        if x.ndim < 2 or x.shape[1] != self.n_in or not x.is_floating_point():
            raise UsageError(
                f"a tensor of shape {tuple(x.shape)} and type {x.dtype} came in, expected (n, {self.n_in}, ...) of "
                f"float32 or float64"
            )
        spectra = x.movedim(1, -1)
        block = spectra.reshape(-1, self.n_in)
        if slide is not None:
            slide = slide.to(x.device).repeat_interleave(len(block) // max(len(x), 1))
        if self.columns is not None:
            block = block.index_select(1, self.columns)
        for stage in self.stages:
            block = stage(block, slide) if isinstance(stage, SlideTable) else stage(block)
        return block.reshape(*spectra.shape[:-1], self.n_out).movedim(-1, 1)


class AffineMap(nn.Module):
    """An affine map with the centre subtracted first, as in :class:`~msicube.preprocess.affine.Affine`.

    The numbers are kept in float64 and rounded to the type of the spectra, so that float64 spectra become what the
    pipeline makes of them.
    """

    columns: Tensor | None
    centre: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.mixes = affine.mixes
        self.register_buffer("columns", buffer(affine.columns))
        for name in ("centre", "weight", "offset"):
            self.register_buffer(name, buffer(getattr(affine, name)))

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        if self.columns is not None:
            block = block.index_select(1, self.columns)
        centre, weight, offset = (
            numbers.to(block.dtype) for numbers in (self.centre, self.weight, self.offset)
        )
        block = block - centre
        return torch.addmm(offset, block, weight) if self.mixes else torch.addcmul(offset, block, weight)


def _module(stage: Any, slides: Sequence[str] | None) -> nn.Module:
    """Return the module of one stage of a chain."""
    if isinstance(stage, Affine):
        return AffineMap(stage)
    if isinstance(stage, Step) and stage.by_slide:
        return table_of(stage, slides)
    return form_of(stage)
