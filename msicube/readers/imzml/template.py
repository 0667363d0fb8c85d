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
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from msicube.readers.imzml.rows import SpectrumRow

#: Markers have 18 digits, as many as a hole takes: no number of a row is that large.
_MARKER = 10**17
#: Printable ASCII without quotes, ampersand and angle brackets.
_PLAIN = rb"[ !#-%(-;=?-~]"
_HOLE = re.compile(
    rb"""(\s(?:value|id|index|defaultArrayLength|encodedLength)\s*=\s*)(["'])(""" + _PLAIN + rb"""*)\2"""
)
_DIGITS = re.compile(rb"[0-9]{1,17}")
_QUOTED = re.compile(rb""" "[^"]*"|'[^']*' """.strip())
#: Text that may hold anything: comments, CDATA, processing instructions, entities.
_SPECIAL = (b"<!", b"<?", b"&")


@dataclass(frozen=True)
class Template:
    """The text of one spectrum with holes.

    Attributes
    ----------
    match
        Matches white space and one whole ``spectrum`` element; its groups are the numbers.
    constant
        ``(field,)`` row of the fields that do not change.
    fields
        The field that each group fills.
    """

    match: Callable[[bytes, int], re.Match[bytes] | None]
    constant: NDArray[np.int64]
    fields: tuple[tuple[int, ...], ...]

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
        fields: dict[int, list[int]] = {}
        for field, (number, mark) in enumerate(zip(row, marked, strict=True)):
            if 0 <= mark - _MARKER < len(holes):
                said = holes[mark - _MARKER][3]
                if not _DIGITS.fullmatch(said) or int(said) != number:
                    return None
                fields.setdefault(mark - _MARKER, []).append(field)
            elif mark != number:
                return None
        pattern = re.compile(_pattern(text, holes, set(fields)))
        return cls(
            pattern.match,
            np.array(row, np.int64),
            tuple(tuple(fields[hole]) for hole in sorted(fields)),
        )

    def rows(self, groups: list[tuple[bytes, ...]]) -> NDArray[np.int64]:
        """Return the ``(field, spectrum)`` columns of what matched."""
        out = np.repeat(self.constant[:, None], len(groups), axis=1)
        numbers = np.fromiter(
            map(int, chain.from_iterable(groups)), np.int64, len(groups) * len(self.fields)
        ).reshape(len(groups), -1)
        for group, fields in enumerate(self.fields):
            out[list(fields)] = numbers[:, group]
        return out


class _Markers:
    """Puts marker after marker into the holes."""

    def __init__(self) -> None:
        self._next = _MARKER

    def __call__(self, hole: re.Match[bytes]) -> bytes:
        self._next += 1
        return hole[1] + hole[2] + str(self._next - 1).encode() + hole[2]


def _pattern(text: bytes, holes: list[re.Match[bytes]], numbers: set[int]) -> bytes:
    """Return the regular expression of a text with holes; those that a field looks at are groups."""
    parts, done = [rb"[ \t\r\n]*"], 0
    for number, hole in enumerate(holes):
        parts.append(re.escape(text[done : hole.start(3)]))
        parts.append(rb"([0-9]{1,17})" if number in numbers else _PLAIN + rb"*")
        done = hole.end(3)
    return b"".join([*parts, re.escape(text[done:])])
