"""One streaming pass over the XML of an imzML file, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from msicube.errors import CorruptSource
from msicube.readers.imzml.params import Groups, Params, integer, local_name, param
from msicube.readers.imzml.quick import QuickScan
from msicube.readers.imzml.rows import SECTIONS, Header, RowReader, SpectrumTable, TableBuilder

if TYPE_CHECKING:
    from lxml.etree import _Element

BLOCK = 2**18
#: A header is a few of these; what is read beyond it is read for nothing.
HEADER_BLOCK = 2**13
_TAGS = ("cvList", "fileDescription", "referenceableParamGroup", "spectrumList", "spectrum", *SECTIONS)


def scan(path: Path, *, quick: bool = True) -> tuple[Header, SpectrumTable]:
    """Read an ``.imzML`` in one streaming pass.

    Parameters
    ----------
    path
        The XML file.
    quick
        Spectra that look like one that has been read are read as text; what comes out is the same.

    Returns
    -------
    Header, SpectrumTable

    Raises
    ------
    CorruptSource
        No well-formed XML, a document type definition, a group that is not defined, or no spectra. What is wrong with
        single spectra is in the table.
    """
    from lxml import etree

    reader = XMLReader()
    try:
        with path.open("rb") as file:
            if quick:
                QuickScan(reader).run(file)
            else:
                while block := file.read(BLOCK):
                    reader.feed(block)
        reader.close()
    except (etree.XMLSyntaxError, CorruptSource) as error:
        if quick:  # once more for the message, which tells the line
            return scan(path, quick=False)
        return _fail(path, error)

    if not len(reader.table):
        raise CorruptSource(f"{path.name} holds no spectrum: expected at least one")
    return reader.header, reader.table.finish()


def read_header(path: Path) -> Header:
    """Read an ``.imzML`` as far as its first spectrum: the terms of the file, nothing of its spectra.

    Raises
    ------
    CorruptSource
        What is read is no well-formed XML, or has a document type definition.
    """
    from lxml import etree

    reader = XMLReader()
    try:
        with path.open("rb") as file:
            while not reader.depth and not len(reader.table) and (block := file.read(HEADER_BLOCK)):
                reader.feed(block)
    except (etree.XMLSyntaxError, CorruptSource) as error:
        return _fail(path, error)
    return reader.header


def _fail(path: Path, error: Exception) -> NoReturn:
    if isinstance(error, CorruptSource):
        raise CorruptSource(f"{path.name}, header: {error}") from error
    raise CorruptSource(f"{path.name} is not well-formed XML: {error}") from error


class XMLReader:
    """Is fed the bytes of the file and keeps what is needed of the elements as they end.

    Attributes
    ----------
    header, groups, table
        What has been read so far.
    depth
        Number of ``spectrum`` elements that are open.
    encoding
        Of the file.
    """

    def __init__(self) -> None:
        from lxml import etree

        self.header = Header()
        self.groups: Groups = {}
        self.table = TableBuilder()
        self.rows = RowReader(self.groups, self.header)
        self.depth = 0
        self.encoding = ""
        self._dtd_checked = False
        # Entities stay unresolved, nothing is fetched, and the parser's own limits on depth and expansion hold.
        # Namespaces are optional in published files.
        self._parser = etree.XMLPullParser(
            events=("start", "end"),
            tag=[f"{{*}}{name}" for name in _TAGS],
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )

    def feed(self, data: bytes) -> int:
        """Parse more of the file; return how many spectra have ended in it."""
        self._parser.feed(data)
        before = len(self.table)
        for event, element in self._parser.read_events():
            assert element is not None
            assert not isinstance(element, tuple)
            if event == "start":
                self._start(element)
            elif local_name(element) == "spectrum":
                self.depth -= 1
                self.rows.read(element, self.table)
                _forget(element)
            else:
                self._section(element)
        return len(self.table) - before

    def close(self) -> None:
        """Say that the file has ended."""
        self._parser.close()

    def _start(self, element: _Element) -> None:
        if not self._dtd_checked:
            self._dtd_checked = True
            document = element.getroottree().docinfo
            self.encoding = document.encoding or "UTF-8"
            if document.internalDTD is not None:
                raise CorruptSource("the XML has a document type definition, which imzML does not allow")
        tag = local_name(element)
        if tag == "spectrum":
            self.depth += 1
        elif tag == "spectrumList":
            try:
                self.header.declared = integer(element.get("count"), "the number of spectra").value
            except CorruptSource:
                self.header.declared = -1

    def _section(self, element: _Element) -> None:
        tag = local_name(element)
        if tag == "referenceableParamGroup":
            group = [param(child) for child in element.iterchildren() if local_name(child) == "cvParam"]
            self.groups[element.get("id", "")] = group
            self.header.check_names(group)
        elif tag in SECTIONS:
            params = list(Params.of(element, self.groups))
            self.header.sections[tag].extend(params)
            self.header.check_names(params)
            if tag == "scanSettings":
                self.header.settings.append((element.get("id", ""), params))
            elif tag == "instrumentConfiguration":
                self.header.settings_ref = self.header.settings_ref or element.get("scanSettingsRef", "")


def _forget(element: _Element) -> None:
    """Free an element that has been read, and the ones before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]
