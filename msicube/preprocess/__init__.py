"""Layer 4: estimators over studies. Fit in Dask passes, transform lazily, save in the study."""

from __future__ import annotations

from msicube.preprocess.base import NotFittedError, Step
from msicube.preprocess.incremental_pca import IncrementalPCA
from msicube.preprocess.intensity import Log1p, TICNormalize
from msicube.preprocess.lazy import TransformedStudy
from msicube.preprocess.masks import (
    BandMask,
    CoverageMask,
    DeadPixelMask,
    OutlierMask,
    ParaffinMask,
    TICMask,
    TissueMask,
    make_mask,
)
from msicube.preprocess.materialise import apply
from msicube.preprocess.pca import PCA
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.selection import SelectChannels
from msicube.preprocess.standardize import Standardize

__all__ = [
    "PCA",
    "BandMask",
    "CoverageMask",
    "DeadPixelMask",
    "IncrementalPCA",
    "Log1p",
    "NotFittedError",
    "OutlierMask",
    "ParaffinMask",
    "Pipeline",
    "SelectChannels",
    "Standardize",
    "Step",
    "TICMask",
    "TICNormalize",
    "TissueMask",
    "TransformedStudy",
    "apply",
    "make_mask",
]
