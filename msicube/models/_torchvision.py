"""The one place that imports torchvision.

A torchvision wheel built for CUDA cannot load its compiled operators beside a CPU-only torch, and then fails on
import because ``torchvision::nms`` is not declared. The networks need none of these operators, so declaring the two
schemas is enough; calling one still raises.
"""

from __future__ import annotations

from typing import Any

from msicube.errors import MissingDependency

_SCHEMAS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
#: Keeps the declarations alive: torch withdraws them with the last reference.
_declarations: list[Any] = []


def import_torchvision() -> Any:
    """Import torchvision, with or without its compiled operators.

    Raises
    ------
    MissingDependency
        torchvision is not installed.
    """
    try:
        import torchvision
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "ResNet-18 needs torchvision, which is not installed: pip install 'msicube[torch]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_operators()
        import torchvision
    return torchvision


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declarations.append(library)
