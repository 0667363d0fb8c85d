"""What ``convert`` and ``rebin`` print: the report at their end, and the plan of a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msicube.bytesize import format_bytes
from msicube.cli.common import print_json, print_table, say

if TYPE_CHECKING:
    from msicube.conversion import ConversionPlan, ConversionReport


def show(report: ConversionReport, *, as_json: bool) -> int:
    """Print a report and return the exit code: 1 where a slide failed."""
    if as_json:
        print_json(report.to_dict())
    else:
        print_table(
            report.study,
            (
                "slide",
                "status",
                "spectra",
                "masked",
                "channels",
                "empty",
                "non-finite",
                "out of range",
                "TIC error",
                "stored",
                "s",
            ),
            [
                (
                    row.slide,
                    row.status,
                    row.spectra,
                    row.masked or "",
                    row.channels,
                    row.empty,
                    row.nonfinite,
                    f"{row.out_of_range} of {row.peaks}" if row.peaks else "",
                    f"{row.relative_tic_error:.1e}" if row.peaks else "",
                    format_bytes(row.stored_bytes) if row.stored_bytes else "",
                    f"{row.seconds:.1f}",
                )
                for row in report.slides
            ],
        )
    for row in report.slides:
        for remark in row.remarks:
            say(f"Note: {row.slide}: {remark}")
    for remark in report.remarks:
        say(f"Note: {remark}")
    for row in report.failed:
        say(f"Error: {row.slide}: {row.error}")
    return 1 if report.failed else 0


def show_plan(plan: ConversionPlan, *, as_json: bool) -> int:
    """Print a plan and return the exit code: 1 where a slide would fail."""
    if as_json:
        print_json(plan.to_dict())
    else:
        columns = (
            "slide",
            "status",
            "spectra",
            "y, x, channel",
            "axis",
            "dtype",
            "tiles",
            "intensity",
            "peaks",
            "memory",
        )
        print_table(
            plan.study,
            columns,
            [
                (
                    row.slide,
                    row.status,
                    row.spectra,
                    " x ".join(map(str, row.shape)),
                    row.axis,
                    row.dtype,
                    f"{row.tiles} of {' x '.join(map(str, row.tile))}" if row.tiles else "",
                    format_bytes(row.intensity_bytes) if row.intensity_bytes else "",
                    format_bytes(row.peaks_bytes) if row.peaks_bytes else "",
                    format_bytes(row.memory) if row.memory else "",
                )
                for row in plan.slides
            ],
        )
    for row in plan.slides:
        for remark in row.remarks:
            say(f"Note: {row.slide}: {remark}")
    for remark in plan.remarks:
        say(f"Note: {remark}")
    for row in plan.failed:
        say(f"Error: {row.slide}: {row.error}")
    say(
        f"Nothing was written. To write: {format_bytes(plan.n_bytes)} before compression, within "
        f"{format_bytes(plan.memory)} of memory"
    )
    return 1 if plan.failed else 0
