"""A run as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import msicube
from msicube.experiments.illustration import FIGURES_OF_A_RUN, FigureSpec, draw_results
from msicube.experiments.metrics import METRICS
from msicube.experiments.recipe import Recipe
from msicube.experiments.run import FIGURES, RECIPE, Run, open_run, replacing

REPORT = "report.html"
_NAMES = {"roc_auc": "ROC AUC", "f1": "F1"}


def report(run: Run | str | os.PathLike[str]) -> Path:
    """Write a run's report.

    Parameters
    ----------
    run
        A run or its folder. One that was interrupted is reported as far as it came.

    Returns
    -------
    Path
        ``report.html`` in the folder: text, tables and figures in one file, without scripts.

    Raises
    ------
    UsageError
        The folder holds no run.
    """
    import jinja2

    run = run if isinstance(run, Run) else open_run(run)
    draw_results(run)
    loader = jinja2.PackageLoader("msicube.experiments")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = _percent
    environment.filters["number"] = _number
    page = environment.get_template("report.html").render(_context(run))
    with replacing(run.path / REPORT) as partial:
        partial.write_text(page, "utf-8")
    return run.path / REPORT


def _context(run: Run) -> dict[str, Any]:
    info, recipe, summary = run.info, run.recipe, run.summary
    return {
        "version": msicube.__version__,
        "info": {"pipeline": None, "model": None, **info},
        "recipe": recipe,
        "recipe_text": (run.path / RECIPE).read_text("utf-8"),
        "summary": summary,
        "epochs": run.metrics,
        "sample": "patch" if recipe.patches else "pixel",
        "samples": "patches" if recipe.patches else "pixels",
        "metric_names": {name: _NAMES.get(name, name.capitalize()) for name in METRICS},
        "figures": [_figure(run, spec, recipe) for spec in FIGURES_OF_A_RUN if _file(run, spec).is_file()],
    }


def _figure(run: Run, spec: FigureSpec, recipe: Recipe) -> dict[str, Any]:
    path = _file(run, spec)
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    samples = "patches" if recipe.patches else "pixels"
    return {
        "title": spec.title,
        "wide": spec.wide,
        "caption": spec.caption.format(samples=samples),
        "source": f"data:image/{kind};base64,{data}",
    }


def _file(run: Run, spec: FigureSpec) -> Path:
    return run.path / FIGURES / f"{spec.name}.{'svg' if spec.vector else 'png'}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
