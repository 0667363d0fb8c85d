"""Bruker OPUS files (``.0``, ``.1``, ...): single spectra through brukeropus, images through opusFC."""

from __future__ import annotations

from msicube.readers.opus.reader import main_file, open_readers

__all__ = ["main_file", "open_readers"]
