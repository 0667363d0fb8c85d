"""Layer 4: estimators over studies. Fit in Dask passes, transform lazily, save in the study."""

from __future__ import annotations

from msicube.preprocess.base import Step
from msicube.preprocess.baseline import ALSBaseline, PolynomialBaseline, SNIPBaseline, TopHatBaseline
from msicube.preprocess.blank import Blank
from msicube.preprocess.emsc import EMSC
from msicube.preprocess.emsc_interferents import InterferentModel
from msicube.preprocess.emsc_vapour import WaterVapour
from msicube.preprocess.incremental_pca import IncrementalPCA
from msicube.preprocess.intensity import Log1p, Sqrt
from msicube.preprocess.kept import clear_statistics
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
from msicube.preprocess.mie import MieEMSC
from msicube.preprocess.normalize import (
    MedianNormalize,
    MinMaxNormalize,
    ReferenceNormalize,
    RMSNormalize,
    TICNormalize,
    VectorNormalize,
)
from msicube.preprocess.pca import PCA
from msicube.preprocess.peakalign import PeakAlign
from msicube.preprocess.peakpick import PeakPick
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.resample import Resample
from msicube.preprocess.selection import Crop, SelectChannels
from msicube.preprocess.smoothing import SavitzkyGolay
from msicube.preprocess.standardize import Standardize
from msicube.preprocess.transformer import NotFittedError

__all__ = [
    "EMSC",
    "PCA",
    "ALSBaseline",
    "BandMask",
    "Blank",
    "CoverageMask",
    "Crop",
    "DeadPixelMask",
    "IncrementalPCA",
    "InterferentModel",
    "Log1p",
    "MedianNormalize",
    "MieEMSC",
    "MinMaxNormalize",
    "NotFittedError",
    "OutlierMask",
    "ParaffinMask",
    "PeakAlign",
    "PeakPick",
    "Pipeline",
    "PolynomialBaseline",
    "RMSNormalize",
    "ReferenceNormalize",
    "Resample",
    "SNIPBaseline",
    "SavitzkyGolay",
    "SelectChannels",
    "Sqrt",
    "Standardize",
    "Step",
    "TICMask",
    "TICNormalize",
    "TissueMask",
    "TopHatBaseline",
    "TransformedStudy",
    "VectorNormalize",
    "WaterVapour",
    "apply",
    "clear_statistics",
    "make_mask",
]
