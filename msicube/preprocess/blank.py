"""Regions of the axis that nothing later shall see."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.preprocess.affine import Affine
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.positions import Ranges, check_ranges, columns_in


class Blank(Step):
    """Set regions of the spectral axis to zero; the axis stays what it is.

    So are regions hidden in which something unwanted absorbs, such as paraffin between 1350 and 1500 cm^-1, from a step
    or a network that wants all channels. ``Crop(exclude=...)`` takes the channels out instead.

    Parameters
    ----------
    ranges
        Pairs ``(lower, upper)`` on the axis (m/z or wavenumber; column numbers of a plain array); all channels in any
        of them become zero, both ends included.

    Attributes
    ----------
    indices_ : (n_blanked,) int
        The channels that are zero, ascending.

    Notes
    -----
    A NaN or an infinity in a blanked channel becomes NaN.
    """

    linear = True
    learned_arrays: ClassVar = {"indices_": ("blanked",)}

    indices_: NDArray[np.intp]

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def plan(self, n_channels: int) -> int:
        """Check the regions."""
        check_ranges(self.ranges)
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Find the channels."""
        super().prepare(channels)
        self.indices_ = columns_in(channels, self.ranges)

    def as_affine(self) -> Affine:
        """Return the weights, 0 in the regions and 1 elsewhere."""
        weight = np.ones(self.n_features_in_)
        weight[self.indices_] = 0
        return Affine.diagonal(centre=np.zeros(len(weight)), weight=weight)
