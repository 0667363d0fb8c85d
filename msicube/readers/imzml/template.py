"""The shape of a spectrum's XML, learned from one spectrum, and matched against the text of others.

A template is the literal text of one ``spectrum`` element in which some attribute values are holes. What a hole means
is not guessed: the same text with a different marker number in every hole goes through the XML path, and the row that
comes out tells which field takes its number from which hole. The fields that take none are constant, because a row
depends on nothing but numbers in values, names, accessions, references and the shape of the tree (``RowReader``), and
all of these are literal. Elements and attributes with a namespace prefix are left to the XML path. Holes take digits,
or, where no field looks at them, plain characters that cannot change the shape. So text that matches is well-formed and
its row is the one that the XML path would give.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.rows import SpectrumRow

#: Markers have 18 digits, as many as a hole takes: no number of a row is that large.
_MARKER = 10**17
#: Printable ASCII without quotes, ampersand and angle brackets.
PLAIN = rb"[ !#-%(-;=?-~]"
_HOLE = re.compile(
    rb"""(\s(?:value|id|index|defaultArrayLength|encodedLength)\s*=\s*)(["'])(""" + PLAIN + rb"""*)\2"""
)
_DIGITS = re.compile(rb"[0-9]{1,17}")
_QUOTED = re.compile(rb""" "[^"]*"|'[^']*' """.strip())
#: Text that may hold anything: comments, CDATA, processing instructions, entities.
_SPECIAL = (b"<!", b"<?", b"&")


@dataclass(frozen=True, eq=False)
class Template:
    """The text of one spectrum with holes.

    Attributes
    ----------
    match
        Matches white space and one whole ``spectrum`` element; its groups are the numbers.
    constant
        ``(field,)`` row of the fields that do not change.
    numbers
        The hole of each group.
    fields, groups
        The fields that do change, and the group that each takes its number from.
    literals
        What stands before, between and after the holes.
    """

    match: Callable[[bytes, int], re.Match[bytes] | None]
    constant: NDArray[np.int64]
    numbers: tuple[int, ...]
    fields: NDArray[np.intp]
    groups: NDArray[np.intp]
    literals: tuple[bytes, ...]

    @classmethod
    def learn(
        cls, text: bytes, row: SpectrumRow, parse: Callable[[bytes], SpectrumRow | None]
    ) -> Template | None:
        """Return the template of a spectrum; None where it cannot be proven.

        Parameters
        ----------
        text
            From ``<spectrum`` to ``</spectrum>``.
        row
            What the XML path made of it.
        parse
            The XML path for one spectrum on its own; None for one that has a fault.
        """
        if (
            any(special in text for special in _SPECIAL)
            or b":" in _QUOTED.sub(b"", text)
            or parse(text) != row
        ):
            return None
        holes = list(_HOLE.finditer(text))
        marked = parse(_HOLE.sub(_Markers(), text))
        if marked is None:
            return None
        taken: dict[int, int] = {}
        for field, (number, mark) in enumerate(zip(row, marked, strict=True)):
            if 0 <= mark - _MARKER < len(holes):
                said = holes[mark - _MARKER][3]
                if not _DIGITS.fullmatch(said) or int(said) != number:
                    return None
                taken[field] = mark - _MARKER
            elif mark != number:
                return None
        numbers = tuple(sorted(set(taken.values())))
        literals = _literals(text, holes)
        return cls(
            re.compile(_pattern(literals, numbers)).match,
            np.array(row, np.int64),
            numbers,
            np.array(list(taken), np.intp),
            np.array([numbers.index(hole) for hole in taken.values()], np.intp),
            literals,
        )

    def values(self, groups: list[tuple[bytes, ...]]) -> NDArray[np.int64]:
        """Return the ``(spectrum, group)`` numbers of what matched."""
        values = np.fromstring(b" ".join(chain.from_iterable(groups)), np.int64, sep=" ")
        return values.reshape(len(groups), -1)

    def columns(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ``(field, spectrum)`` columns of ``(spectrum, group)`` numbers."""
        out = np.repeat(self.constant[:, None], len(values), axis=1)
        out[self.fields] = values.T[self.groups]
        return out

    @property
    def shortest(self) -> int:
        """Bytes of text that matches: no less than those of the literals."""
        return sum(map(len, self.literals))

    @property
    def closing(self) -> bytes:
        """How text that matches ends."""
        last = self.literals[-1]
        return last[last.rindex(b"<") :]

    def spans(self, text: bytes) -> list[tuple[int, int]]:
        """Return where every hole starts and stops in a text that matches."""
        found, stop = [], text.index(b"<")
        for before, after in pairwise(self.literals):
            start = stop + len(before)
            stop = text.index(after[:1], start)  # a quote, which no hole can hold
            found.append((start, stop))
        return found


class _Markers:
    """Puts marker after marker into the holes."""

    def __init__(self) -> None:
        self._next = _MARKER

    def __call__(self, hole: re.Match[bytes]) -> bytes:
        self._next += 1
        return hole[1] + hole[2] + str(self._next - 1).encode() + hole[2]


def _literals(text: bytes, holes: list[re.Match[bytes]]) -> tuple[bytes, ...]:
    """Return what stands before, between and after the holes of a text."""
    starts = [0, *(hole.end(3) for hole in holes)]
    stops = [*(hole.start(3) for hole in holes), len(text)]
    return tuple(text[start:stop] for start, stop in zip(starts, stops, strict=True))


def _pattern(literals: tuple[bytes, ...], numbers: tuple[int, ...]) -> bytes:
    """Return the regular expression of a text with holes; those that a field looks at are groups."""
    parts = [rb"[ \t\r\n]*", re.escape(literals[0])]
    for hole, literal in enumerate(literals[1:]):
        parts.append(rb"([0-9]{1,17})" if hole in numbers else PLAIN + rb"*")
        parts.append(re.escape(literal))
    return b"".join(parts)
