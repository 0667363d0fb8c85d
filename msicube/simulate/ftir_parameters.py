"""The arguments of an FTIR simulation, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, isfinite

from msicube.errors import UsageError
from msicube.simulate.parameters import MIN_EDGE
from msicube.writers.agilent_image import TILE_SIZES, WavenumberGrid

_LARGEST_DEFAULT_TILE = 64


@dataclass(frozen=True)
class FTIRParameters:
    """What :func:`~msicube.simulate.simulate_ftir` was asked for; see there for the meaning of each.

    Raises
    ------
    UsageError
        A value out of its range.
    """

    slides: int
    seed: int
    shape: tuple[int, int]
    wavenumbers: tuple[float, float]
    class_difference: float
    cores: int
    patient_effect: float
    scatter: float
    noise: float
    dead_pixels: float
    holes: int
    pixel_size: float
    tile_size: int

    def __post_init__(self) -> None:
        low, high = self.wavenumbers
        expected = {
            "seed": (self.seed >= 0, "0 or more"),
            "shape": (
                len(self.shape) == 2 and min(self.shape) >= MIN_EDGE,
                f"(y, x), both at least {MIN_EDGE}",
            ),
            "wavenumbers": (0 < low < high < float("inf"), "two positive wavenumbers, the lower one first"),
            "class_difference": (isfinite(self.class_difference), "a finite number"),
            "patient_effect": (0 <= self.patient_effect < float("inf"), "0 or more"),
            "scatter": (0 <= self.scatter < float("inf"), "0 or more"),
            "noise": (0 <= self.noise < float("inf"), "0 or more"),
            "dead_pixels": (0 <= self.dead_pixels <= 1, "a share from 0 to 1"),
            "holes": (self.holes >= 0, "0 or more"),
            "pixel_size": (0 < self.pixel_size < float("inf"), "micrometres, positive"),
            "tile_size": (self.tile_size in TILE_SIZES, ", ".join(map(str, TILE_SIZES))),
        }
        for name, (valid, what) in expected.items():
            if not valid:
                raise UsageError(f"{name}={getattr(self, name)!r}: expected {what}")
        _ = self.axis  # which refuses a range that lies between two channels
        if any(edge % self.tile_size for edge in self.shape):
            raise UsageError(
                f"shape={self.shape} is no whole number of tiles of {self.tile_size} x {self.tile_size} pixels: choose "
                f"multiples of it, or another tile size"
            )

    @property
    def axis(self) -> WavenumberGrid:
        """The channels inside the range."""
        return WavenumberGrid.within(*self.wavenumbers)

    @property
    def tiles(self) -> tuple[int, int]:
        """``(y, x)`` number of tiles of a slide."""
        return self.shape[0] // self.tile_size, self.shape[1] // self.tile_size


def default_tile_size(shape: tuple[int, int]) -> int:
    """Return the largest edge up to 64 that cuts both edges of a slide into whole tiles.

    Raises
    ------
    UsageError
        An edge is odd, so that no tile fits.
    """
    common = gcd(*shape)
    fitting = [size for size in TILE_SIZES if size <= _LARGEST_DEFAULT_TILE and common % size == 0]
    if not fitting:
        raise UsageError(f"shape={shape}: expected even numbers, because tiles have an even number of pixels")
    return fitting[-1]
