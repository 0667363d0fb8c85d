"""MATLAB files (``.mat``) of version 5 to 7.3: those of CytoSpec, and any with a cube and its axis."""

from __future__ import annotations

from msicube.readers.matlab.reader import main_file, open_readers

__all__ = ["main_file", "open_readers"]
