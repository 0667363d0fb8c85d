"""ENVI images: a text header (``.hdr``) and a plain file of values beside it."""

from __future__ import annotations

from msicube.readers.envi.header import EnviHeader
from msicube.readers.envi.reader import main_file, open_readers

__all__ = ["EnviHeader", "main_file", "open_readers"]
