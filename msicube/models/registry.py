"""From a name in a recipe to a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import nn

from msicube.errors import RecipeError

#: The networks with a short name. Any other is named as ``package.module:Class``.
MODELS = {
    "resnet18": "msicube.models.resnet:PatchResNet18",
    "cnn1d": "msicube.models.cnn1d:SpectrumCNN",
    "carenet": "msicube.models.carenet:CaReNet",
    "plsda": "msicube.models.classical:PLSDA",
    "svm": "msicube.models.classical:KernelSVM",
    "random_forest": "msicube.models.forest:RandomForest",
}


@dataclass(frozen=True)
class Provenance:
    """Where a network's first weights come from, and what of it is trained.

    Attributes
    ----------
    weights
        ``"imagenet"``, the path of a file, or ``"random"``.
    note
        Why they are not the ones that were asked for, or what was changed in them; empty if nothing.
    trained
        Names of the trained parts, or ``("all",)``.
    """

    weights: str = "random"
    note: str = ""
    trained: tuple[str, ...] = ("all",)


def provenance(model: nn.Module) -> Provenance:
    """Return what a network says of its weights; a network that says nothing starts from random ones."""
    found = getattr(model, "provenance", None)
    return found if isinstance(found, Provenance) else Provenance()


def build_model(name: str, *, n_channels: int, n_classes: int, **options: Any) -> nn.Module:
    """Build a network by its name.

    Parameters
    ----------
    name
        A key of :data:`MODELS`, or ``package.module:Class`` of one's own.
    n_channels
        Channels of a spectrum or patch.
    n_classes
        Logits to return.
    **options
        Passed on.

    Raises
    ------
    RecipeError
        An unknown name, an option that the network does not take, or something that is no network.
    """
    model = find_model(name, options)(n_channels=n_channels, n_classes=n_classes, **options)
    if not isinstance(model, nn.Module):
        raise RecipeError(f"model {name!r} gave a {type(model).__name__}: expected a torch.nn.Module")
    return model


def find_model(name: str, options: Iterable[str] = ()) -> Callable[..., Any]:
    """Return what builds a network; nothing is built yet.

    Parameters
    ----------
    name
        As for :func:`build_model`.
    options
        Names of options that it must take.

    Raises
    ------
    RecipeError
        An unknown name, or an option that the network does not take.
    """
    factory = _import(name)
    _check_options(name, factory, options)
    return factory


def without_weights(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with which a network starts from random weights: others follow, and nothing is to be downloaded.

    Parameters
    ----------
    name
        As for :func:`build_model`.
    options
        Of a recipe; one called ``weights`` is replaced, where the network takes it.
    """
    takes = "weights" in inspect.signature(find_model(name)).parameters
    return {**options, "weights": "random"} if takes else dict(options)


def _import(name: str) -> Callable[..., Any]:
    target = MODELS.get(name, name)
    module_name, _, attribute = target.partition(":")
    if not attribute:
        close = get_close_matches(name, MODELS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise RecipeError(
            f"unknown model {name!r}{hint}: expected one of {', '.join(MODELS)}, or package.module:Class of your own"
        )
    try:
        factory = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"model {name!r} cannot be imported ({error}): install its package or put its folder on PYTHONPATH"
        ) from error
    if not callable(factory):
        raise RecipeError(
            f"model {name!r} is a {type(factory).__name__}: expected a class or a function that builds a network"
        )
    return factory


def _check_options(name: str, factory: Callable[..., Any], options: Iterable[str]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.name not in ("n_channels", "n_classes")]
    for option in options:
        if option not in known:
            close = get_close_matches(option, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise RecipeError(
                f"model {name!r} takes no option {option!r}{hint}: expected {', '.join(known) or 'none'}"
            )
