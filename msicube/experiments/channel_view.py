"""A run's network as a function of the channels that its pipeline chose, before any step mixed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.experiments.features import Features
from msicube.experiments.heldout import HeldOut
from msicube.experiments.split import TEST
from msicube.preprocess import Pipeline, Step
from msicube.preprocess.chain import chain_of
from msicube.preprocess.channels import Channels
from msicube.stream.torch_chain import TorchChain


@dataclass(frozen=True)
class ChannelView:
    """What lies before the channels of a run's network, and what behind them.

    Attributes
    ----------
    features
        Streams samples in these channels; patches come unscaled.
    channels
        Their positions on the spectral axis.
    network
        From these samples to logits: ``(n, channels)`` spectra, or ``(n, channels, size, size)`` patches with their
        ``(n, size, size)`` acquired pixels.
    direct
        Whether the network itself takes the channels, and nothing that mixes them lies between.
    """

    features: Features
    channels: Channels
    network: nn.Module
    direct: bool


class Behind(nn.Module):
    """The steps that mix channels, the scaling of patches, and the network, all of which gradients go through."""

    def __init__(self, chain: nn.Module | None, scale: str, model: nn.Module) -> None:
        super().__init__()
        self.chain, self.scale, self.model = chain, scale, model

    def forward(self, samples: Tensor, acquired: Tensor | None = None) -> Tensor:
        """Return logits."""
        inputs = samples if self.chain is None else self.chain(samples)
        if acquired is not None:
            inputs = scale_patches(inputs, acquired, self.scale)
        logits: Tensor = self.model(inputs)
        return logits


def channel_view(held_out: HeldOut) -> ChannelView:
    """Divide a run's pipeline where its channels end.

    Parameters
    ----------
    held_out
        The run.

    Raises
    ------
    UsageError
        A step behind the channels has no form in torch, or works by slide.
    """
    features = held_out.features
    pipeline, recipe = features.pipeline, features.recipe
    before, behind = _divide(pipeline)
    if wrong := [step for step in behind if step.by_slide]:
        raise UsageError(
            f"{type(wrong[0]).__name__} of {held_out.run.path} works by slide on what is no channel any more, and "
            f"cannot be looked through: put it before the step that mixes channels"
        )
    channels = before[-1].channels_out() if before else pipeline.channels_in
    chain = TorchChain(chain_of(behind, channels.n)) if behind else None
    if recipe.patches:
        recipe = replace(recipe, patches=replace(recipe.patches, scale="none"))
    if not before:  # intensities as they are
        features = replace(features, recipe=recipe, variable="intensity")
    elif behind:
        features = replace(features, recipe=recipe, pipeline=_first_steps(pipeline, before))
    else:
        features = replace(features, recipe=recipe)
    scale = held_out.run.recipe.patches.scale if held_out.run.recipe.patches else "none"
    network: nn.Module = held_out.model
    if chain is not None or recipe.patches:
        network = Behind(chain, scale, held_out.model).to(held_out.device).eval()
    return ChannelView(features, channels, network, network is held_out.model)


def scale_patches(patches: Tensor, acquired: Tensor, scale: str) -> Tensor:
    """Scale patches to [0, 1] as a stream does (:func:`msicube.stream.scaling.scale_patches`), so that gradients pass.

    Parameters
    ----------
    patches
        ``(n, channels, size, size)``.
    acquired
        ``(n, size, size)`` bool; the other pixels become 0.
    scale
        ``"patch"``, ``"channel"`` or ``"none"``.
    """
    outside = ~acquired[:, None]
    if scale != "none":
        over = (1, 2, 3) if scale == "patch" else (2, 3)
        low = patches.masked_fill(outside, torch.inf).amin(dim=over, keepdim=True)
        high = patches.masked_fill(outside, -torch.inf).amax(dim=over, keepdim=True)
        constant = high <= low
        patches = ((patches - low) / torch.where(constant, 1, high - low)).masked_fill(constant, 0)
    return patches.masked_fill(outside, 0)


def acquired_of(
    held_out: HeldOut, slides: Sequence[str], batch: dict[str, Tensor], size: int
) -> NDArray[np.bool_]:
    """Return the ``(n, size, size)`` pixels of a batch of patches that were acquired and are looked at."""
    study = held_out.features.study.part(TEST)

    def windows() -> Iterator[NDArray[np.bool_]]:
        known: dict[int, NDArray[np.bool_]] = {}
        for slide, y, x in zip(*(batch[name].tolist() for name in ("slide", "y", "x")), strict=True):
            if slide not in known:
                known = {slide: study.acquired(slides[slide])}  # patches come slide by slide
            yield known[slide][y : y + size, x : x + size]

    return np.stack(list(windows()))


def _divide(pipeline: Pipeline) -> tuple[list[Step], list[Step]]:
    """Return the steps up to the last whose features all are channels, and those behind them."""
    steps = list(pipeline.steps_)
    n = next((i for i, step in enumerate(steps) if not step.channels_out().on_axis), len(steps))
    return steps[:n], steps[n:]


def _first_steps(pipeline: Pipeline, steps: list[Step]) -> Pipeline:
    """Return a fitted pipeline of the first steps of one."""
    names = ("passes_", "slides_", "slide_digests_", "where_", "labels_")
    record = {name: getattr(pipeline, name) for name in names}
    return Pipeline(steps).restore(steps, pipeline.channels_in, record)
