"""A fitted pipeline as a ``torch.nn.Module``, for loaders that leave the arithmetic to a GPU.

The stages of the pipeline's :class:`~msicube.preprocess.chain.Chain` become modules one by one: linear steps are folded
already, the others have a form here. A step of another package brings its own by :func:`torch_form`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.preprocess import Log1p, Step, TICNormalize
from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Transformer
from msicube.preprocess.chain import Chain

AnyStep = TypeVar("AnyStep", bound=Step)

#: Class of a step to the function that makes its module.
FORMS: dict[type[Step], Callable[[Any], nn.Module]] = {}
#: Class of a step to the reason why it has no form.
WITHOUT: dict[type[Step], str] = {}


def torch_form(
    kind: type[AnyStep],
) -> Callable[[Callable[[AnyStep], nn.Module]], Callable[[AnyStep], nn.Module]]:
    """Register what makes the module of a fitted step that is not affine.

    Parameters
    ----------
    kind
        The class of the step; classes derived from it need their own.

    Returns
    -------
    callable
        A decorator for a function that takes the fitted step and returns a module. The module maps ``(n, channels)``
        float32 or float64 as the step's kernel does, and writes to nothing that it is given.
    """

    def register(make: Callable[[AnyStep], nn.Module]) -> Callable[[AnyStep], nn.Module]:
        FORMS[kind] = make
        return make

    return register


def to_torch(fitted: Transformer) -> TorchChain:
    """Return a fitted pipeline or step as a module.

    Parameters
    ----------
    fitted
        Fitted.

    Returns
    -------
    TorchChain
        Without parameters to learn; move it with ``.to(device)``.

    Raises
    ------
    NotFittedError
        It is not.
    UsageError
        A step has no form in torch; the message names it.
    """
    return TorchChain(fitted.chain)


class TorchChain(nn.Module):
    """The map of a fitted pipeline on tensors.

    Takes ``(n, channels)`` spectra or ``(n, channels, y, x)`` patches of float32 or float64 and returns
    ``(n, features)`` or ``(n, features, y, x)`` of the same type. The numbers agree with those of
    :meth:`~msicube.preprocess.base.Transformer.transform_block` to 1e-5 of the largest.

    Parameters
    ----------
    chain
        What to do.
    """

    columns: Tensor | None

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.n_in, self.n_out = chain.n_in, chain.n_out
        self.register_buffer("columns", _buffer(chain.columns))
        self.stages = nn.Sequential(*map(_module, chain.stages))

    def forward(self, x: Tensor) -> Tensor:
        """Map spectra or patches; ``x`` is not written to."""
        if x.ndim < 2 or x.shape[1] != self.n_in or not x.is_floating_point():
            raise UsageError(
                f"a tensor of shape {tuple(x.shape)} and type {x.dtype} came in, expected (n, {self.n_in}, ...) of "
                f"float32 or float64"
            )
        spectra = x.movedim(1, -1)
        block = spectra.reshape(-1, self.n_in)
        if self.columns is not None:
            block = block.index_select(1, self.columns)
        features: Tensor = self.stages(block)
        return features.reshape(*spectra.shape[:-1], self.n_out).movedim(-1, 1)


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
        self.register_buffer("columns", _buffer(affine.columns))
        for name in ("centre", "weight", "offset"):
            self.register_buffer(name, _buffer(getattr(affine, name)))

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        if self.columns is not None:
            block = block.index_select(1, self.columns)
        centre, weight, offset = (
            numbers.to(block.dtype) for numbers in (self.centre, self.weight, self.offset)
        )
        block = block - centre
        return torch.addmm(offset, block, weight) if self.mixes else torch.addcmul(offset, block, weight)


class TotalIonCurrent(nn.Module):
    """Each spectrum scaled to a sum, as :class:`~msicube.preprocess.TICNormalize` does."""

    def __init__(self, target: float | None) -> None:
        super().__init__()
        self.target = target

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        target = block.shape[1] if self.target is None else self.target
        total = block.sum(dim=1, dtype=torch.float64)
        empty = torch.where((block != 0).any(dim=1), torch.nan, 0.0)  # NaN differs from 0, and stays NaN
        factor = torch.where(total <= 0, empty.to(total.dtype), target / total)
        return block * factor.to(block.dtype)[:, None]


class LogOnePlus(nn.Module):
    """The logarithm of :class:`~msicube.preprocess.Log1p`: negative values count as 0."""

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        return torch.log1p(block.clamp(min=0))


@torch_form(TICNormalize)
def _total_ion_current(step: TICNormalize) -> nn.Module:
    return TotalIonCurrent(step.target)


@torch_form(Log1p)
def _log_one_plus(step: Log1p) -> nn.Module:
    return LogOnePlus()


def _module(stage: Any) -> nn.Module:
    """Return the module of one stage of a chain."""
    if isinstance(stage, Affine):
        return AffineMap(stage)
    make = FORMS.get(type(stage))
    if make is None:
        reason = WITHOUT.get(type(stage), "register one with msicube.stream.torch_chain.torch_form")
        raise UsageError(
            f"the step {type(stage).__name__} has no form in torch ({reason}): transform in the loader's threads with "
            f"pipeline=, or apply the pipeline to the study first"
        )
    return make(stage)


def _buffer(values: NDArray[Any] | None) -> Tensor | None:
    """Return a copy of an array as a tensor."""
    return None if values is None else torch.from_numpy(np.array(values))
