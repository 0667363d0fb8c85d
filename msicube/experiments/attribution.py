"""Which channels a network looks at: Grad-CAM, integrated gradients and occlusion of single spectra, by captum."""

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


class ClassScores(nn.Module):
    """A network's logits, less their mean.

    A softmax does not change if all logits are raised, so a single logit means nothing by itself; and one of the two of
    a sigmoid is always 0. What is left after their mean is taken away is what tells a class from the others.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectra: Tensor) -> Tensor:
        """Return ``(n, n_classes)`` scores that sum to 0."""
        logits: Tensor = self.model(spectra)
        return logits - logits.mean(dim=1, keepdim=True)


def attribute(
    model: nn.Module, spectra: Tensor, target: Tensor, *, method: Method, baseline: Tensor
) -> NDArray[np.float32]:
    """Return how much each channel speaks for a class, in each spectrum.

    Parameters
    ----------
    model
        Maps ``(n, n_channels)`` to logits; is put into evaluation mode.
    spectra
        ``(n, n_channels)``, on the model's device.
    target
        ``(n,)`` class that is spoken for.
    method
        ``"gradcam"``: the last convolution's filters weighted by their mean gradient, positive parts, interpolated
        linearly to the channels. ``"integrated_gradients"``: along the way from the baseline. ``"occlusion"``: what is
        lost where a window of :data:`WINDOW` of the axis is replaced by the baseline.
    baseline
        ``(n_channels,)``: a spectrum that speaks for no class, such as the mean of all.

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
    """
    scores = ClassScores(model).eval()
    explain = {"gradcam": _gradcam, "integrated_gradients": _integrated, "occlusion": _occlusion}[method]
    parts = [
        explain(scores, some, of, baseline[None])
        for some, of in zip(spectra.split(BATCH), target.split(BATCH), strict=True)
    ]
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


def _gradcam(scores: ClassScores, spectra: Tensor, target: Tensor, _: Tensor) -> Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    found: Any = LayerGradCam(scores, cam_layer(scores.model)).attribute(
        spectra, target=target, relu_attributions=True
    )
    wide: Any = LayerAttribution.interpolate(found, (spectra.shape[1],), "linear")
    return wide[:, 0]


def _integrated(scores: ClassScores, spectra: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients

    found: Any = IntegratedGradients(scores).attribute(
        spectra, baselines=baseline, target=target, n_steps=N_STEPS, internal_batch_size=8 * BATCH
    )
    return found


def _occlusion(scores: ClassScores, spectra: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    from captum.attr import Occlusion

    width = max(1, round(WINDOW * spectra.shape[1]))
    with torch.no_grad():
        found: Any = Occlusion(scores).attribute(
            spectra,
            sliding_window_shapes=(width,),
            strides=(width,),
            baselines=baseline.expand_as(spectra),
            target=target,
        )
    return found
