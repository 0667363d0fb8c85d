"""The scaling of patches."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError

#: Values of a block that stays in the cache of a core.
BLOCK_VALUES = 2**16

Scale = Literal["patch", "channel"]


def check_scale(scale: str | None) -> None:
    """Refuse an unknown scale.

    Raises
    ------
    UsageError
        Not one of the two, nor None.
    """
    if scale is not None and scale not in get_args(Scale):
        raise UsageError(f"scale={scale!r} is not known: choose one of {', '.join(get_args(Scale))}, or None")


def scale_patches(
    patches: NDArray[np.float32], acquired: NDArray[np.bool_] | None, scale: Scale | None
) -> None:
    """Scale patches to [0, 1], in place, by what their acquired pixels hold.

    Parameters
    ----------
    patches : (n, size, size, channels)
        Overwritten. Pixels that are not acquired become 0; so does what is constant.
    acquired : (n, size, size)
        Which pixels count; None where all do.
    scale
        ``"patch"``: one range over all channels of a patch. ``"channel"``: each channel of each patch by itself.
        None: as it is.
    """
    if scale is None:
        return
    if acquired is not None:
        for number in np.flatnonzero(~acquired.all(axis=(1, 2))):
            patch, inside = patches[number], acquired[number]
            # With a value that counts anyway, so that the extremes need no mask.
            patch[~inside] = patch[np.unravel_index(inside.argmax(), inside.shape)]
    flat = patches.reshape(len(patches), -1, 1 if scale == "patch" else patches.shape[3])
    if flat[0].size <= BLOCK_VALUES:
        _scale(flat)
    else:
        for patch in flat:
            _scale_in_blocks(patch)
    if acquired is not None:
        patches[~acquired] = 0


def _scale(flat: NDArray[np.float32]) -> None:
    """Scale ``(n, values, groups)`` along the values, all at once."""
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    # `high <= low` and not its opposite: a NaN in a patch must stay visible.
    constant = high <= low
    flat -= low
    flat /= np.where(constant, np.float32(1), high - low)
    if constant.any():
        np.copyto(flat, 0, where=constant)


def _scale_in_blocks(patch: NDArray[np.float32]) -> None:
    """Scale ``(values, groups)`` along the values; a block that was read stays in the cache for the next operation."""
    rows = max(1, BLOCK_VALUES // patch.shape[1])
    blocks = [patch[start : start + rows] for start in range(0, len(patch), rows)]
    low, high = np.min(blocks[0], axis=0), np.max(blocks[0], axis=0)
    for block in blocks[1:]:
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    constant = high <= low
    span = np.where(constant, np.float32(1), high - low)
    for block in blocks:
        block -= low
        block /= span
    if constant.any():
        np.copyto(patch, 0, where=constant)
