"""Which channels a network looks at: Grad-CAM, integrated gradients and occlusion of spectra and patches, by captum."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError

Method = Literal["gradcam", "integrated_gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Spectra of a call, steps of the path of integrated gradients, and width of an occluded window as a share of the axis.
BATCH, N_STEPS, WINDOW = 32, 20, 0.03
#: Bytes of the samples of a call.
BATCH_BYTES = 16 * 2**20


class ClassScores(nn.Module):
    """A network's logits, less their mean.

    A softmax does not change if all logits are raised, so a single logit means nothing by itself; and one of the two of
    a sigmoid is always 0. What is left after their mean is taken away is what tells a class from the others.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor, acquired: Tensor | None = None) -> Tensor:
        """Return ``(n, n_classes)`` scores that sum to 0."""
        logits: Tensor = self.model(samples) if acquired is None else self.model(samples, acquired)
        return logits - logits.mean(dim=1, keepdim=True)


def attribute(
    model: nn.Module,
    samples: Tensor,
    target: Tensor,
    *,
    method: Method,
    baseline: Tensor,
    acquired: Tensor | None = None,
    references: Tensor | None = None,
    window: float = WINDOW,
) -> NDArray[np.float32]:
    """Return how much each channel speaks for a class, in each spectrum or patch.

    Parameters
    ----------
    model
        Maps ``(n, n_channels)`` spectra, or ``(n, n_channels, size, size)`` patches and their acquired pixels, to
        logits; is put into evaluation mode.
    samples
        Spectra or patches, on the model's device.
    target
        ``(n,)`` class that is spoken for.
    method
        ``"gradcam"``: the last convolution's filters weighted by their mean gradient, positive parts, interpolated
        linearly to the channels; of spectra. ``"integrated_gradients"``: along the way from the baseline; of a patch
        the sum over its pixels. ``"occlusion"``: what is lost where a window of the axis is replaced by the
        baseline; of a patch in all of its pixels.
    baseline
        ``(n_channels,)``: a spectrum that speaks for no class, such as the mean of all.
    acquired
        ``(n, size, size)`` pixels of patches.
    references
        ``(k, n_channels, size, size)`` patches of all classes that integrated gradients start from, in turn, and are
        averaged over. A patch of one spectrum would not do: a patch that is scaled to its own range may look the same
        to the network anywhere on the way from there, and what is attributed would add up to nothing.
    window
        Width of an occluded window, as a share of the axis; one channel at least.

    Returns
    -------
    ndarray
        ``(n, n_channels)``.

    Raises
    ------
    UsageError
        Grad-CAM of a network without a 1D convolution.

    References
    ----------
    Selvaraju et al., ICCV (2017) 618; Sundararajan, Taly and Yan, ICML (2017) 3319; Zeiler and Fergus, ECCV (2014) 818.
    Several baselines: Erion et al., Nat. Mach. Intell. 3 (2021) 620.
    """
    scores = ClassScores(model).eval()
    rows = max(1, min(BATCH, BATCH_BYTES // (4 * samples[0].numel())))
    parts = []
    for start in range(0, len(samples), rows):
        part = slice(start, start + rows)
        inside = None if acquired is None else acquired[part]
        if method == "gradcam":
            parts.append(_gradcam(scores, samples[part], target[part]))
        elif method == "occlusion":
            parts.append(_occlusion(scores, samples[part], target[part], baseline, inside, window))
        else:
            starts = baseline[None] if references is None else references
            each = [_integrated(scores, samples[part], target[part], one[None], inside) for one in starts]
            parts.append(torch.stack(each).mean(dim=0))
    return torch.cat(parts).detach().float().cpu().numpy()


def cam_layer(model: nn.Module) -> nn.Module:
    """Return the layer that Grad-CAM looks at: the network's ``cam_layer``, or its last 1D convolution.

    Raises
    ------
    UsageError
        There is none.
    """
    own = getattr(model, "cam_layer", None)
    if isinstance(own, nn.Module):
        return own
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv1d)]
    if not convolutions:
        raise UsageError(
            f"{type(model).__name__} has no 1D convolution for Grad-CAM: leave 'gradcam' out of the methods, or give "
            f"the network an attribute cam_layer"
        )
    return convolutions[-1]


def _gradcam(scores: ClassScores, spectra: Tensor, target: Tensor) -> Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    found: Any = LayerGradCam(scores, cam_layer(scores.model)).attribute(
        spectra, target=target, relu_attributions=True
    )
    wide: Any = LayerAttribution.interpolate(found, (spectra.shape[1],), "linear")
    return wide[:, 0]


def _integrated(
    scores: ClassScores, samples: Tensor, target: Tensor, start: Tensor, acquired: Tensor | None
) -> Tensor:
    from captum.attr import IntegratedGradients

    found: Any = IntegratedGradients(scores).attribute(
        samples,
        baselines=start.expand_as(samples),
        target=target,
        additional_forward_args=acquired,
        n_steps=N_STEPS,
        internal_batch_size=max(len(samples), 8 * BATCH if samples.ndim == 2 else 2 * len(samples)),
    )
    return found.flatten(2).sum(dim=2) if found.ndim > 2 else found


def _occlusion(
    scores: ClassScores,
    samples: Tensor,
    target: Tensor,
    baseline: Tensor,
    acquired: Tensor | None,
    share: float,
) -> Tensor:
    from captum.attr import Occlusion

    window = (max(1, round(share * samples.shape[1])), *samples.shape[2:])
    level = baseline.reshape(1, -1, *[1] * (samples.ndim - 2))
    with torch.no_grad():
        found: Any = Occlusion(scores).attribute(
            samples,
            sliding_window_shapes=window,
            strides=window,
            baselines=level.expand_as(samples),
            target=target,
            additional_forward_args=acquired,
        )
    # The window is one: what is lost stands in each of its pixels, and is not lost once for each.
    return found[:, :, 0, 0] if found.ndim > 2 else found
