"""The part of a network that can be learned without labels, and how its weights go into another network.

A network that is to be pretrained says which of its parts make up its encoder, and what the encoder makes of a batch::

    class Mine(nn.Module):
        encoder_parts = ("body",)                      # names of its children

        def encode(self, spectra):                     # or patches
            return self.body(spectra)                  # (n, d), (n, d, length) or (n, d, height, width)

        def forward(self, spectra):
            return self.head(self.encode(spectra))

Everything else is the head: it is not pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from msicube.errors import RecipeError


@dataclass(frozen=True)
class Loaded:
    """What became of an encoder's weights; names are those of the network's state.

    Attributes
    ----------
    loaded
        Found under the same name and in the same shape.
    fresh
        Of the encoder, but not among the weights or of another shape: as the network was built.
    unused
        Weights that the network has no place for.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def encoder_parts(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the children of a network that make up its encoder.

    Raises
    ------
    RecipeError
        The network does not say which, or names something that is no part of it.
    """
    parts = getattr(model, "encoder_parts", None)
    name = type(model).__qualname__
    if not parts or not callable(getattr(model, "encode", None)):
        raise RecipeError(
            f"{name} cannot be pretrained: give it encoder_parts, the names of the parts that make up its encoder, and "
            f"a method encode(batch) that returns their features (msicube.models.encoding shows how)"
        )
    children = dict(model.named_children())
    if wrong := [part for part in parts if part not in children]:
        raise RecipeError(
            f"{name}.encoder_parts names {wrong[0]!r}, which is no part of it: expected some of {', '.join(children)}"
        )
    return tuple(parts)


def encode(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the features that a network's encoder makes of a batch."""
    features: Tensor = cast(Any, model).encode(batch)
    return features


def encoder_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network as far as it is its encoder's, statistics of batch normalisation included."""
    parts = encoder_parts(model)
    return {name: value for name, value in model.state_dict().items() if name.partition(".")[0] in parts}


def load_encoder(model: nn.Module, state: Mapping[str, Tensor]) -> Loaded:
    """Take over an encoder's weights, as far as names and shapes are the same.

    Parameters
    ----------
    model
        Is changed.
    state
        As :func:`encoder_state` returns it.

    Raises
    ------
    RecipeError
        Nothing fits; the message names the first difference.
    """
    own = encoder_state(model)
    loaded = [name for name, value in own.items() if name in state and state[name].shape == value.shape]
    # A counter of batches has the same name and shape in many networks, and says nothing.
    if not any(own[name].ndim for name in loaded):
        raise RecipeError(f"none of the weights fits {type(model).__qualname__}: {_difference(own, state)}")
    model.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return Loaded(
        tuple(loaded),
        tuple(name for name in own if name not in loaded),
        tuple(name for name in state if name not in loaded),
    )


def freeze_encoder(model: nn.Module) -> None:
    """Let only the head be trained."""
    for part in encoder_parts(model):
        model.get_submodule(part).requires_grad_(False)


def rest_frozen(model: nn.Module) -> None:
    """Put the parts that are not trained into evaluation mode, so that the others see the same features every time.

    To be called after ``model.train()``: dropout stops in a part all of whose weights are frozen, and its batch
    normalisation keeps its statistics.
    """
    for part in model.children():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def _difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    for name, value in own.items():
        if name in state:
            return f"{name} is {tuple(state[name].shape)} there and {tuple(value.shape)} here"
    return f"they are those of {', '.join(list(state)[:2])}, ..., it has {', '.join(list(own)[:2])}, ..."
