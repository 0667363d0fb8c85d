"""Water vapour, told from condensed matter by the narrowness of its lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from msicube.errors import UsageError
from msicube.preprocess.base import Step
from msicube.preprocess.channels import Channels
from msicube.preprocess.emsc_arguments import checked_spectra, in_regions, spectral_axis
from msicube.preprocess.emsc_kernel import LeastSquares, Subtraction
from msicube.preprocess.moments import FloatArray

#: Where water vapour absorbs between 1,000 and 4,000 cm^-1; as in orange-spectroscopy.
VAPOUR_REGIONS = ((1330.0, 2100.0), (3410.0, 3850.0))


class WaterVapour(Step):
    """Subtract as much of given vapour spectra as leaves a spectrum smoothest.

    The amounts are those that minimise the sum of squared differences between neighbouring channels inside ``regions``:
    lines of a gas are a few channels wide and dominate the differences, bands of condensed matter hardly show in them.
    Each vapour spectrum has one amount for the whole axis, and is subtracted on all of it, so that no step appears
    where a region ends.

    Parameters
    ----------
    vapour
        ``(n, n_channels)`` or ``(n_channels,)``: measured on the same instrument at the same resolution. Pixels without
        a sample hold it: the ``spectra_`` of an ``InterferentModel`` of them will do.
    wavenumbers
        ``(n_channels,)``, cm^-1, for spectra that do not bring their axis along: arrays.
    regions
        ``[(from, to), ...]`` of the axis, both ends inside. By default 1330 to 2100 and 3410 to 3850 cm^-1, as far as
        the axis has them.

    Attributes
    ----------
    pseudo_inverse_ : (n, n_channels) float64
        ``spectra @ pseudo_inverse_.T`` are the amounts.

    Notes
    -----
    Learns nothing from spectra. A NaN or an infinity inside the regions makes the whole spectrum NaN, elsewhere it
    stays where it is. What is narrow and no vapour (noise, sharp bands of minerals) biases the amounts.

    References
    ----------
    P. Bruzdziak, "Vapor correction of FTIR spectra - a simple automatic least squares approach", Spectrochim. Acta A
    223 (2019) 117373.
    """

    learned_arrays: ClassVar = {"pseudo_inverse_": ("vapour", "channel"), "vapour_": ("vapour", "channel")}

    pseudo_inverse_: FloatArray
    vapour_: FloatArray

    def __init__(self, vapour: Any, *, wavenumbers: Any = None, regions: Any = None) -> None:
        self.vapour = vapour
        self.wavenumbers = wavenumbers
        self.regions = regions

    def plan(self, n_channels: int) -> int:
        """Check the vapour spectra."""
        if not len(checked_spectra(self.vapour, n_channels, what="WaterVapour(vapour)")):
            raise UsageError("WaterVapour(vapour=None): give the spectrum of the vapour")
        return n_channels

    def prepare(self, channels: Channels) -> None:
        """Begin a fit, which needs no data."""
        super().prepare(channels)
        self.vapour_ = checked_spectra(self.vapour, channels.n, what="WaterVapour(vapour)")
        axis = spectral_axis(self.wavenumbers, channels, needed=True, who="WaterVapour")
        assert axis is not None
        self.pseudo_inverse_ = _amounts(self.vapour_, self._inside(axis))
        self._subtraction = Subtraction(LeastSquares(self.pseudo_inverse_, self.vapour_))

    def kernel(
        self, block: NDArray[Any], out: NDArray[Any] | None = None, tally: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Subtract the vapour of a block."""
        return self._subtraction.kernel(block, out)

    @property
    def correction(self) -> Subtraction:
        """What corrects a block: the fitted model, and the terms that it takes out."""
        self.check_fitted()
        return self._subtraction

    def restore(self, channels: Channels, learned: Mapping[str, Any]) -> None:
        """Set what was learned in an earlier fit: the saved bits count, not those of this machine."""
        super().restore(channels, learned)
        self._subtraction = Subtraction(LeastSquares(self.pseudo_inverse_, self.vapour_))

    def amounts(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return how much of each vapour spectrum the spectra of a block ``(n, channels)`` hold, ``(n, vapour)``."""
        self.check_fitted()
        return self._subtraction.model.coefficients(np.asarray(block))[0]

    def _inside(self, axis: FloatArray) -> NDArray[np.bool_]:
        """Return ``(channel,)``: which channels lie in the regions."""
        if self.regions is not None:
            found: NDArray[np.bool_] = in_regions(self.regions, axis, what="WaterVapour(regions)")
            return found
        inside = np.any([(axis >= low) & (axis <= high) for low, high in VAPOUR_REGIONS], axis=0)
        if not inside.any():
            raise UsageError(
                f"WaterVapour: the axis runs from {axis.min():g} to {axis.max():g} and has none of the regions in "
                f"which vapour absorbs, {VAPOUR_REGIONS}: leave the step out, or give regions="
            )
        return inside


def _amounts(vapour: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """Return ``(vapour, channel)``: what gives the amounts of vapour in a spectrum.

    Raises
    ------
    UsageError
        The differences do not tell the vapour spectra apart.
    """
    differences = np.diff(np.eye(len(inside)), axis=0)[inside[:-1] & inside[1:]]
    model = differences @ vapour.T
    rank = int(np.linalg.matrix_rank(model / np.maximum(np.linalg.norm(model, axis=0), 1e-300)))
    if rank < len(vapour):
        raise UsageError(
            f"WaterVapour: {len(vapour)} vapour spectra, of which {rank} can be told apart inside the regions: give "
            f"fewer, or other regions"
        )
    amounts: FloatArray = np.linalg.pinv(model) @ differences
    return amounts
