"""Thermo OMNIC maps (``.map``): parsed by ftir_map, spectra read from where they lie in the file."""

from __future__ import annotations

from msicube.readers.omnic.reader import main_file, open_readers

__all__ = ["main_file", "open_readers"]
