"""The figures of a run: each one function from data to a :class:`matplotlib.figure.Figure`.

No pyplot and no global state: figures are made by the object-oriented API and saved as PNG and SVG.
"""

from __future__ import annotations

from msicube.experiments.figures.attributions import attribution_figure, strongest_figure
from msicube.experiments.figures.curves import (
    confusion_figure,
    reliability_figure,
    roc_figure,
    training_figure,
)
from msicube.experiments.figures.embedding import embedding_figure
from msicube.experiments.figures.images import (
    Picture,
    colour_figure,
    ion_image_figure,
    probability_figure,
)
from msicube.experiments.figures.patches import PatchRow, patch_channel_figure, patch_figure
from msicube.experiments.figures.reconstruction import masked_loss_figure, masked_spectra_figure
from msicube.experiments.figures.slides import SlideRow, slide_figure
from msicube.experiments.figures.spectra import SpectrumPanel, spectrum_figure
from msicube.experiments.figures.style import save_figure

__all__ = [
    "PatchRow",
    "Picture",
    "SlideRow",
    "SpectrumPanel",
    "attribution_figure",
    "colour_figure",
    "confusion_figure",
    "embedding_figure",
    "ion_image_figure",
    "masked_loss_figure",
    "masked_spectra_figure",
    "patch_channel_figure",
    "patch_figure",
    "probability_figure",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "slide_figure",
    "spectrum_figure",
    "strongest_figure",
    "training_figure",
]
