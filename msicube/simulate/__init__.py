"""Simulated studies with a known truth, written as the real files that instruments write."""

from __future__ import annotations

from msicube.simulate.ftir import ftir_masks, simulate_ftir
from msicube.simulate.output import SimulationReport, SlideReport
from msicube.simulate.study import simulate_msi

__all__ = ["SimulationReport", "SlideReport", "ftir_masks", "simulate_ftir", "simulate_msi"]
