"""Steps that work by slide, in torch: a row of numbers for each slide, looked up by the number in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msicube.errors import UsageError
from msicube.preprocess import Step
from msicube.preprocess.affine import Affine
from msicube.preprocess.peakalign import Warp
from msicube.stream.torch_registry import buffer


class SlideTable(nn.Module):
    """Numbers that depend on the slide of a spectrum.

    Parameters
    ----------
    stages
        What maps the spectra of each slide.
    fields
        The arrays of a stage to keep, ``(channel,)`` each.
    """

    def __init__(self, stages: Sequence[Any], fields: Sequence[str]) -> None:
        super().__init__()
        self.n_slides = len(stages)
        for name in fields:
            self.register_buffer(name, buffer(np.stack([getattr(stage, name) for stage in stages])))

    def rows(self, slide: Tensor | None) -> Tensor:
        """Return which rows belong to the spectra of a block: one, or one each."""
        if slide is None and self.n_slides > 1:
            raise UsageError(
                f"the module works by slide and knows {self.n_slides}: call it with the numbers too, as in "
                f'module(batch["spectra"], batch["slide"])'
            )
        return (
            torch.zeros(1, dtype=torch.int64, device=next(self.buffers()).device) if slide is None else slide
        )


class AffineTable(SlideTable):
    """A shift and a scale of each channel, by slide."""

    centre: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, stages: Sequence[Affine]) -> None:
        super().__init__(stages, ("centre", "weight", "offset"))

    def forward(self, block: Tensor, slide: Tensor | None) -> Tensor:
        """Map ``(n, channels)``."""
        rows = self.rows(slide)
        centre, weight, offset = (
            numbers.to(block.dtype)[rows] for numbers in (self.centre, self.weight, self.offset)
        )
        return torch.addcmul(offset, block - centre, weight)


class WarpTable(SlideTable):
    """Spectra read at warped positions, by slide."""

    after: Tensor
    share: Tensor

    def __init__(self, stages: Sequence[Warp]) -> None:
        super().__init__(stages, ("after", "share"))

    def forward(self, block: Tensor, slide: Tensor | None) -> Tensor:
        """Map ``(n, channels)``."""
        rows = self.rows(slide)
        after = self.after[rows].expand(len(block), -1)
        share = self.share.to(block.dtype)[rows]
        value = block.gather(1, after) * share + block.gather(1, after - 1) * (1 - share)
        return value.masked_fill(value.isinf(), torch.nan)


#: What maps the spectra of one slide, to what maps those of many.
TABLES: dict[type, Callable[[Any], SlideTable]] = {Affine: AffineTable, Warp: WarpTable}


def table_of(step: Step, slides: Sequence[str] | None) -> SlideTable:
    """Return the module of a fitted step that works by slide.

    Parameters
    ----------
    step
        Fitted.
    slides
        What the numbers in a batch stand for; None for a step that was fitted on an array or a dataset.
    """
    known: list[str] = step.slides_
    if slides is None and known != [""]:
        raise UsageError(
            f"{step} works by slide: say what the numbers of slides in a batch stand for, as in "
            f"to_torch(slides=stream.slides)"
        )
    stages = [step.for_slide(slide) for slide in ([""] if slides is None else slides)]
    table = TABLES.get(type(stages[0])) if stages else None
    if table is None:
        raise UsageError(
            f"the step {type(step).__name__} works by slide in a way that has no form in torch: transform in the "
            f"loader's threads with pipeline=, or apply the pipeline to the study first"
        )
    return table(stages)
