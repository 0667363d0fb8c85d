"""How spectra are named in messages and reports."""

from __future__ import annotations

from collections.abc import Iterable

#: Numbers of spectra that a message lists before it only counts.
LISTED = 20


def name_spectra(numbers: Iterable[int]) -> str:
    """Return how many spectra these are, and their numbers."""
    found = list(numbers)
    listed = ", ".join(map(str, found[:LISTED]))
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"{len(found)} {'spectrum' if len(found) == 1 else 'spectra'} (number {listed}{more})"
