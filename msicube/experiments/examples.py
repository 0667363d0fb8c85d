"""Example samples of a run, as what the figures draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.experiments.figures import PatchRow, SpectrumPanel
from msicube.experiments.run import EXAMPLES, Run
from msicube.schema import AXIS_NAME

#: Examples kept of each kind.
N_EXAMPLES = 6
COLUMNS = ("rank", "confidence", "slide", "y", "x", "label", "predicted", "sample")
#: Kind of examples to its name on a page.
NAMES = {"right": "most confident, right", "wrong": "most confident, wrong", "unsure": "least confident"}
#: Letters of a slide's name or of a class that stand above a small picture.
MOST_LETTERS = 16


class Example(dict[str, Any]):
    """One example, by the names of its columns: ``rank``, ``confidence``, ``slide``, ``y``, ``x``, ``label``, ..."""


def read_examples(run: Run) -> dict[str, list[Example]]:
    """Return a run's examples by kind, the best first; of folds, the best of all of them.

    Those of folds are only put together where all folds have the same features.
    """
    runs = run.folds or [run]
    names = {tuple(one.info.get("features", ())) for one in runs}
    found: dict[str, list[Example]] = {}
    for one in runs if len(names) == 1 else ():
        if not (one.path / EXAMPLES).is_file():
            continue
        with np.load(one.path / EXAMPLES) as arrays:
            for kind in NAMES:
                found.setdefault(kind, []).extend(_examples(arrays, kind))
    return {kind: _best(rows, run.info["classes"], kind) for kind, rows in found.items() if rows}


def patch_rows(examples: Mapping[str, list[Example]], info: Mapping[str, Any]) -> list[PatchRow]:
    """Return a row of patches for each kind."""
    return [_row(NAMES[kind].replace(", ", ",\n"), rows, info) for kind, rows in examples.items()]


def single_rows(examples: Mapping[str, list[Example]], info: Mapping[str, Any]) -> list[PatchRow]:
    """Return rows of one patch: of each class the most confident right and wrong one, and the least confident."""
    chosen: list[tuple[str, Example]] = []
    for kind, rows in examples.items():
        if kind == "unsure":
            chosen.append((NAMES[kind], rows[0]))
        else:
            first_of = {row["label"]: row for row in reversed(rows)}
            chosen += [(NAMES[kind], first_of[label]) for label in sorted(first_of)]
    return [_row(name, [row], info) for name, row in chosen]


def spectrum_panels(examples: Mapping[str, list[Example]], info: Mapping[str, Any]) -> list[SpectrumPanel]:
    """Return a panel of spectra for each kind."""
    return [
        SpectrumPanel(
            NAMES[kind],
            np.stack([row["sample"] for row in rows]),
            [f"{short(row['slide'])} ({row['y']}, {row['x']}), {_verdict(row)}" for row in rows],
            [info["classes"].index(row["label"]) for row in rows],
        )
        for kind, rows in examples.items()
    ]


def spectral_axis(features: list[str]) -> tuple[str, NDArray[np.float64]]:
    """Return kind and positions of features: those of a spectral axis by their place, others by their number."""
    kinds = {name.partition(" ")[0] for name in features}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in AXIS_NAME.values():
        return kind, np.array([float(name.partition(" ")[2]) for name in features])
    return "feature", np.arange(1.0, len(features) + 1)


def short(name: str) -> str:
    """Return a name with its middle left out where it is long."""
    half = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[:half]}…{name[-half + 1 :]}"


def _examples(arrays: Any, kind: str) -> Iterator[Example]:
    if f"{kind}_{COLUMNS[0]}" not in arrays:
        return
    columns = [arrays[f"{kind}_{name}"] for name in COLUMNS]
    for values in zip(*columns, strict=True):
        plain = (value if value.ndim else value.item() for value in map(np.asarray, values))
        yield Example(zip(COLUMNS, plain, strict=True))


def _best(rows: list[Example], classes: list[str], kind: str) -> list[Example]:
    """Return as many as one run keeps, sorted by class and rank."""
    rows = sorted(rows, key=lambda one: (one["rank"], one["slide"], one["y"], one["x"]))
    if kind == "unsure":
        return rows[:N_EXAMPLES]
    each = max(1, N_EXAMPLES // len(classes))
    return [one for name in classes for one in [row for row in rows if row["label"] == name][:each]]


def _row(name: str, rows: list[Example], info: Mapping[str, Any]) -> PatchRow:
    size = {row["slide"]: row["pixel_size"] for row in info["split"]["test"]}
    captions = [
        f"{short(row['slide'])} ({row['y']}, {row['x']})\n{short(row['label'])}\n"
        f"as {short(row['predicted'])}, {_confidence(row['confidence'])}"
        for row in rows
    ]
    samples = np.stack([row["sample"] for row in rows])
    return PatchRow(name, samples, captions, [size.get(row["slide"]) for row in rows])


def _verdict(row: Example) -> str:
    return f"{short(row['label'])} as {short(row['predicted'])}, {_confidence(row['confidence'])}"


def _confidence(probability: float) -> str:
    return f"$p$ = {probability:.3f}" if probability < 0.9995 else "$p$ > 0.999"
