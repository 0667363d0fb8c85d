"""Which module does in torch what a step does in NumPy: a table by class, which other packages may add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.preprocess import Step

AnyStep = TypeVar("AnyStep", bound=Step)

#: Class of a step to the function that makes its module.
FORMS: dict[type[Step], Callable[[Any], nn.Module]] = {}
#: Class of a step to the reason why it has no form.
WITHOUT: dict[type[Step], str] = {}


def torch_form(
    *kinds: type[AnyStep],
) -> Callable[[Callable[[AnyStep], nn.Module]], Callable[[AnyStep], nn.Module]]:
    """Register what makes the module of a fitted step that is not affine.

    Parameters
    ----------
    *kinds
        The class of the step, or several; classes derived from them need their own.

    Returns
    -------
    callable
        A decorator for a function that takes the fitted step and returns a module. The module maps ``(n, channels)``
        float32 or float64 as the step's kernel does, and writes to nothing that it is given.
    """

    def register(make: Callable[[AnyStep], nn.Module]) -> Callable[[AnyStep], nn.Module]:
        FORMS.update(dict.fromkeys(kinds, make))
        return make

    return register


def form_of(step: Any) -> nn.Module:
    """Return the module of a fitted step.

    Raises
    ------
    UsageError
        It has none; the message says why.
    """
    make = FORMS.get(type(step))
    if make is None:
        reason = WITHOUT.get(type(step), "register one with msicube.stream.torch_chain.torch_form")
        raise UsageError(
            f"the step {type(step).__name__} has no form in torch ({reason}): transform in the loader's threads with "
            f"pipeline=, or apply the pipeline to the study first"
        )
    return make(step)


def buffer(values: NDArray[Any] | None) -> Tensor | None:
    """Return a copy of an array as a tensor."""
    return None if values is None else torch.from_numpy(np.array(values))
