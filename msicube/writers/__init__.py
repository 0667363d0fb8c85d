"""Writers of source formats: real files, streamed, in constant memory."""

from __future__ import annotations

from msicube.writers.agilent import AgilentMosaicWriter, write_agilent_tile
from msicube.writers.agilent_image import WavenumberGrid
from msicube.writers.imzml import ImzMLWriter
from msicube.writers.imzml_xml import CVParam, Instrument

__all__ = [
    "AgilentMosaicWriter",
    "CVParam",
    "ImzMLWriter",
    "Instrument",
    "WavenumberGrid",
    "write_agilent_tile",
]
