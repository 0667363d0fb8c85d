"""The scaling of patches."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError

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
        for patch, inside in zip(patches, acquired, strict=True):
            if not inside.all():
                # With a value that counts anyway, so that the extremes need no mask.
                patch[~inside] = patch[np.unravel_index(inside.argmax(), inside.shape)]
    n, channels = len(patches), patches.shape[3]
    flat = patches.reshape(n, -1, 1) if scale == "patch" else patches.reshape(n, -1, channels)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    # `high <= low` and not its opposite: a NaN in a patch must stay visible.
    constant = high <= low
    flat -= low
    flat /= np.where(constant, np.float32(1), high - low)
    if constant.any():
        np.copyto(flat, 0, where=constant)
    if acquired is not None:
        patches[~acquired] = 0
