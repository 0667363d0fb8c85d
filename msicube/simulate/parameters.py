"""The arguments of a simulation, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from msicube.errors import UsageError
from msicube.simulate.spectra import TofAxis
from msicube.writers.imzml import Mode, Representation
from msicube.writers.imzml_xml import ARRAY_TYPES, MODES, REPRESENTATIONS

MIN_EDGE = 8


@dataclass(frozen=True)
class Parameters:
    """What :func:`~msicube.simulate.simulate_msi` was asked for; see there for the meaning of each.

    Raises
    ------
    UsageError
        A value out of its range.
    """

    slides: int
    seed: int
    shape: tuple[int, int]
    channels: int
    mz_range: tuple[float, float]
    resolution: float
    mode: Mode
    representation: Representation
    class_difference: float
    patients: int | None
    ions: int
    markers: int
    patient_effect: float
    batch_effect: float
    holes: int
    pixel_size: float
    mz_dtype: str
    intensity_dtype: str

    def __post_init__(self) -> None:
        low, high = self.mz_range
        expected = {
            "seed": (self.seed >= 0, "0 or more"),
            "shape": (
                len(self.shape) == 2 and min(self.shape) >= MIN_EDGE,
                f"(y, x), both at least {MIN_EDGE}",
            ),
            "channels": (self.channels >= 1, "at least 1"),
            "mz_range": (0 < low < high < float("inf"), "two positive m/z, the lower one first"),
            "resolution": (0 < self.resolution < float("inf"), "m / FWHM, positive"),
            "mode": (self.mode in MODES, " or ".join(MODES)),
            "representation": (self.representation in REPRESENTATIONS, " or ".join(REPRESENTATIONS)),
            "class_difference": (isfinite(self.class_difference), "a finite number"),
            "patient_effect": (0 <= self.patient_effect < float("inf"), "0 or more"),
            "batch_effect": (0 <= self.batch_effect < float("inf"), "0 or more"),
            "holes": (self.holes >= 0, "0 or more"),
            "pixel_size": (0 < self.pixel_size < float("inf"), "micrometres, positive"),
            "mz_dtype": (self.mz_dtype in ("float32", "float64"), "float32 or float64"),
            "intensity_dtype": (self.intensity_dtype in ARRAY_TYPES, ", ".join(ARRAY_TYPES)),
        }
        for name, (valid, what) in expected.items():
            if not valid:
                raise UsageError(f"{name}={getattr(self, name)!r}: expected {what}")

    @property
    def axis(self) -> TofAxis:
        """The channels that were asked for."""
        return TofAxis(self.mz_range, self.channels, self.resolution)
