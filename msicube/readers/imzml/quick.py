"""The fast path over the list of spectra: text that a proven template matches does not go through the XML parser.

The parser is fed everything else, byte for byte and in order, so the header, the end of the file and every spectrum
that departs from the templates are read as without this module. A property test compares both on generated files.
"""

from __future__ import annotations

import re
from os import SEEK_CUR
from typing import IO, TYPE_CHECKING

from msicube.readers.imzml.matcher import Matcher
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
        self._matcher = Matcher()
        self._misses = 0
        #: The parser stands right behind a spectrum, outside of comments and the like.
        self._between = False

    def run(self, file: IO[bytes]) -> None:
        """Read the file to its end."""
        left = 0
        while len(text := file.read(left + BLOCK)) > left:
            left = len(text) - self._consume(text)
            file.seek(-left, SEEK_CUR)  # read again: cheaper than to copy all of the next block behind it
        self._reader.feed(text)

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
        blocks, position = self._matcher.match(text, position)
        for block in blocks:
            self._reader.table.add_block(block)
            self._misses = 0
        return position

    def _parse(self, piece: bytes) -> None:
        """Give text that ends with a spectrum to the parser, and learn the shape of that."""
        ended = self._reader.feed(piece)
        self._misses += 1
        plain = b"<!" not in piece and b"<?" not in piece
        self._between = ended == 1 and self._reader.depth == 0 and plain and self._readable()
        starts = [found.start() for found in _START.finditer(piece)]
        if self._between and starts:
            self._learn(piece[starts[-1] :])

    def _learn(self, text: bytes) -> None:
        """Keep the template of the spectrum that was read last, unless its shape is known."""
        if len(self._matcher.templates) < MAX_TEMPLATES and not self._matcher.find(text, 0):
            row = self._reader.table.last_sound_row()
            template = row and Template.learn(text, row, self._row_of)
            if template:
                self._matcher.templates.append(template)

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
