"""The blocks of an OPUS file, by brukeropus.

brukeropus reads a file whole and follows whatever lengths it finds there, some of which never end in a damaged file. So
its parsers are given one block at a time, each of which has been walked through before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource, MissingDependency, UnknownFormat
from msicube.readers.wavenumbers import per_centimetre

MAGIC = b"\n\n\xfe\xfe"
HEADER_BYTES = 24
MAX_BLOCKS = 10_000
#: What is read of several results, the first that is there: absorbance before what it was made from.
QUANTITIES = ("a", "t", "r", "km", "logr", "atr", "pas", "ra", "e", "sm", "rf")
#: Units of the axis, as OPUS abbreviates them.
UNITS = {"WN": "cm-1", "MI": "um"}
#: Types of values by the parameter DPF.
TYPES = {1: "<f4", 2: "<i4"}


@dataclass(frozen=True)
class Spectrum:
    """One spectrum.

    Attributes
    ----------
    quantity
        As brukeropus calls it, such as ``"Absorbance"``.
    wavenumbers, values
        ``(channel,)`` in the order of the file.
    """

    quantity: str
    wavenumbers: NDArray[np.float64]
    values: NDArray[np.float32]


class OpusFile:
    """What a file holds: its directory, with parameters and single spectra parsed.

    Attributes
    ----------
    path
        The file.
    blocks
        ``brukeropus`` blocks.

    Raises
    ------
    MissingDependency
        brukeropus is not installed.
    UnknownFormat
        No OPUS file.
    CorruptSource
        It is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            from brukeropus.file.block import FileBlock
            from brukeropus.file.parse import parse_directory, parse_header
        except ImportError as error:
            raise MissingDependency(
                "OPUS files need brukeropus and opusFC: pip install 'msicube[ftir]'"
            ) from error
        self.path = path
        self.blocks: list[Any] = []
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                head = file.read(HEADER_BYTES)
                if head[:4] != MAGIC:
                    raise UnknownFormat(f"{path.name} begins with {head[:4]!r}, an OPUS file with {MAGIC!r}")
                _, start, most, _ = parse_header(head)
                file.seek(min(max(start, 0), size))
                for kind, length, at in parse_directory(
                    self._directory(file.read(12 * min(max(most, 0), MAX_BLOCKS)))
                ):
                    if at + length > size:
                        raise CorruptSource(
                            f"{path.name} has {size} bytes, a block of it ends at {at + length}: it is "
                            f"truncated, copy it again"
                        )
                    block = FileBlock(b"", kind, length, at)
                    file.seek(at)
                    self._fill(block, file.read(0 if block.is_data_series() else length))
                    self.blocks.append(block)
        except (UnknownFormat, CorruptSource):
            raise
        except Exception as error:  # brukeropus hands on whatever a damaged file leads it to
            raise self._damaged(error) from error

    @property
    def has_images(self) -> bool:
        """Whether there are series of spectra: an image, a map or a time series."""
        return any(block.is_data_series() for block in self.blocks)

    def spectrum(self) -> Spectrum:
        """Return the result of the measurement, the first of :data:`QUANTITIES` that there is.

        Raises
        ------
        UnknownFormat
            There is no spectrum, or its axis is not one of wavenumbers.
        CorruptSource
            Parameters and values do not agree.
        """
        from brukeropus.file.block import pair_data_and_status_blocks

        try:
            pairs = pair_data_and_status_blocks(self.blocks)
            found = {
                block.get_data_key().partition("_")[0]: (block, status) for block, status in reversed(pairs)
            }
        except Exception as error:  # as above
            raise self._damaged(error) from error
        quantity = next((name for name in QUANTITIES if name in found), None)
        if quantity is None:
            raise UnknownFormat(
                f"{self.path.name} holds no spectrum ({', '.join(found) or 'nothing'}): compute one in OPUS and save it"
            )
        block, status = found[quantity]
        try:
            return self._spectrum(block, status.data)
        except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
            raise self._damaged(error) from error

    def _spectrum(self, block: Any, status: dict[str, Any]) -> Spectrum:
        count, first, last = status["npt"], status["fxv"], status["lxv"]
        if not 0 < count <= len(block.data):
            raise ValueError(f"{count} points in a block of {len(block.data)}")
        unit = UNITS.get(status["dxu"])
        stored = block.data.view(TYPES[status["dpf"]])
        values = stored[-count:] if block.is_compact_data() else stored[:count]
        with np.errstate(over="ignore", invalid="ignore"):
            axis = np.linspace(first, last, count)
            scaled = (status["csf"] * values).astype(np.float32)
        converted = per_centimetre(axis, unit) if unit else None
        if converted is None:
            raise UnknownFormat(
                f"{self.path.name}: the axis is in {status['dxu']!r}, expected WN (cm-1) or MI (micrometre): save the "
                f"spectrum over wavenumbers"
            )
        return Spectrum(block.get_label(), converted, scaled)

    def _directory(self, content: bytes) -> bytes:
        return content[: len(content) // 12 * 12]

    def _fill(self, block: Any, content: bytes) -> None:
        """Give a block its parsed data where it is one that is needed here."""
        if block.is_data_series():
            block.data = {}
        elif block.is_data_status():
            from brukeropus.file.parse import parse_params

            check_parameters(content)
            block.data = parse_params(content)
        elif block.is_data():
            block.data = np.frombuffer(content[: len(content) // 4 * 4], "<f4")

    def _damaged(self, error: Exception) -> CorruptSource:
        return CorruptSource(f"{self.path.name} is damaged ({type(error).__name__}: {error}): copy it again")


def check_parameters(content: bytes) -> None:
    """Walk through a block of parameters, as brukeropus will: each has a name, a type and a length.

    Raises
    ------
    ValueError
        A length is negative or leaves the block, or there is no end.
    """
    at = 0
    while content[at : at + 3] != b"END":
        if at + 8 > len(content):
            raise ValueError("a block of parameters has no end")
        (words,) = struct.unpack_from("<h", content, at + 6)
        if words < 0:
            raise ValueError(f"a parameter has the length {words}")
        at += 8 + 2 * words
