"""Masked samples and what is made of them: the network that is taught, its errors, and what needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.experiments.masking import masked_blocks, masked_spans, sample_keys
from msicube.experiments.recipe import PretrainSection
from msicube.models.encoding import encode

#: Samples kept for the figure.
N_EXAMPLES = 5
#: Of the Gaussian by which pixels around a masked block are weighted, in blocks.
SIGMA = 0.5
#: Sum of such weights below which no visible pixel is near.
_NOTHING = 1e-6


class Masked(NamedTuple):
    """Samples of which a part is masked.

    Attributes
    ----------
    samples
        ``(n, n_channels)`` spectra or ``(n, n_channels, size, size)`` patches.
    masked, visible
        ``(n, n_channels)`` or ``(n, 1, size, size)``. A pixel that was not acquired is neither.
    """

    samples: Tensor
    masked: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Masker:
    """Masks the samples of a batch.

    Attributes
    ----------
    section
        How much of them, in pieces of which size.
    seed
        Of the masks.
    slides
        Names of the slides that a batch counts.
    """

    section: PretrainSection
    seed: int
    slides: Sequence[str]

    def __call__(self, batch: Mapping[str, Tensor], *, epoch: int) -> Masked:
        """Return the samples of a batch, and which of their values are masked: none of those that only fill it up."""
        real = batch["weight"] > 0
        places = (batch[name].numpy() for name in ("slide", "y", "x"))
        keys = sample_keys(self.seed, epoch, self.slides, *places)
        section = self.section
        if "spectra" in batch:
            samples = batch["spectra"]
            spans = masked_spans(keys, samples.shape[1], share=section.share, span=section.span)
            masked = torch.from_numpy(spans) & real[:, None]
            return Masked(samples, masked, ~masked)
        samples = batch["patches"]
        blocks = masked_blocks(keys, samples.shape[-1], share=section.share, block=section.block)
        acquired = (batch["pixel_label"] >= 0) & real[:, None, None]
        masked = torch.from_numpy(blocks)
        return Masked(samples, (masked & acquired).unsqueeze(1), (~masked & acquired).unsqueeze(1))


class MaskedModel(nn.Module):
    """A network's encoder, and the decoder that is to reconstruct masked values from its features.

    Masked values are replaced by the mean of their channel, which says nothing of the sample.

    Parameters
    ----------
    network
        With ``encode``.
    decoder
        From its features to samples.
    mean, deviation
        ``(n_channels,)`` of spectra, ``(n_channels, 1, 1)`` of patches: of the training samples.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, decoder: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network, self.decoder = network, decoder
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, samples: Tensor, masked: Tensor) -> Tensor:
        """Return the reconstructed samples, standardised."""
        found: Tensor = self.decoder(encode(self.network, torch.where(masked, self.mean, samples)))
        return found

    def standardise(self, samples: Tensor) -> Tensor:
        """Return samples in standard deviations from the mean of each channel."""
        return (samples - self.mean) / self.deviation

    def taught_with(self) -> dict[str, Tensor]:
        """Return the state of all but the network."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("network.")}


def masked_error(reconstructed: Tensor, truth: Tensor, masked: Tensor) -> tuple[Tensor, int]:
    """Return the sum of squared differences where masked, and the number of values that it is of."""
    squares = (reconstructed - truth).square()
    n_values = int(masked.sum()) * (squares.numel() // masked.numel())
    return (squares * masked).sum(), n_values


@dataclass
class Moments:
    """Mean and deviation of each channel, batch by batch, in float64 (Chan, Golub and LeVeque, 1979)."""

    n: int = 0
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, samples: NDArray[np.floating[Any]]) -> None:
        """Take ``(n, n_channels)`` more."""
        if not len(samples):
            return
        mean = samples.mean(axis=0, dtype=np.float64)
        squares = np.square(samples - mean).sum(axis=0)
        if not self.n:
            self.n, self.mean, self.squares = len(samples), mean, squares
            return
        total, shift = self.n + len(samples), mean - self.mean
        self.squares += squares + shift**2 * (self.n * len(samples) / total)
        self.mean += shift * (len(samples) / total)
        self.n = total

    def tensors(self, n_axes: int) -> tuple[Tensor, Tensor]:
        """Return mean and deviation as float32, with ``n_axes`` axes after the channels; where constant, 1."""
        deviation = np.sqrt(self.squares / max(1, self.n))
        constant = deviation <= 1e-6 * np.abs(self.mean)
        shape = (-1, *[1] * n_axes)
        found = (self.mean, np.where(constant, 1.0, deviation))
        mean, spread = (torch.from_numpy(values.astype(np.float32)).reshape(shape) for values in found)
        return mean, spread


def interpolated(given: Masked, *, block: int) -> Tensor:
    """Fill in what is masked from what is around it, without a network: what learning has to beat.

    Parameters
    ----------
    given
        As :class:`Masker` gives it.
    block
        Of patches, pixels of a masked square's edge.

    Returns
    -------
    Tensor
        Spectra: a straight line from the last channel before a span to the first one behind it. Patches: the mean of
        the visible pixels, weighted by a Gaussian of their distance whose sigma is :data:`SIGMA` blocks.
    """
    samples = given.samples
    if samples.ndim == 2:
        return _across_spans(samples, given.masked)
    radius = 2 * block
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / (SIGMA * block)) ** 2)
    visible = given.visible.to(samples.dtype)
    total, weight = _smooth(samples * visible, kernel), _smooth(visible, kernel)
    count = visible.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    everywhere = (samples * visible).sum(dim=(2, 3), keepdim=True) / count
    found = torch.where(weight > _NOTHING, total / weight.clamp_min(_NOTHING), everywhere)
    return torch.where(given.masked, found, samples)


def _across_spans(samples: Tensor, masked: Tensor) -> Tensor:
    found = samples.numpy().copy()
    channels = np.arange(samples.shape[1])
    for spectrum, hidden in zip(found, masked.numpy(), strict=True):
        spectrum[hidden] = np.interp(channels[hidden], channels[~hidden], spectrum[~hidden])
    return torch.from_numpy(found)


def _smooth(images: Tensor, kernel: Tensor) -> Tensor:
    """Return images smoothed along both axes, each channel by itself."""
    n, channels, height, width = images.shape
    single = images.reshape(n * channels, 1, height, width)
    radius = len(kernel) // 2
    single = nn.functional.conv2d(single, kernel.reshape(1, 1, -1, 1), padding=(radius, 0))
    single = nn.functional.conv2d(single, kernel.reshape(1, 1, 1, -1), padding=(0, radius))
    return single.reshape(n, channels, height, width)


@dataclass(frozen=True)
class Reconstruction:
    """What one pass over samples gives.

    Attributes
    ----------
    errors
        Mean squared error of the masked values in units of their channel's variance: ``"loss"`` of the network,
        ``"mean"`` of the channel's mean, ``"interpolation"`` as by :func:`interpolated`.
    n_values
        That these are the mean of.
    examples
        Arrays of some samples: ``truth``, ``masked``, ``reconstructed``, ``interpolated``, ``slide``, ``y``, ``x``.
    """

    errors: dict[str, float]
    n_values: int
    examples: dict[str, NDArray[Any]]


def reconstruct(
    model: MaskedModel, batches: Iterable[Mapping[str, Tensor]], masker: Masker, device: torch.device
) -> Reconstruction:
    """Mask samples, always in the same way, and compare what is made of them with the truth.

    Parameters
    ----------
    model
        Is put into evaluation mode.
    batches
        Of samples.
    masker
        Masks them.
    device
        Where the model is.
    """
    model.eval()
    sums = dict.fromkeys(("loss", "mean", "interpolation"), 0.0)
    n_values = 0
    examples: dict[str, NDArray[Any]] = {}
    with torch.inference_mode():
        for batch in batches:
            given = masker(batch, epoch=0)
            around = interpolated(given, block=masker.section.block).to(device)
            samples, masked = given.samples.to(device), given.masked.to(device)
            found, truth = model(samples, masked), model.standardise(samples)
            guesses = (found, torch.zeros_like(truth), model.standardise(around))
            for name, guess in zip(sums, guesses, strict=True):
                total, n = masked_error(guess, truth, masked)
                sums[name] += float(total)
            n_values += n
            if not examples:
                values = torch.where(masked, found * model.deviation + model.mean, samples)
                examples = _examples(batch, masker.slides, samples, masked, values, around)
    return Reconstruction(
        {name: total / max(1, n_values) for name, total in sums.items()}, n_values, examples
    )


def _examples(
    batch: Mapping[str, Tensor], slides: Sequence[str], *samples: Tensor
) -> dict[str, NDArray[Any]]:
    names = ("truth", "masked", "reconstructed", "interpolated")
    real = torch.nonzero(batch["weight"] > 0)[:N_EXAMPLES, 0]
    found = {name: values.cpu()[real].numpy() for name, values in zip(names, samples, strict=True)}
    place = {name: batch[name][real].numpy() for name in ("slide", "y", "x")}
    return {**found, **place, "slide": np.array([slides[number] for number in place["slide"]])}
