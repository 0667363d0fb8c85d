"""The forms in torch of the steps that are not affine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import msicube.preprocess as steps
from msicube.preprocess.emsc_kernel import Scaling, Subtraction
from msicube.stream import torch_baselines  # noqa: F401  registers the baselines
from msicube.stream.torch_registry import WITHOUT, buffer, torch_form

_STORED = "a mask is made once and stored in the study; choose pixels by its name, with where="
WITHOUT.update(
    dict.fromkeys(
        (
            steps.BandMask,
            steps.DeadPixelMask,
            steps.OutlierMask,
            steps.ParaffinMask,
            steps.TICMask,
            steps.TissueMask,
        ),
        _STORED,
    )
)
WITHOUT[steps.MieEMSC] = (
    "it makes a model of its own for every spectrum and iteration, in minutes for a slide, which is worth storing"
)


class Elementwise(nn.Module):
    """A function of each value, no less than 0."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        return self.function(block.clamp(min=0))


class Normalize(nn.Module):
    """Each spectrum scaled by a number of its own, as the steps of :mod:`msicube.preprocess.normalize` do.

    Parameters
    ----------
    scale
        Returns ``(n,)`` float64 of ``(n, channels)``.
    target
        What the scale becomes; None for the number of channels.
    from_zero
        Whether to shift each spectrum so that it begins at 0.
    columns
        The channels that ``scale`` is given; all by default.
    """

    columns: Tensor | None

    def __init__(
        self,
        scale: Callable[[Tensor], Tensor],
        target: float | None,
        *,
        from_zero: bool = False,
        columns: NDArray[np.intp] | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.target, self.from_zero = scale, target, from_zero
        self.register_buffer("columns", buffer(columns))

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        target = block.shape[1] if self.target is None else self.target
        scale = self.scale(block if self.columns is None else block.index_select(1, self.columns))
        # A spectrum of zeros stays zero, any other without a scale becomes NaN. NaN differs from 0.
        without = torch.where((block != 0).any(dim=1), torch.nan, torch.inf).to(scale.dtype)
        scale = torch.where((scale > 0) & (scale < torch.inf), scale, without)
        if self.from_zero:
            block = block - block.amin(dim=1, keepdim=True)
        return block * (target / scale).to(block.dtype)[:, None]


def total(block: Tensor) -> Tensor:
    """Return the sum of each spectrum."""
    return block.sum(dim=1, dtype=torch.float64)


def mean(block: Tensor) -> Tensor:
    """Return the mean of each spectrum."""
    return block.mean(dim=1, dtype=torch.float64)


def length(block: Tensor) -> Tensor:
    """Return the Euclidean length of each spectrum."""
    return torch.linalg.vector_norm(block, dim=1, dtype=torch.float64)


def root_mean_square(block: Tensor) -> Tensor:
    """Return the root mean square of each spectrum."""
    return length(block) / block.shape[1] ** 0.5


def extent(block: Tensor) -> Tensor:
    """Return the largest less the smallest value of each spectrum."""
    return block.amax(dim=1).to(torch.float64) - block.amin(dim=1).to(torch.float64)


def median_of_positive(block: Tensor) -> Tensor:
    """Return the median of the positive values of each spectrum, 0 where it has none; NaN where one is not finite."""
    ordered = block.sort(dim=1).values
    last = block.shape[1] - 1
    positive = (ordered > 0).sum(dim=1)
    first = block.shape[1] - positive
    middle = torch.stack([first + (positive - 1) // 2, first + positive // 2], dim=1).clamp(max=last)
    halves = ordered.gather(1, middle).to(torch.float64).sum(dim=1) / 2
    finite = ordered[:, [0, last]].isfinite().all(dim=1)
    return torch.where(finite, torch.where(positive > 0, halves, 0.0), torch.nan)


class Correction(nn.Module):
    """Terms of a model fitted to each spectrum and subtracted, as :mod:`msicube.preprocess.emsc_kernel` does.

    Parameters
    ----------
    stage
        The model; a :class:`~msicube.preprocess.emsc_kernel.Scaling` also divides by the first coefficient.
    """

    inverse: Tensor
    terms: Tensor
    silent: Tensor

    def __init__(self, stage: Subtraction) -> None:
        super().__init__()
        self.precise, self.scales = stage.model.precise, isinstance(stage, Scaling)
        self.register_buffer("inverse", buffer(stage.model.inverse.T))
        self.register_buffer("terms", buffer(stage.model.terms))
        self.register_buffer("silent", buffer((stage.model.inverse == 0).all(axis=0)))

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        spectra = block.to(torch.float64) if self.precise else block
        inverse, terms = self.inverse.to(spectra.dtype), self.terms.to(spectra.dtype)
        norm = torch.linalg.vector_norm(spectra, dim=1)
        odd = ~norm.isfinite()
        # What is not finite does no harm in a channel that no coefficient depends on.
        heard = spectra.masked_fill(odd[:, None] & self.silent, 0)
        heard = heard.masked_fill(~heard.isfinite().all(dim=1, keepdim=True), torch.nan)
        coefficients = heard @ inverse
        if self.scales:
            norm = torch.where(odd, torch.linalg.vector_norm(heard, dim=1), norm)
            factor = self._factor(coefficients[:, 0], norm, inverse)
            spectra, coefficients = spectra * factor, coefficients * factor
        return (spectra - coefficients @ terms).to(block.dtype)

    def _factor(self, b: Tensor, norm: Tensor, inverse: Tensor) -> Tensor:
        """Return ``1 / b`` as a column; 0 for spectra of zeros, NaN where ``b`` is no more than rounding."""
        noise = 8 * torch.finfo(b.dtype).eps * torch.linalg.vector_norm(inverse[:, 0]) * norm
        factor = torch.where(b.abs() <= noise, torch.nan, 1 / b)
        return torch.where(norm == 0, 0.0, factor)[:, None]


class Banded(nn.Module):
    """Each feature a weighted sum of a few channels.

    Parameters
    ----------
    columns, weights
        ``(feature, neighbour)``.
    whole
        Whether a NaN or an infinity anywhere makes the whole spectrum NaN, and not only the features beside it.
    """

    columns: Tensor
    weights: Tensor

    def __init__(
        self, columns: NDArray[np.intp], weights: NDArray[np.float64], *, whole: bool = False
    ) -> None:
        super().__init__()
        self.whole = whole
        self.register_buffer("columns", buffer(columns.T))
        self.register_buffer("weights", buffer(weights.T))

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        features = block.new_zeros(len(block), self.columns.shape[1])
        for columns, weights in zip(self.columns, self.weights.to(block.dtype), strict=True):
            features = torch.addcmul(features, block.index_select(1, columns), weights)
        lost = ~block.isfinite().all(dim=1, keepdim=True) if self.whole else ~features.isfinite()
        return features.masked_fill(lost, torch.nan)


class Windows(nn.Module):
    """The sum or the largest of the values in each window.

    Parameters
    ----------
    step
        Fitted.
    """

    columns: Tensor
    window: Tensor
    weights: Tensor | None

    def __init__(self, step: steps.PeakPick) -> None:
        super().__init__()
        columns, starts = step.columns()
        lengths = np.diff(np.append(starts, len(columns)))
        self.n_windows, self.largest = len(starts), step.measure == "max"
        self.register_buffer("columns", buffer(columns))
        self.register_buffer("window", buffer(np.repeat(np.arange(len(starts)), lengths)))
        self.register_buffer(
            "weights", buffer(step.channel_widths()[columns]) if step.measure == "area" else None
        )

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        values = block.index_select(1, self.columns)
        if self.largest:
            lowest = block.new_full((len(block), self.n_windows), -torch.inf)
            return lowest.scatter_reduce(1, self.window.expand_as(values), values, "amax")
        if self.weights is not None:
            values = values * self.weights.to(block.dtype)
        return block.new_zeros(len(block), self.n_windows).index_add(1, self.window, values)


@torch_form(steps.Log1p)
def _log1p(step: steps.Log1p) -> nn.Module:
    return Elementwise(torch.log1p)


@torch_form(steps.Sqrt)
def _sqrt(step: steps.Sqrt) -> nn.Module:
    return Elementwise(torch.sqrt)


@torch_form(steps.TICNormalize)
def _tic(step: steps.TICNormalize) -> nn.Module:
    return Normalize(total, step.target)


@torch_form(steps.RMSNormalize)
def _rms(step: steps.RMSNormalize) -> nn.Module:
    return Normalize(root_mean_square, step.target)


@torch_form(steps.MedianNormalize)
def _median(step: steps.MedianNormalize) -> nn.Module:
    return Normalize(median_of_positive, step.target)


@torch_form(steps.VectorNormalize)
def _vector(step: steps.VectorNormalize) -> nn.Module:
    return Normalize(length, step.target)


@torch_form(steps.MinMaxNormalize)
def _min_max(step: steps.MinMaxNormalize) -> nn.Module:
    return Normalize(extent, step.target, from_zero=True)


@torch_form(steps.ReferenceNormalize)
def _reference(step: steps.ReferenceNormalize) -> nn.Module:
    return Normalize(mean, step.target, columns=step.indices_)


@torch_form(steps.EMSC, steps.InterferentModel, steps.WaterVapour)
def _correction(step: steps.EMSC | steps.InterferentModel | steps.WaterVapour) -> nn.Module:
    return Correction(step.correction)


@torch_form(steps.SavitzkyGolay)
def _savitzky_golay(step: steps.SavitzkyGolay) -> nn.Module:
    return Banded(step.neighbours(), step.weights_)


@torch_form(steps.Resample)
def _resample(step: steps.Resample) -> nn.Module:
    columns, weights = step.band()
    return Banded(columns, weights, whole=step.kind == "cubic")


@torch_form(steps.PeakPick)
def _peak_pick(step: steps.PeakPick) -> nn.Module:
    return Windows(step)
