"""imzML 1.1: an XML index (``.imzML``) and a binary file of spectra (``.ibd``).

Schramm et al., J. Proteomics 75 (2012) 5106.
"""

from __future__ import annotations

from msicube.readers.imzml.checksums import verify_file
from msicube.readers.imzml.index import SpectrumIndex
from msicube.readers.imzml.pair import main_file
from msicube.readers.imzml.reader import ImzMLReader, open_readers

__all__ = ["ImzMLReader", "SpectrumIndex", "main_file", "open_readers", "verify_file"]
