"""Layer 3: the one write path from source files into a study."""

from __future__ import annotations

from msicube.conversion.exporting import ExportReport, export
from msicube.conversion.forecast import ConversionPlan, SlideForecast, plan
from msicube.conversion.incremental import SlideWriter, SourceResult
from msicube.conversion.rebinning import rebin
from msicube.conversion.report import ConversionReport, SlideReport
from msicube.conversion.run import convert

__all__ = [
    "ConversionPlan",
    "ConversionReport",
    "ExportReport",
    "SlideForecast",
    "SlideReport",
    "SlideWriter",
    "SourceResult",
    "convert",
    "export",
    "plan",
    "rebin",
]
