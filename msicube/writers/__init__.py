"""Writers of source formats: real files, streamed, in constant memory."""

from __future__ import annotations

from msicube.writers.imzml import ImzMLWriter
from msicube.writers.imzml_xml import CVParam, Instrument

__all__ = ["CVParam", "ImzMLWriter", "Instrument"]
