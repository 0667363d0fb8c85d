"""Layer 5: shuffled batches of spectra and patches for PyTorch, from studies larger than memory."""

from __future__ import annotations

from msicube.stream.device import on_device
from msicube.stream.patches import PatchStream
from msicube.stream.pooling import pool
from msicube.stream.spectra import SpectrumStream

__all__ = ["PatchStream", "SpectrumStream", "on_device", "pool"]
