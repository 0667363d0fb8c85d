"""Spectral images as chunked Zarr: convert, preprocess out of core, stream into PyTorch.

The names below load on first use, so that ``import msicube`` stays cheap and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from msicube.conversion import convert, export, plan, rebin
    from msicube.crossvalidation import Fold, folds
    from msicube.errors import MSICubeError
    from msicube.experiments import compare, evaluate, explain, predict, pretrain, report, train
    from msicube.preprocess import (
        EMSC,
        PCA,
        ALSBaseline,
        Blank,
        CoverageMask,
        Crop,
        DeadPixelMask,
        IncrementalPCA,
        InterferentModel,
        Log1p,
        MedianNormalize,
        MieEMSC,
        MinMaxNormalize,
        OutlierMask,
        ParaffinMask,
        PeakAlign,
        PeakPick,
        Pipeline,
        PolynomialBaseline,
        ReferenceNormalize,
        Resample,
        RMSNormalize,
        SavitzkyGolay,
        SelectChannels,
        SNIPBaseline,
        Sqrt,
        Standardize,
        TICMask,
        TICNormalize,
        TissueMask,
        TopHatBaseline,
        VectorNormalize,
        WaterVapour,
        apply,
        make_mask,
    )
    from msicube.readers import open_source
    from msicube.simulate import simulate_ftir, simulate_msi
    from msicube.store import Study, open_study, validate
    from msicube.stream import PatchStream, SpectrumStream, on_device, pool

_HOMES = {
    "convert": "msicube.conversion",
    "export": "msicube.conversion",
    "plan": "msicube.conversion",
    "rebin": "msicube.conversion",
    "MSICubeError": "msicube.errors",
    "predict": "msicube.experiments",
    "pretrain": "msicube.experiments",
    "compare": "msicube.experiments",
    "evaluate": "msicube.experiments",
    "explain": "msicube.experiments",
    "report": "msicube.experiments",
    "train": "msicube.experiments",
    "EMSC": "msicube.preprocess",
    "InterferentModel": "msicube.preprocess",
    "PCA": "msicube.preprocess",
    "ALSBaseline": "msicube.preprocess",
    "Blank": "msicube.preprocess",
    "Crop": "msicube.preprocess",
    "IncrementalPCA": "msicube.preprocess",
    "Log1p": "msicube.preprocess",
    "MieEMSC": "msicube.preprocess",
    "MedianNormalize": "msicube.preprocess",
    "MinMaxNormalize": "msicube.preprocess",
    "PeakAlign": "msicube.preprocess",
    "PeakPick": "msicube.preprocess",
    "Pipeline": "msicube.preprocess",
    "PolynomialBaseline": "msicube.preprocess",
    "RMSNormalize": "msicube.preprocess",
    "ReferenceNormalize": "msicube.preprocess",
    "Resample": "msicube.preprocess",
    "SNIPBaseline": "msicube.preprocess",
    "SavitzkyGolay": "msicube.preprocess",
    "SelectChannels": "msicube.preprocess",
    "Sqrt": "msicube.preprocess",
    "Standardize": "msicube.preprocess",
    "TICNormalize": "msicube.preprocess",
    "WaterVapour": "msicube.preprocess",
    "TopHatBaseline": "msicube.preprocess",
    "VectorNormalize": "msicube.preprocess",
    "apply": "msicube.preprocess",
    "CoverageMask": "msicube.preprocess",
    "DeadPixelMask": "msicube.preprocess",
    "OutlierMask": "msicube.preprocess",
    "ParaffinMask": "msicube.preprocess",
    "TICMask": "msicube.preprocess",
    "TissueMask": "msicube.preprocess",
    "make_mask": "msicube.preprocess",
    "open_source": "msicube.readers",
    "simulate_ftir": "msicube.simulate",
    "simulate_msi": "msicube.simulate",
    "Study": "msicube.store",
    "open_study": "msicube.store",
    "validate": "msicube.store",
    "PatchStream": "msicube.stream",
    "SpectrumStream": "msicube.stream",
    "on_device": "msicube.stream",
    "pool": "msicube.stream",
    "Fold": "msicube.crossvalidation",
    "folds": "msicube.crossvalidation",
}

__all__ = [
    "EMSC",
    "PCA",
    "ALSBaseline",
    "Blank",
    "CoverageMask",
    "Crop",
    "DeadPixelMask",
    "Fold",
    "IncrementalPCA",
    "InterferentModel",
    "Log1p",
    "MSICubeError",
    "MedianNormalize",
    "MieEMSC",
    "MinMaxNormalize",
    "OutlierMask",
    "ParaffinMask",
    "PatchStream",
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
    "SpectrumStream",
    "Sqrt",
    "Standardize",
    "Study",
    "TICMask",
    "TICNormalize",
    "TissueMask",
    "TopHatBaseline",
    "VectorNormalize",
    "WaterVapour",
    "apply",
    "compare",
    "convert",
    "evaluate",
    "explain",
    "export",
    "folds",
    "make_mask",
    "on_device",
    "open_source",
    "open_study",
    "plan",
    "pool",
    "predict",
    "pretrain",
    "rebin",
    "report",
    "simulate_ftir",
    "simulate_msi",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'msicube' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
