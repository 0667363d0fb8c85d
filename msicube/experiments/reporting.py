"""A run as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import msicube
from msicube.errors import UsageError
from msicube.experiments.comparison import leak_remark
from msicube.experiments.gallery import FIGURES_OF_A_RUN, FigureSpec
from msicube.experiments.illustration import draw_results, n_embedded
from msicube.experiments.metrics import METRICS
from msicube.experiments.recipe import Recipe
from msicube.experiments.run import FIGURES, RECIPE, Run, open_run, replacing

REPORT = "report.html"
_NAMES = {"roc_auc": "ROC AUC", "f1": "F1"}


def report(run: Run | str | os.PathLike[str], *, against: Run | str | os.PathLike[str] | None = None) -> Path:
    """Write a run's report.

    Parameters
    ----------
    run
        A run or its folder. One that was interrupted is reported as far as it came.
    against
        Another run of the same pipeline and network: where one of the two is split by patch and the other by patient,
        the report says what that leak is worth.

    Returns
    -------
    Path
        ``report.html`` in the folder: text, tables and figures in one file, without scripts.

    Raises
    ------
    UsageError
        The folder holds no run, or the two runs cannot be compared so.
    """
    import jinja2

    run = run if isinstance(run, Run) else open_run(run)
    leak = None if against is None else _leak(run, against)
    draw_results(run)
    loader = jinja2.PackageLoader("msicube.experiments")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = _percent
    environment.filters["number"] = _number
    page = environment.get_template("report.html").render({**_context(run), "leak": leak})
    with replacing(run.path / REPORT) as partial:
        partial.write_text(page, "utf-8")
    return run.path / REPORT


def _leak(run: Run, against: Run | str | os.PathLike[str]) -> str:
    other = against if isinstance(against, Run) else open_run(against)
    pair = [run, other] if run.recipe.data.split == "patch" else [other, run]
    remark = leak_remark(*pair) if all(one.summary for one in pair) else None
    if remark is None:
        raise UsageError(
            f"{run.path} and {other.path} do not show what a split by patch is worth: expected two finished runs of "
            f"one study, pipeline and network, one of them with data.split = 'patch'"
        )
    return remark


def _context(run: Run) -> dict[str, Any]:
    info, recipe, summary = run.info, run.recipe, run.summary
    return {
        "version": msicube.__version__,
        "info": {"pipeline": None, "model": None, "n_folds": 0, **info},
        "recipe": recipe,
        "columns": _columns(summary, "patch" if recipe.patches else "pixel"),
        "recipe_text": (run.path / RECIPE).read_text("utf-8"),
        "summary": summary,
        "epochs": run.metrics,
        "sample": "patch" if recipe.patches else "pixel",
        "samples": "patches" if recipe.patches else "pixels",
        "metric_names": {name: _NAMES.get(name, name.capitalize()) for name in METRICS},
        "figures": [_figure(run, spec, recipe) for spec in FIGURES_OF_A_RUN if _file(run, spec).is_file()],
    }


def _columns(summary: dict[str, Any], sample: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the columns of the table of results: what a row of it is about, and its numbers."""
    if not summary:
        return []
    found = [(f"by {sample}", summary["samples"])]
    for level, name in (("slides", "by slide"), ("patients", "by patient")):
        if level in summary:
            votes = {**summary[level], "intervals": {}, **summary[level]["vote"]}
            found += [(name, summary[level]), (f"{name}, by vote", votes)]
    return found


def _figure(run: Run, spec: FigureSpec, recipe: Recipe) -> dict[str, Any]:
    path = _file(run, spec)
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    facts = {"samples": "patches" if recipe.patches else "pixels", "n_embedded": f"{n_embedded(run):,}"}
    return {
        "title": spec.title.format(**facts),
        "wide": spec.wide,
        "caption": spec.caption.format(**facts),
        "source": f"data:image/{kind};base64,{data}",
    }


def _file(run: Run, spec: FigureSpec) -> Path:
    return run.path / FIGURES / f"{spec.name}.{'svg' if spec.vector else 'png'}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
