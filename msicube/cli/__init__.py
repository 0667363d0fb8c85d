"""Layer 7: the command line. Progress bars, tables and exit codes live here and nowhere else."""

from __future__ import annotations

from msicube.cli.main import main

__all__ = ["main"]
