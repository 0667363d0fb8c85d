"""The XML of an imzML file as text: the header that all spectra share and the element of one spectrum.

Elements, their order and their attributes follow the schema of mzML 1.1.0, terms the vocabularies named in the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID
from xml.sax.saxutils import quoteattr

from msicube import __version__


class CVParam(NamedTuple):
    """One term of a controlled vocabulary, as mzML writes it.

    ``unit`` is the accession and the name of the unit of ``value``.
    """

    accession: str
    name: str
    value: str = ""
    unit: tuple[str, str] | None = None

    def xml(self) -> str:
        """Return the ``cvParam`` element."""
        attributes = {
            "cvRef": _vocabulary(self.accession),
            "accession": self.accession,
            "name": self.name,
        }
        if self.value:
            attributes["value"] = self.value
        if self.unit:
            accession, name = self.unit
            attributes |= {
                "unitCvRef": _vocabulary(accession),
                "unitAccession": accession,
                "unitName": name,
            }
        return "<cvParam " + " ".join(f"{key}={quoteattr(text)}" for key, text in attributes.items()) + "/>"


UNKNOWN_MODEL = CVParam("MS:1000031", "instrument model")


@dataclass(frozen=True)
class Instrument:
    """What a file says of the mass spectrometer; the three components are written when all are known."""

    model: CVParam = UNKNOWN_MODEL
    source: CVParam | None = None
    analyzer: CVParam | None = None
    detector: CVParam | None = None

    def xml(self) -> Iterator[str]:
        """Yield the lines inside ``instrumentConfiguration``."""
        yield self.model.xml()
        if self.source and self.analyzer and self.detector:
            yield '<componentList count="3">'
            yield f'<source order="1">{self.source.xml()}</source>'
            yield f'<analyzer order="2">{self.analyzer.xml()}</analyzer>'
            yield f'<detector order="3">{self.detector.xml()}</detector>'
            yield "</componentList>"


#: By the name of the NumPy type.
ARRAY_TYPES = {
    "float32": CVParam("MS:1000521", "32-bit float"),
    "float64": CVParam("MS:1000523", "64-bit float"),
    "int32": CVParam("MS:1000519", "32-bit integer"),
    "int64": CVParam("MS:1000522", "64-bit integer"),
}
MODES = {
    "continuous": CVParam("IMS:1000030", "continuous"),
    "processed": CVParam("IMS:1000031", "processed"),
}
REPRESENTATIONS = {
    "profile": CVParam("MS:1000128", "profile spectrum"),
    "centroid": CVParam("MS:1000127", "centroid spectrum"),
}
POLARITIES = {
    "positive": CVParam("MS:1000130", "positive scan"),
    "negative": CVParam("MS:1000129", "negative scan"),
}


@dataclass(frozen=True)
class Description:
    """What the header says of a file besides its spectra.

    Attributes
    ----------
    shape
        ``(y, x)`` of the pixel grid.
    mz_type, intensity_type
        Keys of ``ARRAY_TYPES``.
    pixel_size
        ``(y, x)`` in micrometres.
    """

    shape: tuple[int, int]
    mode: str
    representation: str | None
    mz_type: str
    intensity_type: str
    pixel_size: tuple[float, float] | None
    polarity: str | None
    instrument: Instrument
    uuid: UUID


#: Number from 1, index from 0, TIC, x and y from 1, then offset, length and bytes of the m/z and the intensity array.
SPECTRUM = """\
<spectrum id="spectrum=%d" index="%d" defaultArrayLength="0">
<referenceableParamGroupRef ref="spectrum1"/>
<cvParam cvRef="MS" accession="MS:1000285" name="total ion current" value="%r"/>
<scanList count="1"><cvParam cvRef="MS" accession="MS:1000795" name="no combination"/>
<scan instrumentConfigurationRef="IC1"><referenceableParamGroupRef ref="scan1"/>
<cvParam cvRef="IMS" accession="IMS:1000050" name="position x" value="%d"/>
<cvParam cvRef="IMS" accession="IMS:1000051" name="position y" value="%d"/>
</scan></scanList>
<binaryDataArrayList count="2">
<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="mzArray"/>
<cvParam cvRef="IMS" accession="IMS:1000102" name="external offset" value="%d"/>
<cvParam cvRef="IMS" accession="IMS:1000103" name="external array length" value="%d"/>
<cvParam cvRef="IMS" accession="IMS:1000104" name="external encoded length" value="%d"/>
<binary/></binaryDataArray>
<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="intensityArray"/>
<cvParam cvRef="IMS" accession="IMS:1000102" name="external offset" value="%d"/>
<cvParam cvRef="IMS" accession="IMS:1000103" name="external array length" value="%d"/>
<cvParam cvRef="IMS" accession="IMS:1000104" name="external encoded length" value="%d"/>
<binary/></binaryDataArray>
</binaryDataArrayList>
</spectrum>
"""
FOOTER = "</spectrumList>\n</run>\n</mzML>\n"

_MICROMETRE = ("UO:0000017", "micrometer")
_OPENING = """\
<?xml version="1.0" encoding="UTF-8"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://psi.hupo.org/ms/mzml http://psidev.info/files/ms/mzML/xsd/mzML1.1.0.xsd" version="1.1.0">
<cvList count="3">
<cv id="MS" fullName="Proteomics Standards Initiative Mass Spectrometry Ontology" version="4.1.0" \
URI="https://raw.githubusercontent.com/HUPO-PSI/psi-ms-CV/master/psi-ms.obo"/>
<cv id="UO" fullName="Units of Measurement Ontology" version="releases/2017-09-25" \
URI="http://purl.obolibrary.org/obo/uo.obo"/>
<cv id="IMS" fullName="Mass Spectrometry Imaging Ontology" version="1.1.0" \
URI="https://raw.githubusercontent.com/imzML/imzML/master/imagingMS.obo"/>
</cvList>"""


def header(description: Description, *, n_spectra: int, sha1: str) -> str:
    """Return the XML up to the first spectrum.

    Parameters
    ----------
    description
        What is known before the first spectrum.
    n_spectra, sha1
        What is known after the last: their number, and the SHA-1 of the ``.ibd`` in hexadecimal.
    """
    lines = [
        _OPENING,
        *_file_content(description, sha1),
        *_groups(description),
        f'<softwareList count="1"><software id="msicube" version="{__version__}">',
        CVParam("MS:1000799", "custom unreleased software tool", "msicube").xml(),
        "</software></softwareList>",
        *_scan_settings(description),
        '<instrumentConfigurationList count="1"><instrumentConfiguration id="IC1">',
        *description.instrument.xml(),
        "</instrumentConfiguration></instrumentConfigurationList>",
        '<dataProcessingList count="1"><dataProcessing id="export">',
        '<processingMethod order="1" softwareRef="msicube">',
        CVParam("MS:1000544", "Conversion to mzML").xml(),
        "</processingMethod></dataProcessing></dataProcessingList>",
        '<run id="run1" defaultInstrumentConfigurationRef="IC1">',
        f'<spectrumList count="{n_spectra}" defaultDataProcessingRef="export">',
    ]
    return "\n".join(lines) + "\n"


def _file_content(description: Description, sha1: str) -> Iterator[str]:
    yield "<fileDescription><fileContent>"
    yield CVParam("MS:1000579", "MS1 spectrum").xml()
    if description.representation:
        yield REPRESENTATIONS[description.representation].xml()
    yield MODES[description.mode].xml()
    uuid = f"{{{str(description.uuid).upper()}}}"
    yield CVParam("IMS:1000080", "universally unique identifier", uuid).xml()
    yield CVParam("IMS:1000091", "ibd SHA-1", sha1.upper()).xml()
    yield "</fileContent></fileDescription>"


def _groups(description: Description) -> Iterator[str]:
    """Yield the parameters that all spectra share."""
    spectrum = [
        CVParam("MS:1000579", "MS1 spectrum"),
        CVParam("MS:1000511", "ms level", "1"),
    ]
    if description.representation:
        spectrum.append(REPRESENTATIONS[description.representation])
    if description.polarity:
        spectrum.append(POLARITIES[description.polarity])
    mz = CVParam("MS:1000514", "m/z array", unit=("MS:1000040", "m/z"))
    intensity = CVParam("MS:1000515", "intensity array", unit=("MS:1000131", "number of detector counts"))
    groups = {
        "mzArray": _array_group(mz, description.mz_type),
        "intensityArray": _array_group(intensity, description.intensity_type),
        "scan1": [CVParam("MS:1000093", "increasing m/z scan")],
        "spectrum1": spectrum,
    }
    yield f'<referenceableParamGroupList count="{len(groups)}">'
    for name, params in groups.items():
        yield f'<referenceableParamGroup id="{name}">'
        yield from (param.xml() for param in params)
        yield "</referenceableParamGroup>"
    yield "</referenceableParamGroupList>"


def _array_group(kind: CVParam, array_type: str) -> Iterable[CVParam]:
    yield CVParam("MS:1000576", "no compression")
    yield kind
    yield ARRAY_TYPES[array_type]
    yield CVParam("IMS:1000101", "external data", "true")


def _scan_settings(description: Description) -> Iterator[str]:
    ny, nx = description.shape
    params = [
        CVParam("IMS:1000401", "top down"),
        CVParam("IMS:1000413", "flyback"),
        CVParam("IMS:1000480", "horizontal line scan"),
        CVParam("IMS:1000491", "linescan left right"),
        CVParam("IMS:1000042", "max count of pixels x", str(nx)),
        CVParam("IMS:1000043", "max count of pixels y", str(ny)),
    ]
    if description.pixel_size is not None:
        height, width = description.pixel_size
        params += [
            CVParam("IMS:1000044", "max dimension x", str(round(nx * width)), _MICROMETRE),
            CVParam("IMS:1000045", "max dimension y", str(round(ny * height)), _MICROMETRE),
            CVParam("IMS:1000046", "pixel size (x)", repr(width), _MICROMETRE),
            CVParam("IMS:1000047", "pixel size y", repr(height), _MICROMETRE),
        ]
    yield '<scanSettingsList count="1"><scanSettings id="scanSettings1">'
    yield from (param.xml() for param in params)
    yield "</scanSettings></scanSettingsList>"


def _vocabulary(accession: str) -> str:
    return accession.partition(":")[0]
