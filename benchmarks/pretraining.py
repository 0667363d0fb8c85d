"""What pretraining is worth with few labelled slides: random and pretrained starts, on either pipeline, by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

SLIDES, LABELLED_PATIENTS, SEEDS = 40, 3, 8
STEPS = [
    {"step": "Log1p"},
    {"step": "SelectChannels", "k": 100, "criterion": "variance"},
    {"step": "Standardize"},
]
COMMON = {
    "pipeline.steps": STEPS,
    "train.threads": 1,
    "train.batch_size": 128,
    "train.epochs": 3,
    "train.learning_rate": 1e-3,
    "spectra.limit": 4000,
    "spectra.test_limit": 0,
    "pretrain.limit": 15_000,
}


def make_study(work: Path) -> Path:
    """Simulate a study in which three of the patients who are trained on keep their labels."""
    import msicube as mc

    made = mc.simulate_msi(work / "slides", slides=SLIDES, seed=11, shape=(32, 32), channels=300)
    table = pd.read_csv(made.samples)
    training = table[table["split"] == "train"]
    both = training.groupby("patient")["label"].nunique() == 2
    kept = sorted(both.index[both])[:LABELLED_PATIENTS]
    table.loc[(table["split"] == "train") & ~table["patient"].isin(kept), ["label", "split"]] = None
    table.to_csv(work / "samples.csv", index=False)
    mc.convert(made.folder, work / "study.zarr", samples=work / "samples.csv")
    return work / "study.zarr"


def of_seed(work: Path, study: Path, seed: int) -> dict[str, Any]:
    import msicube as mc

    name, same = "colorectal-cnn1d", {"seed": seed, "figures": False, "overwrite": True}
    starts = {
        "pretrained": {"pretrain.epochs": 6},
        "random": {"pretrain.epochs": 1, "pretrain.learning_rate": 0.0},
    }
    found: dict[str, Any] = {"seed": seed}

    def area(column: str, **overrides: Any) -> None:
        run = mc.train(name, study, work / "run", overrides={**COMMON, **overrides}, **same)
        found[column] = run.summary["samples"]["metrics"]["roc_auc"]

    area("random, own pipeline")
    for start, settings in starts.items():
        out = work / start
        made = mc.pretrain(name, study, out, overrides={**COMMON, **settings}, unlabelled=True, **same)
        if start == "pretrained":
            found |= made.summary["masked_error"]
        for part in ("all", "head"):
            area(f"{start}, {part}", **{"model.pretrained": str(out), "model.finetune": part})
    return found


def run(work: Path) -> None:
    console, study = Console(width=200), make_study(work)
    rows = []
    for seed in range(SEEDS):
        rows.append(of_seed(work, study, seed))
        console.print(
            f"seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in rows[-1].items() if k != "seed")
        )
    console.print(pd.DataFrame(rows).drop(columns="seed").agg(["mean", "std"]).T.round(3).to_string())
