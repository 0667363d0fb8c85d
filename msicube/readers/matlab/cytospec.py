"""What CytoSpec writes into a .mat: the cube ``C`` (x, y, channel, block) and the structure ``Info``.

The fourth axis is CytoSpec's four data blocks, in their order: original data, preprocessed data, derivatives,
deconvoluted data. ``Info.File`` is a table of characters in which each value is followed by a line with its key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msicube.errors import CorruptSource

CUBE, INFO = "C", "Info"
BLOCKS = ("original", "preprocessed", "derivative", "deconvoluted")


@dataclass(frozen=True)
class FileInfo:
    """The lines of ``Info.File``.

    Attributes
    ----------
    name
        Of the file, for messages.
    values
        By key, such as ``LWN`` and ``VWN``: first and last wavenumber.
    """

    name: str
    values: dict[str, str]

    @classmethod
    def of_lines(cls, lines: Iterable[str], name: str) -> FileInfo:
        """Read the table: values and keys take turns."""
        texts = [line.strip("\0 ") for line in lines]
        return cls(name, dict(zip(texts[1::2], texts[0::2], strict=False)))

    def axis(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the wavenumbers, evenly spaced from ``LWN`` to ``VWN``.

        Parameters
        ----------
        shape
            Of ``C``; the counts that the table gives must agree with it.

        Raises
        ------
        CorruptSource
            They do not, or the table has no limits.
        """
        for key, extent in zip(("XDI", "YDI", "NOD"), shape, strict=False):
            declared = self.values.get(key, "")
            if declared and declared != str(extent):
                raise CorruptSource(
                    f"{self.name}: Info gives {key} = {declared}, the cube {CUBE} has {extent} there: the file "
                    f"contradicts itself, export it again"
                )
        try:
            first, last = float(self.values["LWN"]), float(self.values["VWN"])
        except (KeyError, ValueError) as error:
            raise CorruptSource(
                f"{self.name}: Info gives no wavenumbers LWN and VWN ({error}): export the file again from CytoSpec"
            ) from error
        with np.errstate(over="ignore", invalid="ignore"):
            return np.linspace(first, last, shape[2])


def block_name(number: int) -> str:
    """Return what a block holds, by its number from 0."""
    return BLOCKS[number] if number < len(BLOCKS) else f"block {number + 1}"
