"""The figures that a run can have: what each is called, what it shows, and how a page treats it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a run.

    Attributes
    ----------
    name
        Of its files.
    title
        As a heading.
    caption
        In which ``{samples}`` and ``{n_embedded}`` stand for what the run has.
    vector
        Whether a page takes the SVG.
    wide
        Whether it fills the width of a page; on a narrow screen it can then be moved sideways.
    """

    name: str
    title: str
    caption: str
    vector: bool = False
    wide: bool = True


FIGURES_OF_A_RUN = (
    FigureSpec(
        "training",
        "Training",
        "Loss (a), accuracy (b) and ROC AUC (c) after each epoch. Training values are running means over the epoch, "
        "with dropout; held-out values are those of all scored {samples} of held-out patients.",
        vector=True,
    ),
    FigureSpec(
        "confusion",
        "Confusion matrix",
        "Held-out {samples} and slides by true and predicted class: share of the true class, and number.",
        vector=True,
    ),
    FigureSpec(
        "roc",
        "Receiver operating characteristic",
        "By {samples}, and by slide with the mean probability of its {samples}.",
        vector=True,
        wide=False,
    ),
    FigureSpec(
        "calibration",
        "Calibration",
        "Held-out {samples} by their predicted probability, in ten bins: how often it was so, and how many there are.",
        vector=True,
        wide=False,
    ),
    FigureSpec(
        "probability",
        "Predictions on the tissue",
        "Predicted probability on held-out slides, {samples} at their place, the mean where several cover a pixel. "
        "Above each slide its true class, and the mean over its {samples}, by which the slide is told.",
    ),
    FigureSpec(
        "slides",
        "From {samples} to slides",
        "Held-out slides: the mean probability of their {samples} (dot), the middle half of them (thick line) and nine "
        "tenths (thin line).",
        vector=True,
    ),
    FigureSpec(
        "embedding",
        "What the network makes of the {samples}",
        "t-SNE of the penultimate layer's values of {n_embedded} held-out {samples}, drawn equally from the classes "
        "and, within a class, from its patients: by true class on the left, those that are told wrong as crosses, and "
        "by patient on the right. Each network has a layout of its own. Distances between groups and their sizes mean "
        "nothing; neighbourhoods do.",
    ),
    FigureSpec(
        "explanation",
        "What the network looks at",
        "By class, held-out {samples} that were told right. Above: their mean in the channels before any of them are "
        "mixed (black), and that less the mean of the other classes (orange). Below: the mean attribution to each "
        "channel; where it is negative, a channel speaks against the class.",
        vector=True,
    ),
    FigureSpec(
        "strongest",
        "The channels that count most",
        "By class, the channels of the largest mean attribution, each method scaled to its largest. Right of 0 a "
        "channel speaks for the class, left of it against.",
        vector=True,
    ),
    FigureSpec(
        "patches",
        "Example patches",
        "Held-out patches as the network sees them: of each class the most confident right and wrong ones, and "
        "the least confident. Above each its slide with row and column of its first pixel, its true class, and the "
        "predicted class with its probability. Black was not measured.",
    ),
    FigureSpec(
        "patch_channels",
        "Example patches, feature by feature",
        "Some of these patches, as colours and each feature by itself.",
    ),
    FigureSpec(
        "spectra",
        "Example spectra",
        "Held-out spectra as the network sees them: of each class the most confident right (a) and wrong ones (b), and "
        "the least confident of all (c). Above each its slide with row and column, its true class, and the predicted "
        "class with its probability. All have one scale; the line is 0.",
        vector=True,
    ),
    FigureSpec(
        "ion_images",
        "Ion images",
        "Intensity as measured, of the channels that tell the classes of the training slides best apart. The scale of "
        "each channel ends at its 99th percentile. Slides are drawn at one scale; grey was not measured.",
    ),
    FigureSpec(
        "pca",
        "Principal components as colour",
        "The first three features of the pipeline as red, green and blue, each stretched alike in all slides. Grey was "
        "not measured.",
    ),
)
