"""Layer 3: the one write path from source files into a study."""

from __future__ import annotations

from msicube.conversion.exporting import ExportReport, export
from msicube.conversion.rebinning import rebin
from msicube.conversion.report import ConversionReport, SlideReport
from msicube.conversion.run import convert

__all__ = ["ConversionReport", "ExportReport", "SlideReport", "convert", "export", "rebin"]
