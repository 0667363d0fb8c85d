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
from msicube.experiments.examples import COLUMNS, N_EXAMPLES, NAMES

#: The most channels that are kept of a patch.
N_CHANNELS = 8


@dataclass
class Examples:
    """Samples worth a look: of each class the most confident right and wrong ones, and the least confident of all.

    Confidence is the log odds of the predicted class, which goes on where a probability is rounded to 1.

    Parameters
    ----------
    classes
        They share :data:`N_EXAMPLES` right ones, and as many wrong ones; each has one at least.

    Attributes
    ----------
    kept
        Kind and true class (empty for ``"unsure"``) to ``(rank, probability, slide, y, x, label, predicted, sample)``,
        the best example first.
    """

    classes: Sequence[str]
    kept: dict[tuple[str, str], list[tuple[Any, ...]]] = field(default_factory=dict)

    def add(self, inputs: Tensor, rows: pd.DataFrame, logits: Tensor) -> None:
        """Look at one batch."""
        odds, probability = _log_odds(logits), torch.softmax(logits, dim=1).amax(dim=1).numpy()
        label = rows["label"].to_numpy()
        right = label == rows["predicted"].to_numpy()
        each = max(1, N_EXAMPLES // len(self.classes))

        def keep(kind: str, name: str, rank: NDArray[np.float64], inside: NDArray[np.bool_], n: int) -> None:
            kept = self.kept.setdefault((kind, name), [])
            worst = kept[-1][0] if len(kept) == n else np.inf
            places = np.flatnonzero(inside & (rank <= worst))
            best = places[np.argsort(rank[places], kind="stable")[:n]]
            found = [
                (
                    float(rank[i]),
                    float(probability[i]),
                    *rows.iloc[i][["slide", "y", "x", "label", "predicted"]],
                    (inputs[i, :N_CHANNELS] if inputs.ndim == 4 else inputs[i]).numpy().copy(),
                )
                for i in best
            ]
            kept[:] = sorted([*kept, *found], key=lambda e: (e[0], *e[2:5]))[:n]

        for name in self.classes:
            keep("right", name, -odds, right & (label == name), each)
            keep("wrong", name, -odds, ~right & (label == name), each)
        keep("unsure", "", odds, np.ones(len(rows), bool), N_EXAMPLES)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays by name, to be saved; a kind of which there is none is left out."""
        found = {
            kind: [one for (of, _), kept in self.kept.items() if of == kind for one in kept] for kind in NAMES
        }
        return {
            f"{kind}_{name}": np.stack([np.asarray(value) for value in column])
            for kind, entries in found.items()
            for name, column in zip(COLUMNS, zip(*entries, strict=True), strict=False)
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
        Samples worth a look.
    """

    predictions: pd.DataFrame
    loss: float
    examples: Examples


def score_samples(
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
    tables, total, examples = [], 0.0, Examples(classes)
    with torch.inference_mode():
        for batch in batches:
            real = batch["weight"] > 0
            inputs = batch[key][real]
            logits = model(inputs.to(device, non_blocking=True)).float().cpu()
            check_finite(logits, inputs, batch["slide"][real], slides, what="held-out")
            target = torch.from_numpy(truth)[batch["slide"][real]]
            total += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
            rows = _rows(batch, real, logits, slides, truth, classes)
            tables.append(rows)
            examples.add(inputs, rows, logits)
    if not tables:
        raise UsageError(
            f"the held-out slides gave no {key}: lower patches.min_coverage or patches.size, or hold out other slides"
        )
    predictions = pd.concat(tables, ignore_index=True)
    patient_of = dict(zip(slides, patients, strict=True))
    predictions.insert(1, "patient", predictions["slide"].map(patient_of))
    predictions = predictions.sort_values(["slide", "y", "x"], kind="stable", ignore_index=True)
    return Evaluation(predictions, total / len(predictions), examples)


def check_finite(logits: Tensor, inputs: Tensor, slide: Tensor, slides: Sequence[str], *, what: str) -> None:
    """Check that a network made numbers of a batch.

    Parameters
    ----------
    logits, inputs
        ``(n, n_classes)`` and ``(n, ...)``.
    slide, slides
        ``(n,)`` index of each sample's slide, and their names.
    what
        Of the samples, for the error.

    Raises
    ------
    UsageError
        It did not: samples hold a NaN or an infinity, as spectra of dead pixels do after a normalisation; or the
        training went wrong.
    """
    if bool(torch.isfinite(logits).all()):
        return
    odd = ~torch.isfinite(inputs.reshape(len(inputs), -1)).all(dim=1).cpu()
    if bool(odd.any()):
        name = slides[int(slide[odd.to(slide.device)][0])]
        raise UsageError(
            f"{int(odd.sum())} of {len(inputs)} {what} samples of a batch hold a NaN or an infinity, one of them in "
            f"slide {name}: leave such pixels out, for example with `msicube mask STUDY dead --method dead` and "
            f'--where "~dead"; where it is the pipeline that makes nothing of them, a mask of the recipe finds them '
            f"whose steps are those of the pipeline and then DeadPixelMask"
        )
    raise UsageError(
        f"the network makes NaN or infinities of {what} samples that are finite: its weights have gone astray, so "
        f"lower train.learning_rate"
    )


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


def _log_odds(logits: Tensor) -> NDArray[np.float64]:
    """Return the log odds of each sample's predicted class."""
    best, place = logits.double().max(dim=1)
    others = logits.double().scatter(1, place[:, None], -torch.inf)
    return (best - torch.logsumexp(others, dim=1)).numpy()
