"""One of every public step, small enough for any data."""

from __future__ import annotations

import inspect

import msicube.preprocess
from msicube.preprocess import PCA, Resample, SelectChannels, Step, WaterVapour

#: Arguments of the steps that cannot do without.
ARGUMENTS = {
    PCA: {"n_components": 1},
    SelectChannels: {"k": 1},
    Resample: {"axis": [0.5]},
    WaterVapour: {"vapour": [1.0]},
}


def public_steps() -> list[Step]:
    """Return an unfitted step of each public class, by the order of their names."""
    found = (getattr(msicube.preprocess, name) for name in sorted(msicube.preprocess.__all__))
    classes = [cls for cls in found if inspect.isclass(cls) and issubclass(cls, Step) and cls is not Step]
    assert len(classes) >= 5
    return [cls(**ARGUMENTS.get(cls, {})) for cls in classes]
