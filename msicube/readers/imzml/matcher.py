"""Takes spectra off a text: many at once where their layouts are known, one by one where a template matches."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.layouts import FEW, Layouts, Part
from msicube.readers.imzml.rows import SpectrumRow
from msicube.readers.imzml.template import Template

#: Spectra that are tried together at first, and at most.
START = 256
MOST = 2**13
#: Times that the spectra between two tries are doubled, where tries are of no use.
MAX_STRIKES = 5


class Matcher:
    """The templates of a file, and what spectra they match.

    Attributes
    ----------
    templates
        The one that matched last comes first.
    """

    def __init__(self) -> None:
        self.templates: list[Template] = []
        self._layouts = Layouts()
        self._pace = Pace()

    def match(self, text: bytes, position: int) -> tuple[list[NDArray[np.int64]], int]:
        """Return ``(field, spectrum)`` blocks of the spectra that match, one after another, and how far that went."""
        blocks: list[NDArray[np.int64]] = []
        matching = bool(self.templates)
        while matching:
            edges = [position] if self._pace.singly else self._edges(text, position)
            if len(edges) > FEW:
                block, position = self._together(text, edges)
            else:
                wanted = self._pace.singly or FEW
                block, position = self._singly(text, position, wanted)
                matching = block.shape[1] == wanted
            if block.shape[1]:
                blocks.append(block)
        return blocks, position

    def find(self, text: bytes, position: int) -> tuple[Template, re.Match[bytes]] | None:
        """Return the template that matches at a position, and its match."""
        for number, template in enumerate(self.templates):
            if found := template.match(text, position):
                if number:
                    self.templates.insert(0, self.templates.pop(number))
                return template, found
        return None

    def _edges(self, text: bytes, position: int) -> list[int]:
        """Return where spectra seem to start, and where the last of them seems to end."""
        find, closing = text.find, self.templates[0].closing
        length = len(closing)
        step = min(template.shortest for template in self.templates) - length
        edges = [position]
        for _ in range(self._pace.together):
            position = find(closing, position + step) + length
            if position < length:
                break
            edges.append(position)
        return edges

    def _together(self, text: bytes, edges: list[int]) -> tuple[NDArray[np.int64], int]:
        """Take spectra as far as they are what the edges say; return their columns, and how far that went."""
        parts = self._layouts.read(text, np.fromiter(edges, np.intp, len(edges)), self.find)
        left = np.ones(len(edges) - 1, np.bool_)
        for part in parts:
            left[part.places] = False
        singles, matched = _Singles(), len(left)
        for place in np.flatnonzero(left).tolist():
            found = self.find(text, edges[place])
            if found is None or found[1].end() != edges[place + 1]:
                matched = place
                break
            singles.add(place, *found)
        self._pace.tried(len(left), matched, matched - int(np.count_nonzero(left[:matched])))
        return _block(parts + singles.parts(), len(left))[:, :matched], edges[matched]

    def _singly(self, text: bytes, position: int, wanted: int) -> tuple[NDArray[np.int64], int]:
        """Take a number of spectra one by one; return their columns, and how far that went."""
        singles, count = _Singles(), 0
        while count < wanted and (found := self.find(text, position)):
            singles.add(count, *found)
            position = found[1].end()
            count += 1
        self._pace.singly = max(0, self._pace.singly - count)
        return _block(singles.parts(), count), position


class Pace:
    """How many spectra are tried together, and how many go one by one before that.

    Attributes
    ----------
    together
        Grows while all of them match, so that little is read in vain where one does not.
    singly
        None while layouts read a fair share; more from time to time that they do not.
    """

    def __init__(self) -> None:
        self.together = START
        self.singly = 0
        self._strikes = 0

    def tried(self, spectra: int, matched: int, read: int) -> None:
        """Learn from a try: how many it was of, how many of these match, and how many of those layouts read."""
        if 4 * read < spectra:
            self.singly = 2 * self.together << self._strikes
            self._strikes = min(self._strikes + 1, MAX_STRIKES)
        else:
            self.singly = int(matched < spectra)
            self._strikes = 0
        self.together = min(2 * self.together, MOST) if matched == spectra else START


class _Singles:
    """What templates found one by one, and in which places of a block."""

    def __init__(self) -> None:
        self._found: defaultdict[Template, tuple[list[int], list[tuple[bytes, ...]]]]
        self._found = defaultdict(lambda: ([], []))

    def add(self, place: int, template: Template, found: re.Match[bytes]) -> None:
        places, groups = self._found[template]
        places.append(place)
        groups.append(found.groups())

    def parts(self) -> list[Part]:
        """Return them by template."""
        return [
            Part(template, np.array(places, np.intp), template.values(groups))
            for template, (places, groups) in self._found.items()
        ]


def _block(parts: list[Part], spectra: int) -> NDArray[np.int64]:
    """Return the ``(field, spectrum)`` columns of the spectra of all parts."""
    block = np.empty((len(SpectrumRow._fields), spectra), np.int64)
    for template in {part.template for part in parts}:
        own = [part for part in parts if part.template is template]
        places = np.concatenate([part.places for part in own])
        block[:, places] = template.columns(np.concatenate([part.values for part in own]))
    return block
