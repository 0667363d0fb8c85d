"""What ``convert`` and ``rebin`` print at their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msicube.bytesize import format_bytes
from msicube.cli.common import print_json, print_table, say

if TYPE_CHECKING:
    from msicube.conversion import ConversionReport


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
