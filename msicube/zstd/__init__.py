"""Zstandard frames (RFC 8878) of what is nearly all zeros, without looking at the zeros."""

from __future__ import annotations

from msicube.zstd.frames import SparseFrames

__all__ = ["SparseFrames"]
