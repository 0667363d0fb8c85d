"""What a recipe may hold: an experiment's sections as frozen dataclasses.

A field is an allowed key; its type, default and range are what :mod:`msicube.preprocess.sections` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from msicube.errors import RecipeError
from msicube.preprocess.recipes import PipelineSection


def _number(default: float, low: float, high: float = float("inf")) -> Any:
    """Return a field whose value must lie in ``[low, high]``."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class DataSection:
    """``[data]``: which slides, their classes, and the split.

    Attributes
    ----------
    label, patient
        Columns of the samples table. Without the patient's column, each slide counts as a patient of its own.
    positive
        The class that precision, recall, specificity and ROC are about, of two; empty: the last in sorted order.
    where
        Which pixels, as a mask or an expression of masks such as ``"tissue & ~dead"``; empty: all that are acquired.
    split
        ``"samples"``: as the column ``split`` of the samples table says (``train``, ``test``; other slides are left
        out). ``"patient"``: drawn by patient, stratified by class. ``"folds"``: cross-validation by patient, stratified
        by class. ``"patch"``: patches or pixels are drawn, whoever's they are, as in papers that split so; the same
        patients are then trained on and tested.
    test_fraction
        Of the patients, for ``split = "patient"``; of each slide, for ``split = "patch"``.
    folds, fold
        For ``split = "folds"``: how many, and which of them is held out, counted from 1; 0 is each in turn.
    """

    label: str = "label"
    patient: str = "patient"
    positive: str = ""
    where: str = ""
    split: Literal["samples", "patient", "folds", "patch"] = "samples"
    test_fraction: float = _number(0.2, 0.01, 0.99)
    folds: int = _number(4, 2)
    fold: int = _number(0, 0)


@dataclass(frozen=True)
class PatchesSection:
    """``[patches]``: the samples are patches.

    Attributes
    ----------
    size, stride
        In pixels; a stride of 0 is the size: patches do not overlap. A smaller stride makes more training patches of a
        small study.
    test_stride
        Of held-out patches.
    min_coverage
        Least share of acquired pixels in a patch.
    scale
        ``"patch"``: each patch to [0, 1] over all its channels; ``"channel"``: each channel of it; ``"none"``.
    balance
        Draw the classes equally often in training.
    limit, test_limit
        At most so many samples in an epoch of training, and scored at its end; 0 is all. The second bounds memory.
    """

    size: int = _number(32, 1)
    stride: int = _number(0, 0)
    test_stride: int = _number(0, 0)
    min_coverage: float = _number(0.5, 0, 1)
    scale: Literal["patch", "channel", "none"] = "patch"
    balance: bool = True
    limit: int = _number(0, 0)
    test_limit: int = _number(200_000, 0)


@dataclass(frozen=True)
class SpectraSection:
    """``[spectra]``: the samples are single spectra. See :class:`PatchesSection` for the keys."""

    balance: bool = True
    limit: int = _number(0, 0)
    test_limit: int = _number(200_000, 0)


@dataclass(frozen=True)
class ModelSection:
    """``[model]``: a short name or ``package.module:Class``; every other key is passed to it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSection:
    """``[train]``: how the network is trained.

    Attributes
    ----------
    epochs, batch_size, learning_rate, weight_decay
        As usual; the weight decay is Adam's L2 penalty.
    optimizer
        ``"adam"`` or ``"adamw"``.
    device
        ``"auto"`` takes a GPU where there is one.
    threads
        Of torch on the CPU while training; 0 leaves them as they are.
    memory
        Budget of the stream, such as ``"256 MiB"``.
    """

    epochs: int = _number(10, 1)
    batch_size: int = _number(32, 1)
    learning_rate: float = _number(1e-4, 0)
    weight_decay: float = _number(1e-4, 0)
    optimizer: Literal["adam", "adamw"] = "adam"
    device: str = "auto"
    threads: int = _number(0, 0)
    memory: str = "256 MiB"


@dataclass(frozen=True)
class Recipe:
    """A whole experiment; exactly one of ``patches`` and ``spectra`` is given.

    ``masks`` are those of the experiment's own, sections ``[masks.<name>]`` with ``steps`` that end in a mask and
    ``where`` to look. Each is fitted in the run, on its training slides alone, and its name then stands in
    ``data.where``, ``pipeline.where`` and the parameters of steps. One that nothing names is not made.
    """

    name: str
    pipeline: PipelineSection = field(metadata={"section": True})
    model: ModelSection = field(metadata={"section": True})
    description: str = ""
    data: DataSection = DataSection()
    patches: PatchesSection | None = None
    spectra: SpectraSection | None = None
    masks: Mapping[str, PipelineSection] = field(default_factory=dict)
    train: TrainSection = TrainSection()

    @property
    def samples(self) -> PatchesSection | SpectraSection:
        """The section that says what a sample is."""
        section = self.patches or self.spectra
        if section is None:
            raise RecipeError(f"recipe {self.name!r} has neither [patches] nor [spectra]: give one of them")
        return section

    def table(self) -> dict[str, Any]:
        """Return the nested table that TOML holds; ``parse_recipe`` takes it back."""
        table = {key: value for key, value in asdict(self).items() if value is not None}
        table["model"] = {"name": self.model.name, **self.model.options}
        table["pipeline"] = self.pipeline.table()
        table["masks"] = {name: mask_table(section) for name, section in self.masks.items()}
        if not self.masks:
            del table["masks"]
        return table


def mask_table(section: PipelineSection) -> dict[str, Any]:
    """Return a section ``[masks.<name>]`` as TOML holds it."""
    return {key: value for key, value in section.table().items() if key != "name"}
