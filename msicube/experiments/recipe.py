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
        ``"auto"``: ``"samples"`` where the samples table has a column ``split``, else ``"patient"``. ``"samples"``: as
        that column says (``train``, ``test``; other slides are left out), which is checked by patient. ``"patient"``:
        drawn by patient, stratified by class. ``"folds"``: cross-validation by patient, stratified
        by class. ``"patch"``: patches or pixels are drawn, whoever's they are, as in papers that split so; the same
        patients are then trained on and tested.
    test_fraction
        Of the patients, where the split is drawn by patient; of each slide, for ``split = "patch"``.
    validation_fraction
        Of the training patients of each class, rounded to whole patients: they are not trained on, and the epoch whose
        network does best on them gives the weights. 0: there are none, and the last epoch gives the weights.
    folds, fold
        For ``split = "folds"``: how many, and which of them is held out, counted from 1; 0 is each in turn.
    """

    label: str = "label"
    patient: str = "patient"
    positive: str = ""
    where: str = ""
    split: Literal["auto", "samples", "patient", "folds", "patch"] = "auto"
    test_fraction: float = _number(0.2, 0.01, 0.99)
    validation_fraction: float = _number(0.0, 0, 0.99)
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
    """``[model]``: a short name or ``package.module:Class``; every key but those below is passed to it.

    Attributes
    ----------
    pretrained
        The folder of a pretraining, whose pipeline is used and whose encoder's weights are those to start from;
        ``{fold}`` in it stands for the number of the fold.
    finetune
        What is then trained: ``"all"``, or the ``"head"`` alone.
    """

    name: str
    pretrained: str = ""
    finetune: Literal["all", "head"] = "all"
    options: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return the section as TOML holds it."""
        start = {"pretrained": self.pretrained, "finetune": self.finetune} if self.pretrained else {}
        return {"name": self.name, **start, **self.options}


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
    precision
        ``"float32"``, or mixed with ``"bfloat16"`` or ``"float16"``: the weights stay float32, and so do the evaluation
        and whatever else uses the run. ``"auto"`` is float32 on the CPU, bfloat16 on a GPU that has it, else float16.
    compile
        Whether torch compiles the network for training, which takes a C++ compiler and a minute.
    tensorboard
        Whether to write the course of the training for TensorBoard as well, in ``tensorboard`` in the run's folder.
    monitor
        What the best epoch is best in, on the samples of the validation patients: ``"loss"``, or one of the metrics.
    patience
        Training ends when so many epochs in a row were no better than the best one; 0 trains all epochs.
    checkpoint_seconds
        Between one checkpoint and the next within an epoch; 0 writes one after every step, ``inf`` none. There is one
        at the end of each epoch, and when a run is interrupted, in any case.
    renew_statistics
        Whether the statistics of batch normalisation are taken anew before an epoch is evaluated, over up to 32 batches
        of training samples; see :func:`msicube.experiments.normalisation.renew_statistics`. Not on several GPUs, whose
        statistics are of the whole batch.
    """

    epochs: int = _number(10, 1)
    batch_size: int = _number(32, 1)
    learning_rate: float = _number(1e-4, 0)
    weight_decay: float = _number(1e-4, 0)
    optimizer: Literal["adam", "adamw"] = "adam"
    device: str = "auto"
    threads: int = _number(0, 0)
    memory: str = "256 MiB"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    tensorboard: bool = False
    monitor: Literal["loss", "accuracy", "precision", "recall", "specificity", "f1", "roc_auc"] = "loss"
    patience: int = _number(0, 0)
    checkpoint_seconds: float = _number(60.0, 0)
    renew_statistics: bool = False


@dataclass(frozen=True)
class PretrainSection:
    """``[pretrain]``: how the encoder is pretrained; device, threads, memory, batches and optimizer are ``[train]``'s.

    Attributes
    ----------
    share
        Of a spectrum's channels, or of a patch's pixels, that are masked.
    span
        Neighbouring channels of a spectrum that are masked together; wider than a peak, or its flanks tell its height.
    block
        Pixels of the edge of the squares of a patch that are masked.
    validation
        Share of the patients whose slides are not trained on, but reconstructed after every epoch: at least one
        patient, if there are two; 0 is none.
    epochs, learning_rate, weight_decay
        As in :class:`TrainSection`, but that the learning rate falls to 0 along half a cosine (Loshchilov and Hutter,
        ICLR 2017): what is reconstructed is noisy, and a constant one follows the noise.
    limit, test_limit
        At most so many samples in an epoch, and reconstructed at its end; 0 is all.
    """

    share: float = _number(0.5, 0.01, 0.99)
    span: int = _number(8, 1)
    block: int = _number(4, 1)
    validation: float = _number(0.2, 0, 0.9)
    epochs: int = _number(10, 1)
    learning_rate: float = _number(1e-3, 0)
    weight_decay: float = _number(0.0, 0)
    limit: int = _number(0, 0)
    test_limit: int = _number(20_000, 0)


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
    pretrain: PretrainSection | None = None

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
        table["model"] = self.model.table()
        table["pipeline"] = self.pipeline.table()
        table["masks"] = {name: mask_table(section) for name, section in self.masks.items()}
        if not self.masks:
            del table["masks"]
        return table


def mask_table(section: PipelineSection) -> dict[str, Any]:
    """Return a section ``[masks.<name>]`` as TOML holds it."""
    return {key: value for key, value in section.table().items() if key != "name"}
