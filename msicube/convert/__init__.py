"""Layer 3: the one write path from source files into a study."""

from __future__ import annotations

from msicube.convert.report import ConversionReport, SlideReport
from msicube.convert.run import convert

__all__ = ["ConversionReport", "SlideReport", "convert"]
