"""One of every public step, small enough for any data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import msicube.preprocess as mp
from msicube.preprocess import Step

#: What the steps that look for peaks call one, in few channels.
PEAKS = {"half_window": 1, "noise_window": 3, "snr": 0.0}


def _axis(n_channels: int) -> list[float]:
    """Return wavenumbers so close that Mie curves can be continued beyond them."""
    return np.arange(1400.0, 1400.0 + n_channels).tolist()


def _band(n_channels: int) -> list[float]:
    return np.linspace(1.0, 2.0, n_channels).tolist()


#: Arguments of the steps that cannot do without, or whose defaults are made for wide axes; by the number of channels.
ARGUMENTS: dict[type[Step], Callable[[int], dict[str, Any]]] = {
    mp.ALSBaseline: lambda n: {"lam": 10.0},
    mp.BandMask: lambda n: {"band": None},
    mp.Blank: lambda n: {"ranges": [(0.0, n - 2.0)]},
    mp.Crop: lambda n: {"lower": 0.0, "upper": n - 2.0},
    mp.DeadPixelMask: lambda n: {"n_mads": 3.0},
    mp.EMSC: lambda n: {"degree": 0},
    mp.IncrementalPCA: lambda n: {"n_components": 1},
    mp.InterferentModel: lambda n: {"n_components": 0},
    mp.MieEMSC: lambda n: {"wavenumbers": _axis(n), "reference": _band(n), "n_components": 1, "max_iter": 3},
    mp.OutlierMask: lambda n: {"n_components": 1},
    mp.PCA: lambda n: {"n_components": 1},
    mp.ParaffinMask: lambda n: {"band": None},
    mp.PeakAlign: lambda n: {**PEAKS, "warp": "shift", "tolerance": 1.0},
    mp.PeakPick: lambda n: PEAKS,
    mp.PolynomialBaseline: lambda n: {"degree": 0 if n < 5 else 2},
    mp.ReferenceNormalize: lambda n: {"at": [0.0]},
    mp.Resample: lambda n: {"axis": [0.5]},
    mp.SNIPBaseline: lambda n: {"half_window": 1},
    mp.SavitzkyGolay: lambda n: {"window": 1, "degree": 0} if n < 5 else {"window": 5, "deriv": 1},
    mp.SelectChannels: lambda n: {"k": 1},
    mp.TissueMask: lambda n: {"band": None},
    mp.TopHatBaseline: lambda n: {"half_window": 1},
    mp.WaterVapour: lambda n: {"vapour": _band(n)[::-1], "wavenumbers": _axis(n)},
}


def public_steps(n_channels: int) -> list[Step]:
    """Return an unfitted step of each public class for so many channels, by the order of their names."""
    found = (getattr(mp, name) for name in sorted(mp.__all__))
    classes = [cls for cls in found if inspect.isclass(cls) and issubclass(cls, Step) and cls is not Step]
    assert set(ARGUMENTS) < set(classes)
    return [cls(**ARGUMENTS[cls](n_channels)) if cls in ARGUMENTS else cls() for cls in classes]
