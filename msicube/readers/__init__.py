"""Layer 1: file formats. Metadata and an index first, tiles on demand after."""

from __future__ import annotations

from msicube.readers.base import (
    AxisSurvey,
    BinningTally,
    CubeInfo,
    CubeReader,
    OnError,
    PixelSize,
    SparseTile,
    SparseTileSource,
    Tile,
    TileSource,
)
from msicube.readers.ragged import Peaks, PeakSource, RaggedReader
from msicube.readers.registry import file_check, find_sources, open_source, open_sources

__all__ = [
    "AxisSurvey",
    "BinningTally",
    "CubeInfo",
    "CubeReader",
    "OnError",
    "PeakSource",
    "Peaks",
    "PixelSize",
    "RaggedReader",
    "SparseTile",
    "SparseTileSource",
    "Tile",
    "TileSource",
    "file_check",
    "find_sources",
    "open_source",
    "open_sources",
]
