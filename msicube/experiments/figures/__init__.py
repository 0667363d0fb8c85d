"""The figures of a run: each one function from data to a :class:`matplotlib.figure.Figure`.

No pyplot and no global state: figures are made by the object-oriented API and saved as PNG and SVG.
"""

from __future__ import annotations

from msicube.experiments.figures.attributions import attribution_figure
from msicube.experiments.figures.curves import (
    confusion_figure,
    reliability_figure,
    roc_figure,
    training_figure,
)
from msicube.experiments.figures.images import (
    ImageRow,
    Picture,
    colour_figure,
    ion_image_figure,
    patch_figure,
    probability_figure,
)
from msicube.experiments.figures.reconstruction import masked_loss_figure, masked_spectra_figure
from msicube.experiments.figures.style import save_figure

__all__ = [
    "ImageRow",
    "Picture",
    "attribution_figure",
    "colour_figure",
    "confusion_figure",
    "ion_image_figure",
    "masked_loss_figure",
    "masked_spectra_figure",
    "patch_figure",
    "probability_figure",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "training_figure",
]
