"""Simulated studies with a known truth, written as the real files that instruments write."""

from __future__ import annotations

from msicube.simulate.study import SimulationReport, SlideReport, simulate_msi

__all__ = ["SimulationReport", "SlideReport", "simulate_msi"]
