"""Spectra whose texts have the same widths, read together: a template at fixed widths is a table of byte columns.

A layout says of every column which bytes may stand there: one in the literals, ``0`` to ``9`` in a hole that holds a
number, a range of plain characters in a hole at which no field looks. Text of this length with such bytes is matched by
the template, because no hole can hold a quote, so its row is the one that the template gives. The checks are two passes
over a matrix of bytes, and the numbers are sums of digits times powers of ten: at most 17 digits, which int64 holds.

Spectra that stand beside each other seldom have the same widths, because an ion current is written with as many digits
as it needs; but few different ones make up a block. So spectra are grouped by the length of their text, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.template import PLAIN, Template

#: Spectra of one layout that are worth the calls of NumPy that they take.
FEW = 16
#: Spectra that pay for learning a layout, and layouts that are learned before any has been of use.
PRICE = 16
ON_TRUST = 16
#: What is kept is bounded: lengths, layouts of each, and bytes of a spectrum that has one.
MAX_LENGTHS = 128
MAX_LAYOUTS = 8
MAX_BYTES = 2**14

#: Gives the template that matches at a position of a text, and its match.
Find = Callable[[bytes, int], "tuple[Template, re.Match[bytes]] | None"]

_POWERS = [10**power for power in reversed(range(17))]


def _plain_ranges() -> tuple[bytes, bytes]:
    """Return for each plain character the first of those in a row among which it is, and how many follow that one."""
    first, following = bytearray(256), bytearray(256)
    for found in re.finditer(PLAIN + rb"+", bytes(range(256))):
        first[slice(*found.span())] = found[0][:1] * len(found[0])
        following[slice(*found.span())] = bytes([len(found[0]) - 1]) * len(found[0])
    return bytes(first), bytes(following)


_FIRST, _FOLLOWING = _plain_ranges()


@dataclass(frozen=True, eq=False)
class Layout:
    """The text of spectra at fixed widths.

    Attributes
    ----------
    template
        What the text matches.
    lowest, extent
        ``(byte,)`` The first byte that may stand in a column, and how many more.
    digits
        The columns of the numbers that are groups of the template.
    powers
        What a digit in each of these columns counts.
    starts
        Where among these columns each number starts.
    """

    template: Template
    lowest: NDArray[np.uint8]
    extent: NDArray[np.uint8]
    digits: NDArray[np.intp]
    powers: NDArray[np.int64]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, template: Template, text: bytes) -> Layout:
        """Return the layout of a text that a template matches."""
        lowest, extent = bytearray(text), bytearray(len(text))
        digits: list[int] = []
        powers: list[int] = []
        starts: list[int] = []
        for hole, (start, stop) in enumerate(template.spans(text)):
            if hole in template.numbers:
                lowest[start:stop] = b"0" * (stop - start)
                extent[start:stop] = b"\x09" * (stop - start)
                starts.append(len(digits))
                digits += range(start, stop)
                powers += _POWERS[start - stop :]
            else:
                lowest[start:stop] = text[start:stop].translate(_FIRST)
                extent[start:stop] = text[start:stop].translate(_FOLLOWING)
        return cls(
            template,
            np.frombuffer(lowest, np.uint8),
            np.frombuffer(extent, np.uint8),
            np.array(digits, np.intp),
            np.array(powers, np.int64),
            np.array(starts, np.intp),
        )

    def read(self, texts: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which ``(spectrum, byte)`` texts have this layout, and the ``(spectrum, group)`` numbers of those."""
        above = texts - self.lowest  # what is below wraps around, to more than any extent
        fits = ~np.logical_or.reduce(above > self.extent, axis=1)
        digits = above[:, self.digits][fits]
        return fits, np.add.reduceat(digits * self.powers, self.starts, axis=1)


class Part(NamedTuple):
    """Spectra of a block that one template matches.

    Attributes
    ----------
    template
        Gives their rows.
    places
        ``(spectrum,)`` Which of the block they are.
    values
        ``(spectrum, group)`` The numbers in their text.
    """

    template: Template
    places: NDArray[np.intp]
    values: NDArray[np.int64]


class Layouts:
    """The layouts of a file, by the length of their text; those that took most spectra last come first."""

    def __init__(self) -> None:
        self._known: dict[int, list[Layout]] = {}
        #: Spectra that have been read, less those that layouts have cost.
        self._credit = PRICE * ON_TRUST

    def read(self, text: bytes, edges: NDArray[np.intp], find: Find) -> list[Part]:
        """Read spectra that follow one another, as far as their layouts are known or worth learning.

        Parameters
        ----------
        text
            Holds the spectra.
        edges
            ``(spectrum + 1,)`` Where each starts, with the white space before it, and where the last one ends.
        find
            Layouts are learned from what it finds.
        """
        lengths = np.diff(edges)
        parts = []
        for length in _frequent(lengths):
            places = np.flatnonzero(lengths == length)
            parts += self._read_alike(places, _texts(text, edges[places], length), find)
        return parts

    def _read_alike(self, places: NDArray[np.intp], texts: NDArray[np.uint8], find: Find) -> list[Part]:
        """Read ``(spectrum, byte)`` texts of one length with one layout after another, while enough are left."""
        length = texts.shape[1]
        known = self._known.pop(length, [])
        parts: list[Part] = []
        used: list[tuple[int, Layout]] = []
        while len(places) >= FEW:
            new = not known
            layout = self._learn(texts[len(texts) // 2].tobytes(), find) if new else known.pop(0)
            if layout is None:
                break
            fits, values = layout.read(texts)
            parts.append(Part(layout.template, places[fits], values))
            used.append((len(values), layout))
            if new and len(values) < FEW:
                break  # the widths vary too much
            places, texts = places[~fits], texts[~fits]
        used.sort(key=lambda each: each[0], reverse=True)
        self._keep(length, [layout for read, layout in used if read] + known)
        self._credit += sum(read for read, _ in used)
        return parts

    def _learn(self, text: bytes, find: Find) -> Layout | None:
        if self._credit < PRICE:
            return None
        found = find(text, 0)
        if found is None or found[1].end() < len(text):
            return None
        self._credit -= PRICE
        return Layout.of(found[0], text)

    def _keep(self, length: int, layouts: list[Layout]) -> None:
        if len(self._known) >= MAX_LENGTHS:
            self._known.clear()
        if layouts:
            self._known[length] = layouts[:MAX_LAYOUTS]


def _frequent(lengths: NDArray[np.intp]) -> list[int]:
    """Return the lengths that enough spectra share."""
    counts = np.bincount(np.minimum(lengths, MAX_BYTES + 1))
    frequent: list[int] = np.flatnonzero(counts[: MAX_BYTES + 1] >= FEW).tolist()
    return frequent


def _texts(text: bytes, starts: NDArray[np.intp], length: int) -> NDArray[np.uint8]:
    """Return ``(spectrum, byte)`` the text of one length from each start on."""
    everywhere = np.ndarray(len(text) - length + 1, f"V{length}", text, strides=(1,))
    return everywhere[starts].view(np.uint8).reshape(len(starts), length)
