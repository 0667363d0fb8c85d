"""Sizes in bytes as people write them: ``"256 MiB"``, ``"2GB"``, ``1048576``."""

from __future__ import annotations

import re

from msicube.errors import UsageError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[f"{_letter}b"] = 1000**_power
    _UNITS[f"{_letter}ib"] = _UNITS[_letter] = 1024**_power
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_PATTERN = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*")


def parse_bytes(size: str | int) -> int:
    """Return a size in bytes.

    Parameters
    ----------
    size
        A number of bytes, or a text such as ``"64 MiB"`` (binary), ``"2 GB"`` (decimal) or ``"512M"`` (binary).

    Raises
    ------
    UsageError
        The text is no size, or the size is not positive.
    """
    if isinstance(size, int):
        value = size
    else:
        match = _PATTERN.fullmatch(size)
        if match is None or match[2].lower() not in _UNITS:
            raise UsageError(
                f'"{size}" is not a size: write a number and a unit, such as "256 MiB" or "2 GB"'
            )
        value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value <= 0:
        raise UsageError(f'a size must be positive, not "{size}"')
    return value


def format_bytes(size: float) -> str:
    """Return a size in the largest binary unit that keeps it at 1 or more, such as ``"256 MiB"``."""
    power = 0
    while abs(size) >= 1024 and power < len(_BINARY) - 1:
        size, power = size / 1024, power + 1
    digits = 0 if size >= 100 or size == int(size) else 1
    return f"{size:.{digits}f} {_BINARY[power]}"
