"""cvParams of an imzML element, with the parameter groups that it refers to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from msicube.errors import CorruptSource
from msicube.readers.imzml import vocabulary as cv

if TYPE_CHECKING:
    from lxml.etree import _Element

Groups = dict[str, "list[Param]"]

_PLAIN = re.compile(r"[+-]?[0-9]{1,19}")
_SCIENTIFIC = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,2})?")


class Param(NamedTuple):
    """One controlled-vocabulary term."""

    accession: str
    name: str
    value: str
    unit: str


class Params:
    """The terms of one element: its own, and those of the groups that it refers to.

    Attributes
    ----------
    own, inherited
        In the order in which they stand. An own term outweighs an inherited one.
    """

    __slots__ = ("inherited", "own")

    def __init__(self, own: list[Param], inherited: list[Param]) -> None:
        self.own = own
        self.inherited = inherited

    @classmethod
    def of(cls, element: _Element, groups: Groups) -> Params:
        """Collect the terms that are direct children of an element."""
        own: list[Param] = []
        inherited: list[Param] = []
        for child in element.iterchildren():
            tag = local_name(child)
            if tag == "cvParam":
                own.append(param(child))
            elif tag == "referenceableParamGroupRef":
                reference = child.get("ref", "")
                if reference not in groups:
                    raise CorruptSource(
                        f"referenceableParamGroup '{reference}' is referred to and not defined; "
                        f"defined are {', '.join(groups) or 'none'}"
                    )
                inherited.extend(groups[reference])
        return cls(own, inherited)

    def __iter__(self) -> Iterator[Param]:
        yield from self.own
        yield from self.inherited

    def get(self, accession: str) -> Param | None:
        """Return the first term of this accession, an own one before an inherited one."""
        return next((p for p in self if p.accession == accession), None)

    def value(self, accession: str) -> str | None:
        """Return the value of a term; None where it is absent or has none."""
        found = self.get(accession)
        return found.value.strip() or None if found else None

    def choose(self, accessions: Iterable[str]) -> set[str]:
        """Return which of these accessions apply: the own ones, else the inherited ones."""
        wanted = set(accessions)
        own = {p.accession for p in self.own} & wanted
        return own or {p.accession for p in self.inherited} & wanted


def local_name(element: _Element) -> str:
    """Return the tag without its namespace; published files leave it out or misspell it."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def param(element: _Element) -> Param:
    """Return a ``cvParam`` element as a tuple."""
    return Param(
        element.get("accession", ""),
        element.get("name", ""),
        element.get("value", ""),
        element.get("unitAccession") or element.get("unitName", "").strip().lower(),
    )


class Integer(NamedTuple):
    """A whole number and how far off it can be.

    Attributes
    ----------
    value
        The number.
    rounded
        It is written with fewer digits than it has, such as ``1.156e+09``: its last places are not known.
    """

    value: int
    rounded: bool


def integer(text: str | None, what: str, *, signed: bool = False) -> Integer:
    """Return a whole number, which may be written as ``1.156e+09``.

    Raises
    ------
    CorruptSource
        It is missing, no whole number, too large for 63 bits, or negative and not ``signed``.
    """
    if _PLAIN.fullmatch(text or ""):
        number, rounded = int(text or ""), False
    elif _SCIENTIFIC.fullmatch(text or ""):
        exact = Decimal(text or "")
        if abs(exact) >= 2**63 or exact != exact.to_integral_value():
            raise CorruptSource(f"{what} is {text!r}, expected a whole number")
        number, rounded = int(exact), int(exact.as_tuple().exponent) > 0
    else:
        raise CorruptSource(f"{what} is {text!r}, expected a whole number")
    if not -(2**62) < number < 2**62:
        raise CorruptSource(f"{what} is {text!r}, more than any file can hold")
    if number < 0 and not signed:
        raise CorruptSource(f"{what} is {number}, expected a number that is not negative")
    return Integer(number, rounded)


def data_type(params: Params, what: str) -> str:
    """Return the NumPy type of a binary array.

    Raises
    ------
    CorruptSource
        No data-type term, or two different ones.
    """
    types = {cv.DATA_TYPES[a] for a in params.choose(cv.DATA_TYPES)}
    if len(types) != 1:
        found = "none" if not types else " and ".join(sorted(types))
        raise CorruptSource(f"{what} must have one data-type term (MS:1000519 to MS:1000523), found {found}")
    return types.pop()


def compression(params: Params, what: str) -> str:
    """Return how a binary array is compressed, ``"none"`` where no term says so.

    Raises
    ------
    CorruptSource
        Two different compressions.
    """
    found = {cv.COMPRESSIONS.get(a, "none") for a in params.choose([*cv.COMPRESSIONS, cv.NO_COMPRESSION])}
    if len(found) > 1:
        raise CorruptSource(f"{what} must have one compression term, found {' and '.join(sorted(found))}")
    return found.pop() if found else "none"
