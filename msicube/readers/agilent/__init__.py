"""Agilent focal-plane-array images: mosaics of tiles and single tiles."""

from __future__ import annotations

from msicube.readers.agilent.files import main_file
from msicube.readers.agilent.reader import open_readers

__all__ = ["main_file", "open_readers"]
