"""Accessions of the PSI-MS and imaging-MS controlled vocabularies that the reader looks at.

The accession decides; names are for people and are wrong in published files.
"""

from __future__ import annotations

CONTINUOUS = "IMS:1000030"
PROCESSED = "IMS:1000031"
CENTROID = "MS:1000127"
PROFILE = "MS:1000128"

UUID = "IMS:1000080"
#: Checksums of the .ibd, strongest first -> name in hashlib.
CHECKSUMS = {"IMS:1000092": "sha256", "IMS:1000091": "sha1", "IMS:1000090": "md5"}

POSITION_X = "IMS:1000050"
POSITION_Y = "IMS:1000051"
POSITION_Z = "IMS:1000052"
MAX_COUNT_X = "IMS:1000042"
MAX_COUNT_Y = "IMS:1000043"
PIXEL_SIZE_X = "IMS:1000046"
PIXEL_SIZE_Y = "IMS:1000047"

MZ_ARRAY = "MS:1000514"
INTENSITY_ARRAY = "MS:1000515"
EXTERNAL_OFFSET = "IMS:1000102"
EXTERNAL_LENGTH = "IMS:1000103"
EXTERNAL_ENCODED_LENGTH = "IMS:1000104"

NO_COMPRESSION = "MS:1000576"
COMPRESSIONS = {"MS:1000574": "zlib", "IMS:1005001": "xz", "IMS:1005002": "lz4", "IMS:1005003": "zstd"}

POLARITY = {"MS:1000129": "negative", "MS:1000130": "positive"}

MS_LEVEL = "MS:1000511"
MSN_SPECTRUM = "MS:1000580"
#: Positions of other kinds: coordinates in a stack, and of a subimage in the whole. The pixel is IMS:1000050 and 51.
FURTHER_POSITIONS = {
    "IMS:1000053": "3DPosition",
    "IMS:1000054": "3DPosition",
    "IMS:1000055": "subimage position",
    "IMS:1000056": "subimage position",
    "IMS:1000057": "subimage position",
}

#: Accession -> little-endian NumPy type. The IMS terms are obsolete and still met.
DATA_TYPES = {
    "MS:1000519": "<i4",
    "MS:1000520": "<f2",
    "MS:1000521": "<f4",
    "MS:1000522": "<i8",
    "MS:1000523": "<f8",
    "IMS:1000141": "<i4",
    "IMS:1000142": "<i8",
}

#: Units of length -> micrometre; by name where a file gives no accession.
LENGTH_UNITS = {
    "UO:0000017": 1.0,
    "UO:0000016": 1e3,
    "UO:0000018": 1e-3,
    "UO:0000008": 1e6,
    "UO:0000015": 1e4,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "um": 1.0,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "mm": 1e3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "nm": 1e-3,
}

#: Terms whose name, where it is that of another of them, contradicts the accession.
NAMES = {
    CONTINUOUS: "continuous",
    PROCESSED: "processed",
    CENTROID: "centroid spectrum",
    PROFILE: "profile spectrum",
    "MS:1000129": "negative scan",
    "MS:1000130": "positive scan",
    "MS:1000519": "32-bit integer",
    "MS:1000521": "32-bit float",
    "MS:1000522": "64-bit integer",
    "MS:1000523": "64-bit float",
    "IMS:1000141": "32-bit integer",
    "IMS:1000142": "64-bit integer",
    MZ_ARRAY: "m/z array",
    INTENSITY_ARRAY: "intensity array",
    NO_COMPRESSION: "no compression",
    "MS:1000574": "zlib compression",
}
