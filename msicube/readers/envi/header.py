"""The header of an ENVI image: ``name = value`` lines, a value in braces over as many lines as it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, UnknownFormat
from msicube.readers.base import PixelSize
from msicube.readers.infrared import head
from msicube.readers.strided import Layout, native_dtype

#: A header longer than this is none: 100,000 channels take less.
MAX_HEADER_BYTES = 2**24
#: How the header numbers the types of values.
TYPES = {
    "1": "u1",
    "2": "i2",
    "3": "i4",
    "4": "f4",
    "5": "f8",
    "6": "c8",
    "9": "c16",
    "12": "u2",
    "13": "u4",
    "14": "i8",
    "15": "u8",
}
#: The axes of the file, the slowest first.
INTERLEAVES = {"bsq": "cyx", "bil": "ycx", "bip": "yxc"}
#: Micrometres in a unit of length.
LENGTHS = {
    "m": 1e6,
    "meters": 1e6,
    "mm": 1e3,
    "millimeters": 1e3,
    "um": 1.0,
    "micrometers": 1.0,
    "microns": 1.0,
}
#: What would change the values or leave some out, and is not done here.
NOT_APPLIED = ("bbl", "data gain values", "data offset values", "reflectance scale factor")


@dataclass(frozen=True)
class EnviHeader:
    """A header, read but not yet believed.

    Attributes
    ----------
    name
        Of its file, for messages.
    values
        By name in lower case, braces taken off.
    """

    name: str
    values: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> EnviHeader:
        """Read a header.

        Raises
        ------
        UnknownFormat
            It does not begin with ``ENVI``.
        CorruptSource
            A brace is never closed, or a name stands twice with different values.
        """
        data = head(path, MAX_HEADER_BYTES + 1)
        if not is_envi(data) or len(data) > MAX_HEADER_BYTES:
            raise UnknownFormat(
                f"{path.name} begins with {data[:8]!r}: the header of an ENVI image begins with ENVI"
            )
        return cls(path.name, _parse(data.decode("latin-1"), path.name))

    def number(self, key: str, default: int | None = None) -> int:
        """Return a whole number that is not negative.

        Raises
        ------
        CorruptSource
            There is none, and no default, or it is something else.
        """
        text = self.values.get(key)
        if text is None and default is not None:
            return default
        if text is None or not re.fullmatch(r"\d{1,15}", text):
            raise CorruptSource(f"{self.name}: {key} is {text!r}, expected a whole number: repair the header")
        return int(text)

    def items(self, key: str) -> list[str]:
        """Return the items of a list; none where it is not there."""
        text = self.values.get(key, "")
        return [item.strip() for item in text.split(",")] if text.strip() else []

    def numbers(self, key: str) -> NDArray[np.float64] | None:
        """Return a list of numbers; None where it is not there.

        Raises
        ------
        CorruptSource
            An item is no number.
        """
        items = self.items(key)
        if not items:
            return None
        try:
            return np.array([float(item) for item in items if item], np.float64)
        except ValueError as error:
            raise CorruptSource(
                f"{self.name}: {key} is no list of numbers ({error}): repair the header"
            ) from error

    def layout(self) -> Layout:
        """Return where the values lie in the data file.

        Raises
        ------
        CorruptSource
            An extent is missing or zero, or the type, the order of axes or of bytes is none that there is.
        UnknownFormat
            Complex values, a compressed file, or another kind of file than an image.
        """
        if self.values.get("file compression", "0") != "0":
            raise UnknownFormat(f"{self.name}: the data file is compressed: save it without compression")
        kind = self.values.get("file type", "ENVI Standard")
        if "standard" not in kind.lower():
            raise UnknownFormat(
                f"{self.name}: the file is of type {kind!r}, expected an image (ENVI Standard)"
            )
        size = {"x": self.number("samples"), "y": self.number("lines"), "c": self.number("bands")}
        if 0 in size.values():
            raise CorruptSource(
                f"{self.name}: {size['x']} samples x {size['y']} lines x {size['c']} bands: empty image"
            )
        order = self._choice("interleave", INTERLEAVES)
        endian = self._choice("byte order", {"0": "<", "1": ">"}, default="0")
        dtype = np.dtype(endian + self._choice("data type", TYPES))
        native_dtype(dtype, self.name)
        shape = tuple(size[axis] for axis in order)
        return Layout.of_array(dtype, shape, order=order, offset=self.number("header offset", 0))

    def pixel_size(self) -> PixelSize | None:
        """Return the pixel size where the header gives it with a unit."""
        for key, first in (("pixel size", 0), ("map info", 5)):
            items = self.items(key)
            unit = next(
                (i.partition("=")[2].strip().lower() for i in items if i.lower().startswith("units")), ""
            )
            scale = LENGTHS.get(unit)
            try:
                x, y = (float(item) for item in items[first : first + 2])
            except ValueError:
                continue
            if scale and np.isfinite([x, y]).all() and min(x, y) > 0:
                return PixelSize(y * scale, x * scale, f"{key} in the header, in {unit}")
        return None

    def ignored(self) -> float | None:
        """Return the value that stands for no measurement; None where there is none."""
        try:
            return float(self.values["data ignore value"])
        except (KeyError, ValueError):
            return None

    def remarks(self) -> list[str]:
        """Return what is odd and how it is taken."""
        found = []
        if "byte order" not in self.values:
            found.append("the header has no byte order: read as little-endian (byte order = 0)")
        if self.items("pixel size") and self.pixel_size() is None:
            found.append(f"pixel size {{{self.values['pixel size']}}} has no unit of length: left out")
        return found + [
            f"the header has {key}: not applied, the values are those of the file"
            for key in NOT_APPLIED
            if key in self.values
        ]

    def _choice(self, key: str, choices: dict[str, str], default: str | None = None) -> str:
        text = self.values.get(key, default)
        if text is None or text.lower() not in choices:
            raise CorruptSource(
                f"{self.name}: {key} is {text!r}, expected one of {', '.join(choices)}: repair the header"
            )
        return choices[text.lower()]


def is_envi(start: bytes) -> bool:
    """Return whether a file that begins so is an ENVI header."""
    return re.match(rb"(\xef\xbb\xbf)?\s*ENVI\s", start[:64]) is not None


def _parse(text: str, name: str) -> dict[str, str]:
    """Return the values by name; spaces in names do not count beyond one, capitals not at all."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines()[1:])
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(";"):
            continue
        key, value = " ".join(key.lower().split()), value.strip()
        if value.startswith("{"):
            value = _in_braces(value, lines, key, name)
        if found.setdefault(key, value) != value:
            raise CorruptSource(f"{name}: {key} is {found[key]!r} and {value!r}: repair the header")
    return found


def _in_braces(value: str, lines: Any, key: str, name: str) -> str:
    parts = [value]
    while "}" not in parts[-1]:
        line = next(lines, None)
        if line is None:
            raise CorruptSource(
                f"{name}: the brace after {key} is never closed: the header is truncated, copy it again"
            )
        parts.append(line)
    return " ".join(parts).strip().lstrip("{").partition("}")[0].strip()
