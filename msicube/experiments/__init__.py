"""Experiments end to end: a recipe, a study, and a run folder with everything that came of it.

The names below load on first use; reading a recipe does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from msicube.errors import MissingDependency

if TYPE_CHECKING:
    from msicube.experiments.comparison import Comparison, compare
    from msicube.experiments.embedding import embed
    from msicube.experiments.events import TrainingEvent
    from msicube.experiments.explaining import Explanation, explain
    from msicube.experiments.prediction import predict
    from msicube.experiments.pretrained import open_pretraining
    from msicube.experiments.pretraining import pretrain
    from msicube.experiments.recipe import Recipe
    from msicube.experiments.recipe_files import builtin_recipes, load_recipe, parse_overrides
    from msicube.experiments.reporting import report
    from msicube.experiments.run import Run, open_run
    from msicube.experiments.scoring import ExternalEvaluation, evaluate
    from msicube.experiments.training import train

_HOMES = {
    "predict": "prediction",
    "open_pretraining": "pretrained",
    "pretrain": "pretraining",
    "Comparison": "comparison",
    "compare": "comparison",
    "embed": "embedding",
    "Explanation": "explaining",
    "ExternalEvaluation": "scoring",
    "evaluate": "scoring",
    "explain": "explaining",
    "Recipe": "recipe",
    "builtin_recipes": "recipe_files",
    "load_recipe": "recipe_files",
    "parse_overrides": "recipe_files",
    "report": "reporting",
    "Run": "run",
    "open_run": "run",
    "TrainingEvent": "events",
    "train": "training",
}

#: What a module needs beyond the plain installation, and the extra that has it.
_NEEDS = {
    "prediction": {"torch": "torch"},
    "scoring": {"torch": "torch"},
    "pretrained": {"torch": "torch"},
    "pretraining": {"torch": "torch", "matplotlib": "plot"},
    "training": {"torch": "torch", "matplotlib": "plot"},
    "embedding": {"torch": "torch"},
    "explaining": {"torch": "torch", "captum": "torch", "matplotlib": "plot"},
    "reporting": {"jinja2": "plot", "matplotlib": "plot"},
}

__all__ = [
    "Comparison",
    "Explanation",
    "ExternalEvaluation",
    "Recipe",
    "Run",
    "TrainingEvent",
    "builtin_recipes",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "load_recipe",
    "open_pretraining",
    "open_run",
    "parse_overrides",
    "predict",
    "pretrain",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'msicube.experiments' has no attribute {name!r}")
    home = _HOMES[name]
    for package, extra in _NEEDS.get(home, {}).items():
        if find_spec(package) is None:
            raise MissingDependency(
                f"{name} needs {package}, which is not installed: pip install 'msicube[{extra}]'"
            )
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
