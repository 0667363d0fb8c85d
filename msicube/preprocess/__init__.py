"""Layer 4: estimators over studies. Fit in Dask passes, transform lazily, save in the study."""

from __future__ import annotations

from msicube.preprocess.base import NotFittedError, Step
from msicube.preprocess.emsc import EMSC
from msicube.preprocess.emsc_interferents import InterferentModel
from msicube.preprocess.emsc_vapour import WaterVapour
from msicube.preprocess.intensity import Log1p, TICNormalize
from msicube.preprocess.lazy import TransformedStudy
from msicube.preprocess.materialise import apply
from msicube.preprocess.mie import MieEMSC
from msicube.preprocess.pca import PCA
from msicube.preprocess.pipeline import Pipeline
from msicube.preprocess.selection import SelectChannels
from msicube.preprocess.standardize import Standardize

__all__ = [
    "EMSC",
    "PCA",
    "InterferentModel",
    "Log1p",
    "MieEMSC",
    "NotFittedError",
    "Pipeline",
    "SelectChannels",
    "Standardize",
    "Step",
    "TICNormalize",
    "TransformedStudy",
    "WaterVapour",
    "apply",
]
