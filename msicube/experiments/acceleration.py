"""Mixed precision and compilation: how a training step is computed, not what it computes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msicube.errors import MissingDependency

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """In which numbers a network computes while it is trained; its weights are float32 all the time.

    Attributes
    ----------
    name
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device
        Where it computes.
    """

    name: str
    device: torch.device

    @classmethod
    def choose(cls, name: str, device: torch.device) -> Precision:
        """Return the precision of a recipe: ``"auto"`` is float32 on a CPU and half of it on a GPU."""
        if name == "auto":
            name = "float32"
            if device.type == "cuda":
                name = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return cls(name, device)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in this precision what bears it."""
        mixed = self.name != "float32"
        return torch.autocast(self.device.type, dtype=_TYPES[self.name] if mixed else None, enabled=mixed)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps the gradients of float16 from vanishing; in other precisions it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "float16")


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a network that torch compiles when it is first called.

    Raises
    ------
    MissingDependency
        What compiles is not there: a C++ compiler for a CPU, Triton for a GPU.
    """
    probe = torch.ones(8, device=device)
    try:
        torch.compile(_probe)(probe)
    except Exception as error:  # torch raises a dozen types, most of them its own secrets
        needs = "a C++ compiler" if device.type == "cpu" else "Triton and a C compiler"
        raise MissingDependency(
            f"[train] compile = true needs {needs}, which torch cannot use here "
            f"({str(error).strip().splitlines()[0]}): install it, or set train.compile = false"
        ) from error
    found: nn.Module = torch.compile(model)  # type: ignore[assignment]
    return found


def _probe(values: Tensor) -> Tensor:
    return values.sin() + 1
