"""Score held-out samples: predictions, loss, and the samples worth a look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError

#: Patches kept of each kind for the figure.
N_EXAMPLES = 6


@dataclass
class Examples:
    """The samples with the highest confidence among those seen, right and wrong ones apart.

    Attributes
    ----------
    kept
        ``"right"`` and ``"wrong"`` to at most :data:`N_EXAMPLES` of ``(confidence, slide, y, x, label, predicted,
        sample)``, the most confident first.
    """

    kept: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {"right": [], "wrong": []})

    def add(self, inputs: Tensor, rows: pd.DataFrame, confidence: NDArray[np.floating[Any]]) -> None:
        """Look at one batch."""
        right = (rows["label"] == rows["predicted"]).to_numpy()
        for kind, mask in (("right", right), ("wrong", ~right)):
            inside = np.flatnonzero(mask)
            best = inside[np.argsort(-confidence[inside], kind="stable")[:N_EXAMPLES]]
            found = [
                (
                    float(confidence[i]),
                    *rows.iloc[i][["slide", "y", "x", "label", "predicted"]],
                    inputs[i].numpy().copy(),
                )
                for i in best
            ]
            self.kept[kind] = sorted(self.kept[kind] + found, key=lambda e: (-e[0], *e[1:4]))[:N_EXAMPLES]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays by name, to be saved; a kind of which there is none is left out."""
        names = ("confidence", "slide", "y", "x", "label", "predicted", "sample")
        return {
            f"{kind}_{name}": np.stack([np.asarray(value) for value in column])
            for kind, entries in self.kept.items()
            for name, column in zip(names, zip(*entries, strict=True), strict=False)
        }


@dataclass(frozen=True)
class Evaluation:
    """What one pass over held-out samples gives.

    Attributes
    ----------
    predictions
        Columns ``slide``, ``patient``, ``y``, ``x``, ``label``, ``predicted`` and ``p_<class>`` of each class; sorted
        by place.
    loss
        Mean cross-entropy.
    examples
        The most confident right and the most confident wrong samples.
    """

    predictions: pd.DataFrame
    loss: float
    examples: Examples


def evaluate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    key: str,
    slides: Sequence[str],
    labels: Sequence[int],
    patients: Sequence[str],
    classes: Sequence[str],
    device: torch.device,
) -> Evaluation:
    """Predict every sample of a stream that has a weight.

    Parameters
    ----------
    model
        Is put into evaluation mode.
    batches
        With ``key``, ``slide``, ``y``, ``x`` and ``weight``.
    key
        ``"spectra"`` or ``"patches"``.
    slides, labels, patients
        Name, true class and patient of each slide, in the order that ``slide`` counts.
    classes
        Names of the classes.
    device
        Where the model is.

    Raises
    ------
    UsageError
        The stream gave no sample.
    """
    model.eval()
    truth = np.asarray(labels)
    tables, total, examples = [], 0.0, Examples()
    with torch.inference_mode():
        for batch in batches:
            real = batch["weight"] > 0
            inputs = batch[key][real]
            logits = model(inputs.to(device, non_blocking=True)).float().cpu()
            target = torch.from_numpy(truth)[batch["slide"][real]]
            total += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
            rows = _rows(batch, real, logits, slides, truth, classes)
            tables.append(rows)
            if key == "patches":
                confidence = rows[[f"p_{name}" for name in classes]].to_numpy().max(axis=1)
                examples.add(inputs, rows, confidence)
    if not tables:
        raise UsageError(
            f"the held-out slides gave no {key}: lower patches.min_coverage or patches.size, or hold out other slides"
        )
    predictions = pd.concat(tables, ignore_index=True)
    patient_of = dict(zip(slides, patients, strict=True))
    predictions.insert(1, "patient", predictions["slide"].map(patient_of))
    predictions = predictions.sort_values(["slide", "y", "x"], kind="stable", ignore_index=True)
    return Evaluation(predictions, total / len(predictions), examples)


def _rows(
    batch: Mapping[str, Tensor],
    real: Tensor,
    logits: Tensor,
    slides: Sequence[str],
    truth: NDArray[Any],
    classes: Sequence[str],
) -> pd.DataFrame:
    names = np.asarray(classes, dtype=object)
    slide = batch["slide"][real].numpy()
    probability = torch.softmax(logits, dim=1).numpy()
    return pd.DataFrame(
        {
            "slide": np.asarray(slides, dtype=object)[slide],
            "y": batch["y"][real].numpy(),
            "x": batch["x"][real].numpy(),
            "label": names[truth[slide]],
            "predicted": names[probability.argmax(axis=1)],
            **{f"p_{name}": probability[:, i] for i, name in enumerate(classes)},
        }
    )
