"""Spectral images as chunked Zarr: convert, preprocess out of core, stream into PyTorch.

The names below load on first use, so that ``import msicube`` stays cheap and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from msicube.conversion import convert, export, plan, rebin
    from msicube.errors import MSICubeError
    from msicube.experiments import report, train
    from msicube.preprocess import (
        PCA,
        CoverageMask,
        DeadPixelMask,
        IncrementalPCA,
        Log1p,
        OutlierMask,
        ParaffinMask,
        Pipeline,
        SelectChannels,
        Standardize,
        TICMask,
        TICNormalize,
        TissueMask,
        apply,
        make_mask,
    )
    from msicube.readers import open_source
    from msicube.simulate import simulate_msi
    from msicube.store import Study, open_study, validate
    from msicube.stream import PatchStream, SpectrumStream

_HOMES = {
    "convert": "msicube.conversion",
    "export": "msicube.conversion",
    "plan": "msicube.conversion",
    "rebin": "msicube.conversion",
    "MSICubeError": "msicube.errors",
    "report": "msicube.experiments",
    "train": "msicube.experiments",
    "PCA": "msicube.preprocess",
    "IncrementalPCA": "msicube.preprocess",
    "Log1p": "msicube.preprocess",
    "Pipeline": "msicube.preprocess",
    "SelectChannels": "msicube.preprocess",
    "Standardize": "msicube.preprocess",
    "TICNormalize": "msicube.preprocess",
    "apply": "msicube.preprocess",
    "CoverageMask": "msicube.preprocess",
    "DeadPixelMask": "msicube.preprocess",
    "OutlierMask": "msicube.preprocess",
    "ParaffinMask": "msicube.preprocess",
    "TICMask": "msicube.preprocess",
    "TissueMask": "msicube.preprocess",
    "make_mask": "msicube.preprocess",
    "open_source": "msicube.readers",
    "simulate_msi": "msicube.simulate",
    "Study": "msicube.store",
    "open_study": "msicube.store",
    "validate": "msicube.store",
    "PatchStream": "msicube.stream",
    "SpectrumStream": "msicube.stream",
}

__all__ = [
    "PCA",
    "CoverageMask",
    "DeadPixelMask",
    "IncrementalPCA",
    "Log1p",
    "MSICubeError",
    "OutlierMask",
    "ParaffinMask",
    "PatchStream",
    "Pipeline",
    "SelectChannels",
    "SpectrumStream",
    "Standardize",
    "Study",
    "TICMask",
    "TICNormalize",
    "TissueMask",
    "apply",
    "convert",
    "export",
    "make_mask",
    "open_source",
    "open_study",
    "plan",
    "rebin",
    "report",
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
