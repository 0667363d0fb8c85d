"""The fast path over the list of spectra: text that a proven template matches does not go through the XML parser.

The parser is fed everything else, byte for byte and in order, so the header, the end of the file and every spectrum
that departs from the templates are read as without this module. A property test compares both on generated files.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

import numpy as np

from msicube.readers.imzml.rows import Header, RowReader, SpectrumRow, TableBuilder
from msicube.readers.imzml.template import Template

if TYPE_CHECKING:
    from msicube.readers.imzml.scan import XMLReader

BLOCK = 2**20
#: Templates that are kept; spectra in a row that match none before the fast path gives up.
MAX_TEMPLATES = 32
MAX_MISSES = 64
#: Text without the end of a spectrum that is held back before it is handed to the parser.
MAX_PIECE = 16 * 2**20

_START = re.compile(rb"<spectrum(?=[ \t\r\n>])")
_END = re.compile(rb"</spectrum[ \t\r\n]*>")
#: Encodings in which every byte below 128 is the ASCII character, wherever it stands.
_ASCII_LIKE = re.compile(
    r"utf-?8|(us-)?ascii|iso-?8859-?\d{1,2}|latin-?1|windows-125\d|cp125\d", re.IGNORECASE
)


class QuickScan:
    """Feeds a file to a reader, around the spectra that a template matches."""

    def __init__(self, reader: XMLReader) -> None:
        self._reader = reader
        self._templates: list[Template] = []
        self._misses = 0
        #: The parser stands right behind a spectrum, outside of comments and the like.
        self._between = False

    def run(self, file: IO[bytes]) -> None:
        """Read the file to its end."""
        rest = b""
        while block := file.read(BLOCK):
            text = rest + block if rest else block
            rest = text[self._consume(text) :]
        self._reader.feed(rest)

    def _consume(self, text: bytes) -> int:
        """Read as many whole spectra as there are; return how far that went."""
        position = 0
        while self._misses <= MAX_MISSES:
            if self._between:
                position = self._match(text, position)
            end = _END.search(text, position)
            if end is None:
                if len(text) - position <= MAX_PIECE:
                    return position
                break
            self._parse(text[position : end.end()])
            position = end.end()
        self._between = False
        self._reader.feed(text[position:])
        return len(text)

    def _match(self, text: bytes, position: int) -> int:
        """Take the spectra that match a template, one after another; return how far that went."""
        which: list[int] = []
        groups: list[list[tuple[bytes, ...]]] = [[] for _ in self._templates]
        order = list(range(len(self._templates)))
        while True:
            for number in order:
                if found := self._templates[number].match(text, position):
                    break
            else:
                break
            which.append(number)
            groups[number].append(found.groups())
            position = found.end()
            if number != order[0]:
                order.remove(number)
                order.insert(0, number)
        if which:
            self._misses = 0
            self._add(np.array(which), groups)
        return position

    def _add(self, which: np.ndarray, groups: list[list[tuple[bytes, ...]]]) -> None:
        block = np.empty((len(SpectrumRow._fields), len(which)), np.int64)
        for number, template in enumerate(self._templates):
            if groups[number]:
                block[:, which == number] = template.rows(groups[number])
        self._reader.table.add_block(block)

    def _parse(self, piece: bytes) -> None:
        """Give text that ends with a spectrum to the parser, and learn its shape."""
        ended = self._reader.feed(piece)
        self._misses += 1
        plain = b"<!" not in piece and b"<?" not in piece
        self._between = ended == 1 and self._reader.depth == 0 and plain and self._readable()
        starts = [found.start() for found in _START.finditer(piece)]
        if self._between and starts and len(self._templates) < MAX_TEMPLATES:
            row = self._reader.table.last_sound_row()
            template = row and Template.learn(piece[starts[-1] :], row, self._row_of)
            if template:
                self._templates.append(template)

    def _readable(self) -> bool:
        return _ASCII_LIKE.fullmatch(self._reader.encoding) is not None

    def _row_of(self, text: bytes) -> SpectrumRow | None:
        """Read one spectrum on its own, with the groups of the file."""
        from lxml import etree

        opening = f'<?xml version="1.0" encoding="{self._reader.encoding}"?><list>'
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        table = TableBuilder()
        try:
            root = etree.fromstring(opening.encode() + text + b"</list>", parser)
        except (etree.XMLSyntaxError, ValueError):
            return None
        RowReader(self._reader.groups, Header()).read(root[0], table)
        return table.last_sound_row()
