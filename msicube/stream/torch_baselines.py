"""The forms in torch of the baselines."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool1d

import msicube.preprocess as steps
from msicube.stream.torch_registry import WITHOUT, buffer, torch_form

WITHOUT[steps.ALSBaseline] = (
    "its elimination goes through the channels one after another, up to max_iter times, which no GPU does faster"
)


class Baseline(nn.Module):
    """Subtract what ``baseline`` returns; a spectrum with a NaN or an infinity becomes NaN as a whole."""

    def baseline(self, block: Tensor) -> Tensor:
        """Return the baselines of finite spectra, ``(n, channels)``."""
        raise NotImplementedError

    def forward(self, block: Tensor) -> Tensor:
        """Map ``(n, channels)``."""
        lost = ~block.isfinite().all(dim=1, keepdim=True)
        block = block.masked_fill(lost, 0)
        return (block - self.baseline(block)).to(block.dtype).masked_fill(lost, torch.nan)


class SNIP(Baseline):
    """As :class:`~msicube.preprocess.SNIPBaseline`."""

    def __init__(self, half_window: int, *, decreasing: bool, lls: bool) -> None:
        super().__init__()
        windows = range(1, half_window + 1)
        self.windows, self.lls = list(reversed(windows) if decreasing else windows), lls

    def baseline(self, block: Tensor) -> Tensor:
        """Clip."""
        if not self.lls:
            return self._clipped(block)
        small = (((block.clamp(min=0) + 1).sqrt() + 1).log() + 1).log()
        return ((self._clipped(small).exp() - 1).exp() - 1) ** 2 - 1

    def _clipped(self, flat: Tensor) -> Tensor:
        for p in self.windows:
            inner = torch.minimum(flat[:, p:-p], (flat[:, : -2 * p] + flat[:, 2 * p :]) / 2)
            flat = torch.cat([flat[:, :p], inner, flat[:, -p:]], dim=1)
        return flat


class TopHat(Baseline):
    """As :class:`~msicube.preprocess.TopHatBaseline`: an erosion and a dilation, each a pooling."""

    def __init__(self, half_window: int) -> None:
        super().__init__()
        self.half_window = half_window

    def baseline(self, block: Tensor) -> Tensor:
        """Return the opening."""
        return self._highest(-self._highest(-block))

    def _highest(self, block: Tensor) -> Tensor:
        """Return the largest value in a window about each channel; at the ends it is cut."""
        # Pooling pads with minus infinity, by half a window at most.
        size = 2 * self.half_window + 1
        return max_pool1d(block[:, None], size, stride=1, padding=self.half_window)[:, 0]


class Polynomial(Baseline):
    """As :class:`~msicube.preprocess.PolynomialBaseline`; all spectra go on until the last has settled."""

    basis: Tensor

    def __init__(self, basis: NDArray[np.float64], *, max_iter: int, tol: float) -> None:
        super().__init__()
        self.max_iter, self.tol = max_iter, tol
        self.register_buffer("basis", buffer(basis))

    def baseline(self, block: Tensor) -> Tensor:
        """Fit and cut; a spectrum whose fit stays as it is keeps it."""
        y = block.to(torch.float64)
        fitted = self._fitted(y)
        moving = torch.ones(len(y), 1, dtype=torch.bool, device=y.device)
        for _ in range(self.max_iter):
            y = torch.minimum(y, fitted)
            again = torch.where(moving, self._fitted(y), fitted)
            change, size = (
                torch.linalg.vector_norm(one, dim=1, keepdim=True) for one in (again - fitted, fitted)
            )
            fitted = again
            moving = moving & (change >= self.tol * size) & (change > 0)
            if not moving.any():
                break
        return fitted

    def _fitted(self, y: Tensor) -> Tensor:
        return (y @ self.basis) @ self.basis.T


@torch_form(steps.SNIPBaseline)
def _snip(step: steps.SNIPBaseline) -> nn.Module:
    return SNIP(step.half_window, decreasing=step.decreasing, lls=step.lls)


@torch_form(steps.TopHatBaseline)
def _top_hat(step: steps.TopHatBaseline) -> nn.Module:
    return TopHat(step.half_window)


@torch_form(steps.PolynomialBaseline)
def _polynomial(step: steps.PolynomialBaseline) -> nn.Module:
    return Polynomial(step.basis_, max_iter=step.max_iter, tol=step.tol)
