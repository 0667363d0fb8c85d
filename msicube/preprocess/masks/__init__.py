"""Masks: which pixels hold tissue, paraffin, outliers, or nothing of use."""

from __future__ import annotations

from msicube.preprocess.masks.bands import BandMask, ParaffinMask, TissueMask
from msicube.preprocess.masks.base import Mask, MasksOfStudy
from msicube.preprocess.masks.coverage import CoverageMask
from msicube.preprocess.masks.intensity import DeadPixelMask, TICMask
from msicube.preprocess.masks.jobs import MadeMask
from msicube.preprocess.masks.making import make_mask
from msicube.preprocess.masks.outliers import OutlierMask

__all__ = [
    "BandMask",
    "CoverageMask",
    "DeadPixelMask",
    "MadeMask",
    "Mask",
    "MasksOfStudy",
    "OutlierMask",
    "ParaffinMask",
    "TICMask",
    "TissueMask",
    "make_mask",
]
